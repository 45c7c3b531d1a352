/* control.h - the control methods of myfs-blockd, listed in blockd/README.md, and what their files share. */
#ifndef MYFS_BLOCKD_CONTROL_H
#define MYFS_BLOCKD_CONTROL_H

#include "blockd/lun.h"
#include "blockd/target.h"

extern const struct control_method blockd_methods[]; /* arg: struct blockd * */

/* ---- control.c ---- */
/* Translates a code and its text into the error a command shows. Returns -1. */
int control_from_err(struct control_error *out, struct blockd *d, const char *volume, int rc, const struct err *e,
		     const char *what);
int control_bad_input(struct control_error *out, const char *why, const char *what);
/* Parameters: text or NULL; a number (def when absent; -1 and an error when it is not one); a flag. */
const char *param_text(const json_t *params, const char *key);
int param_u64(const json_t *params, const char *key, uint64_t def, uint64_t *ret, struct control_error *out);
bool param_flag(const json_t *params, const char *key);
json_t *json_time(uint64_t wall_ns); /* RFC 3339, or null for 0 */
json_t *json_u64(uint64_t v);

typedef int method_fn(void *arg, const json_t *params, json_t **ret, struct control_error *error); /* YIELDS */
/* ---- control_lun.c ---- */
/* The row that params' "spec" names. 0 or -1. */
int control_find_lun(struct blockd *d, const json_t *params, struct reg_lun *ret, struct control_error *error);
json_t *control_lun_json(struct blockd *d, const struct reg_lun *row); /* schema myfs.lun/1 */
method_fn method_lun_create, method_lun_list, method_lun_info, method_lun_du, method_lun_resize, method_lun_delete,
    method_lun_release;
method_fn method_trash_list, method_trash_restore, method_trash_purge;
/* ---- compare.c ---- */
method_fn method_lun_compare_and_write;
/* ---- control_cluster.c ---- */
method_fn method_lun_move, method_gateway_list, cluster_session_list, cluster_lun_list, cluster_heal_status,
    cluster_target_list;
/* Asked by another gateway: answer from what is here. */
bool control_local(const json_t *params);
/* Asks the gateway that serves the LUN instead, if there is one and it answers. 0 and *ret, -1 and *error: its answer.
 * 1: it is for us. */
int control_pass_on(struct blockd *d, const struct reg_lun *row, const char *method, const json_t *params, json_t **ret,
		    struct control_error *error) YIELDS;
/* ---- control_target.c ---- */
method_fn method_target_list, method_target_info, method_target_enable, method_target_disable, method_target_leave;
method_fn method_acl_list, method_acl_add, method_acl_remove;
method_fn method_auth_show, method_auth_rotate, method_auth_set;
/* protos, open, auth, allow. ret->allow is owned by the caller. */
int control_target_wish(struct blockd *d, const json_t *params, struct target_wish *ret, struct control_error *error);
/* Adds protos, access and the iSCSI exports to a LUN document. */
void control_target_fields(struct blockd *d, const struct reg_lun *row, json_t *doc);
/* ---- control_scrub.c ---- */
method_fn method_scrub_status, method_scrub_start, method_scrub_pause, method_scrub_resume, method_scrub_schedule;
/* ---- control_state.c ---- */
method_fn method_status, method_session_list, method_heal_status, method_heal_pause, method_heal_resume,
    method_heal_throttle;

#endif
