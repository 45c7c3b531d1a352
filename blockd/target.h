/* target.h - how LUNs are offered to clients: the rules that make a target row, and who may attach.
 *
 * Nobody may attach unless named: initiators by IQN for iSCSI, addresses for NBD over TCP; a LUN made "open" admits
 * everybody. A local unix socket is protected by its file's permissions and always admitted: tcmu-runner comes that
 * way. */
#ifndef MYFS_BLOCKD_TARGET_H
#define MYFS_BLOCKD_TARGET_H

#include "blockd/blockd.h"

#define CHAP_SECRET_MIN 12 /* RFC 3720 8.2.1: 96 bits; Windows takes 12 to 16 characters */
#define CHAP_SECRET_MAX 16
#define ACL_MAX         256u /* entries of one LUN */

enum who_kind { WHO_INITIATOR, WHO_ADDRESS };
/* "iqn.1993-08.org.debian:01:abc" (also eui., naa.) or "192.0.2.0/24", "2001:db8::/32", an address alone; into the form
 * that is kept: lower case, host bits zero. -EINVAL says what to write. Pure. */
int who_parse(const char *text, char ret[REG_WHO], enum who_kind *ret_kind, struct err *e);
/* Is the peer of a stream ("192.0.2.7:5123", "[2001:db8::1]:99") inside the range? Pure. */
bool who_covers(const char *range, const char *peer);

struct target_wish {
	uint32_t protos; /* 0 = iSCSI and NBD where this gateway has a portal, else NBD */
	bool open;
	uint32_t auth; /* enum reg_auth */
	char (*allow)[REG_WHO];
	size_t allow_n;
};
/* The target row and ACL of a new LUN, inside the transaction that makes the LUN's row. */
int target_make(struct blockd *d, const struct reg_lun *row, const struct target_wish *wish, struct err *e);
/* The row, or for a LUN without one what admits nobody. */
void target_load(struct blockd *d, const struct gfid *lun, struct reg_target *ret);
/* Changes of a row, each one transaction. iqn and secrets are made where the wish needs them and there are none. */
int target_set_protos(struct blockd *d, const struct reg_lun *row, uint32_t protos, bool enabled, struct err *e);
/* mutual: of the target towards the initiator. user or secret NULL: kept, or made. */
int target_set_secret(struct blockd *d, const struct reg_lun *row, bool mutual, const char *user, const char *secret,
		      struct err *e);
int target_set_auth(struct blockd *d, const struct reg_lun *row, uint32_t auth, struct err *e);
int target_set_open(struct blockd *d, const struct reg_lun *row, bool open, struct err *e);
/* A LUN came back from the trash under another name: its IQN follows, and is not one that is in use. */
int target_rename(struct blockd *d, const struct reg_lun *row, struct err *e);

/* Eight characters that tell this cluster from others in IQNs; made once. */
int cluster_id(struct blockd *d, char ret[9], struct err *e);

/* May this stream (NULL: the gateway itself) use the LUN over NBD? 0, or -EACCES with a text that says what to do. */
int target_admit_nbd(struct blockd *d, const struct reg_lun *row, const struct stream *peer, struct err *e);
/* The peer is tcmu-runner, which serves the iSCSI side of a LUN: not a client of its own. */
bool peer_is_runner(const char *peer);

#endif
