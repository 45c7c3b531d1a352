/* lio_tree.h - makes the kernel's target tree be what is wanted, whatever state it is found in.
 *
 *   core/user_<hba>/<backstore>   the LUN as tcmu-runner serves it: control, wwn/, attrib/, enable
 *   iscsi/<iqn>/tpgt_1/           np/<portal>  lun/lun_0/<link to the backstore>  acls/<initiator>/{auth,lun_0}  auth/
 *                                 attrib/  param/  enable
 *
 * Invariants: T1 only what is ours is changed or removed: targets whose IQN has our prefix, backstores in our HBA. A
 * target whose LUN links to another HBA is another gateway's, and left to it unless that gateway is gone. T2 a target
 * is enabled last and disabled first, so no initiator meets one that is half made. T3 every step looks before it acts:
 * a pass over a right tree writes nothing. T4 what identifies the disk (config, block size, serial) is never changed
 * under an initiator: such a target is taken down and made anew. T5 nothing that waits for tcmu-runner is begun while
 * it is not running. */
#ifndef MYFS_LIO_TREE_H
#define MYFS_LIO_TREE_H

#include "blockd/lio_fs.h"
#include "blockd/lio_want.h"

#define LIO_MAX_DATA_AREA_MB 64
#define LIO_MAX_IO_BYTES     (1u << 20)
/* The kernel gives no command up: the handler answers "busy" in time, and a tcmu-runner that died comes back and goes
 * on with what the ring holds. A command given up by the kernel could still be carried out. */
#define LIO_CMD_TIME_OUT "0"
#define LIO_LINK_NAME    "myfs"

struct lio_tree {
	struct lio_fs *fs;
	const struct lio_want *want;
	bool runner; /* tcmu-runner is running */
	/* Called before a step that may take seconds. */
	void (*doing)(void *arg, const char *iqn, const char *what);
	void *arg;
};

/* Makes the target or repairs it. -EHOSTDOWN: tcmu-runner is needed and not running. -EAGAIN: may_create is false and
 * there is no device yet. -EBUSY: another gateway on this host exports it. */
int lio_target_apply(struct lio_tree *t, const struct lio_target *target, struct err *e);
/* Removes target and backstore, sessions included; absent is success. -EHOSTDOWN: the target is gone, the backstore
 * stays until tcmu-runner is back. */
int lio_target_remove(struct lio_tree *t, const char *iqn, struct err *e);
/* Removes what is ours and not wanted. Returns the first failure, after trying all. */
int lio_strays_remove(struct lio_tree *t, struct err *e);

/* ---- lio_target.c, for lio_tree.c ---- */
int lio_iscsi_apply(struct lio_tree *t, const struct lio_target *target, struct err *e);
int lio_iscsi_remove(struct lio_tree *t, const char *iqn, struct err *e);
/* Writes value unless the attribute has it already. */
int lio_attribute(struct lio_tree *t, const char *path, const char *value, struct err *e);
int lio_mkdir(struct lio_tree *t, const char *path, struct err *e); /* present already: success */
int lio_rmdir(struct lio_tree *t, const char *path, struct err *e); /* absent: success */
/* Names in a directory, owned; NULL and 0 when it is not there. */
struct lio_names {
	char (*v)[REG_IQN];
	size_t n;
};
int lio_names_read(struct lio_tree *t, const char *path, enum lio_kind kind, struct lio_names *ret, struct err *e);
bool lio_names_have(const struct lio_names *names, const char *name);

#endif
