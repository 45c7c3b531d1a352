/* registry.h - the shared truth about what should exist: nodes, bricks, volumes, gateways, LUNs, history.
 *
 * Desired state is written here in one transaction; daemons reconcile towards it and write back what they observe. The
 * backend is SQLite (WAL, one file); an etcd backend can join behind the same functions. Calls are synchronous: they are
 * for control paths only. Reads wait for nobody. Changes wait for other writers, at most 5 s, and for the disk: on the loop of a daemon
 * that serves requests they do so off it (registry_write_off_loop). Text fields are NUL-terminated; names are [a-z0-9][a-z0-9._-]{0,62}.
 *
 * The file holds CHAP secrets: access of others than its owner and group is taken away when it is opened.
 * A registry file that is damaged or of a newer format is refused with a clear error and never overwritten. */
#ifndef MYFS_REGISTRY_H
#define MYFS_REGISTRY_H

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/base/gfid.h"

#define REG_NAME   64
#define REG_PATH   512
#define REG_FORMAT 2
#define REG_IQN    224 /* RFC 3720 3.2.6.1: 223 bytes */
#define REG_CHAP   64
#define REG_WHO    224 /* an initiator's IQN or an address range */

struct registry;

/* True when text is a name as above. */
bool reg_name_valid(const char *text);

struct reg_node {
	char name[REG_NAME];
	char address[REG_PATH]; /* where its brickd listens for bricks: "unix:/..", "tcp:host:port" */
	char control[REG_PATH]; /* control socket of its brickd: "unix:/.." */
};
struct reg_gateway {
	char name[REG_NAME]; /* node name it runs on */
	struct gfid uuid;    /* stable identity: owner in promises */
	char control[REG_PATH];
	char nbd_uri[REG_PATH]; /* prefix clients use: "nbd+unix:///%s?socket=/.." or "nbd://host:port/%s", %s = export
				   name */
	char nbd_tcp_uri[REG_PATH]; /* the TCP form, empty when it does not listen on TCP */
	char portals[REG_PATH];     /* iSCSI portals "192.0.2.11:3260 192.0.2.12:3260", empty = no iSCSI here */
};
struct reg_volume {
	char name[REG_NAME];
	struct gfid uuid;
	uint32_t k, r;        /* EC K+R; replica n is 1+(n-1) */
	uint32_t chunk_bytes; /* default 16384 */
	uint32_t sets;
	uint32_t started;    /* desired: 1 = serve */
	uint64_t created_ns; /* CLOCK_REALTIME */
};
struct reg_brick {
	struct gfid uuid;
	char volume[REG_NAME];
	char node[REG_NAME];
	char path[REG_PATH]; /* absolute directory on the node */
	uint32_t set_index, brick_index;
};
/* Name of what the brick's host remembers of it while it is served (core/loop/keepsake.h). */
#define REG_BRICK_KEEPSAKE (sizeof("myfs-brick-") + GFID_TEXT)
const char *reg_brick_keepsake(const struct gfid *uuid, char out[REG_BRICK_KEEPSAKE]);

enum reg_lun_state { REG_LUN_CREATING = 0, REG_LUN_READY = 1, REG_LUN_TRASH = 2, REG_LUN_PURGING = 3 };
struct reg_lun {
	char volume[REG_NAME];
	char name[REG_NAME];
	struct gfid gfid;
	uint64_t size_bytes;
	uint32_t block_size;  /* advertised: 512 or 4096 */
	uint32_t state;       /* enum reg_lun_state */
	char owner[REG_NAME]; /* gateway that serves it; empty = none yet */
	uint64_t created_ns, deleted_ns;
};

/* How a LUN is offered to clients: one row for every LUN, which goes with it. */
#define REG_PROTO_NBD   1u
#define REG_PROTO_ISCSI 2u
enum reg_auth { REG_AUTH_NONE = 0, REG_AUTH_CHAP = 1, REG_AUTH_MUTUAL = 2 };
struct reg_target {
	struct gfid lun;
	uint32_t protos;     /* REG_PROTO_* */
	uint32_t enabled;    /* iSCSI: 0 = logins are refused */
	uint32_t open;       /* 1 = anybody may attach; else only who the ACL names (and local unix sockets) */
	uint32_t auth;       /* enum reg_auth, of iSCSI */
	char iqn[REG_IQN];   /* empty until iSCSI is first wanted */
	char home[REG_NAME]; /* gateway that exports it while it has no owner */
	char chap_user[REG_CHAP], chap_secret[REG_CHAP];
	char mutual_user[REG_CHAP], mutual_secret[REG_CHAP];
};
struct reg_acl {
	struct gfid lun;
	char who[REG_WHO]; /* "iqn.1993-08.org.debian:01:abc", "192.0.2.0/24" */
};

/* Opens (creating when create is set). A file of an older format is brought up to REG_FORMAT in one transaction. 0,
 * -ENOENT, -EUCLEAN (damaged, not a registry, newer format) with text. */
int registry_open(const char *path, bool create, struct registry **ret, struct err *e);
void registry_close(struct registry *r);
/* From now on what a fiber changes (put, set, add, remove, delete, begin, commit) suspends it instead of the loop; changes of several fibers
 * take turns, transactions as a whole. Reads never suspend, but in no such transaction they do not see it before it is committed. */
int registry_write_off_loop(struct registry *r, struct err *e);
/* Changes whenever any process committed a change: poll it to know when to reconcile. */
int registry_generation(struct registry *r, uint64_t *ret, struct err *e);

/* Several changes as one: begin (waits for other writers, at most 5 s), commit or rollback. */
int registry_begin(struct registry *r, struct err *e);
int registry_commit(struct registry *r, struct err *e);
void registry_rollback(struct registry *r);

/* put: insert or replace by key; -EINVAL bad field, -EEXIST another row has its unique fields (a brick's place, a live
 * LUN's name), -ENOENT when it names a volume or node that is not there. get: -ENOENT when absent. delete: absent is
 * success, -EBUSY when others refer to it. list: *ret owned array (free()), NULL when empty. Inside
 * registry_begin/commit references are checked at commit. */
int reg_cluster_get(struct registry *r, const char *key, char *ret, size_t cap, struct err *e);
int reg_cluster_set(struct registry *r, const char *key, const char *value, struct err *e);

int reg_node_put(struct registry *r, const struct reg_node *n, struct err *e);
int reg_node_get(struct registry *r, const char *name, struct reg_node *ret, struct err *e);
int reg_node_list(struct registry *r, struct reg_node **ret, size_t *ret_n, struct err *e);

int reg_gateway_put(struct registry *r, const struct reg_gateway *g, struct err *e);
int reg_gateway_get(struct registry *r, const char *name, struct reg_gateway *ret, struct err *e);
int reg_gateway_delete(struct registry *r, const char *name, struct err *e);
int reg_gateway_list(struct registry *r, struct reg_gateway **ret, size_t *ret_n, struct err *e);

int reg_volume_put(struct registry *r, const struct reg_volume *v, struct err *e);
int reg_volume_get(struct registry *r, const char *name, struct reg_volume *ret, struct err *e);
int reg_volume_delete(struct registry *r, const char *name, struct err *e);
int reg_volume_list(struct registry *r, struct reg_volume **ret, size_t *ret_n, struct err *e);

int reg_brick_put(struct registry *r, const struct reg_brick *b, struct err *e);
int reg_brick_delete(struct registry *r, const struct gfid *uuid, struct err *e);
/* volume and/or node may be NULL = any; ordered by volume, set, index. */
int reg_brick_list(struct registry *r, const char *volume, const char *node, struct reg_brick **ret, size_t *ret_n,
		   struct err *e);

int reg_lun_put(struct registry *r, const struct reg_lun *l, struct err *e); /* key: gfid */
/* By name; among LUNs that are not in the trash or being purged. */
int reg_lun_get(struct registry *r, const char *volume, const char *name, struct reg_lun *ret, struct err *e);
int reg_lun_get_gfid(struct registry *r, const struct gfid *gfid, struct reg_lun *ret, struct err *e);
/* Every LUN of one gateway becomes another's; *ret_n: how many. */
int reg_lun_change_owner(struct registry *r, const char *from, const char *to, unsigned *ret_n, struct err *e);
int reg_lun_delete(struct registry *r, const struct gfid *gfid, struct err *e);
/* volume NULL = all; state < 0 = any; ordered by volume, name. */
int reg_lun_list(struct registry *r, const char *volume, int state, struct reg_lun **ret, size_t *ret_n, struct err *e);

int reg_target_put(struct registry *r, const struct reg_target *t, struct err *e); /* -ENOENT: no such LUN */
int reg_target_get(struct registry *r, const struct gfid *lun, struct reg_target *ret, struct err *e);
int reg_target_list(struct registry *r, struct reg_target **ret, size_t *ret_n, struct err *e);
int reg_acl_add(struct registry *r, const struct reg_acl *a, struct err *e); /* present already: success */
/* -ENOENT when it was not there. */
int reg_acl_remove(struct registry *r, const struct reg_acl *a, struct err *e);
/* lun NULL = all; ordered by lun, who. */
int reg_acl_list(struct registry *r, const struct gfid *lun, struct reg_acl **ret, size_t *ret_n, struct err *e);

/* Append-only audit line: who (user@host), what (command line without secrets). */
int reg_history_add(struct registry *r, const char *who, const char *what, struct err *e);

#endif
