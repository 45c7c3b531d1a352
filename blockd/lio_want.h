/* lio_want.h - what the kernel should offer, as blockd writes it down for the myfs-lio program. Pure. */
#ifndef MYFS_LIO_WANT_H
#define MYFS_LIO_WANT_H

#include <jansson.h>

#include "core/base/err.h"
#include "core/registry/registry.h"

#define LIO_CONFIG      256 /* the kernel's limit for dev_config */
#define LIO_BACKSTORE   130
#define LIO_SERIAL      40
#define LIO_PRODUCT     17 /* SPC: 16 characters */
#define LIO_PORTAL      64
#define LIO_PORTALS_MAX 16u
#define LIO_GONE_MAX    16u
#define LIO_VENDOR      "MYFS"

/* One LUN as one iSCSI target with one LUN number, 0. */
struct lio_target {
	char iqn[REG_IQN];
	char backstore[LIO_BACKSTORE]; /* its name below core/user_N */
	char config[LIO_CONFIG];       /* "myfs/vol/lun", for the handler */
	uint64_t size_bytes;
	uint32_t block_size;
	char serial[LIO_SERIAL]; /* the LUN's id: WWN and unit serial never change */
	char product[LIO_PRODUCT];
	bool may_create; /* enough bricks answer, so that the handler can open it */
	bool open;       /* any initiator may log in */
	uint32_t auth;   /* enum reg_auth */
	char chap_user[REG_CHAP], chap_secret[REG_CHAP], mutual_user[REG_CHAP], mutual_secret[REG_CHAP];
	char (*initiators)[REG_IQN]; /* owned, [initiators_n] */
	size_t initiators_n;
};

/* One pass over the tree. */
struct lio_want {
	char prefix[REG_IQN];        /* targets whose IQN begins so are of this cluster */
	uint32_t hba;                /* backstores in core/user_<hba> are of this gateway */
	uint32_t gone[LIO_GONE_MAX]; /* [gone_n] HBAs of gateways that are gone: on this host they are ours to clear */
	unsigned gone_n;
	char portals[LIO_PORTALS_MAX][LIO_PORTAL];
	unsigned portals_n;
	bool complete;              /* targets lists all: what else is ours goes */
	struct lio_target *targets; /* owned, [targets_n] */
	size_t targets_n;
	char (*remove)[REG_IQN]; /* owned, [remove_n]: targets that should not be any more */
	size_t remove_n;
	char (*others)[REG_IQN]; /* owned, [others_n]: targets of the cluster that other gateways export */
	size_t others_n;
};

void lio_want_free(struct lio_want *w); /* what it owns, not w itself */
json_t *lio_target_json(const struct lio_target *t);
json_t *lio_want_json(const struct lio_want *w);
/* 0 and *ret, or -EINVAL. */
int lio_want_parse(const json_t *doc, struct lio_want *ret, struct err *e);

/* "192.0.2.11", "192.0.2.11:3261", "[2001:db8::1]:3260" into the form configfs uses, port 3260 when none is given. */
int lio_portal_parse(const char *text, char ret[LIO_PORTAL], struct err *e);
/* The kernel and rtslib take a-z 0-9 . - : in names; '_' of a LUN's name becomes '-'. */
void lio_iqn_make(const char *prefix, const char *volume, const char *name, char ret[REG_IQN]);

#endif
