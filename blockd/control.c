/* control.c - the table of control methods, and how errors and parameters are translated. */
#include "blockd/control.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "blockd/metrics.h"
#include "blockd/reconcile.h"

#define PING_KEPT_MAX_MS 1000u

struct error_class {
	int rc;
	const char *code;
	int exit_code;
	const char *data, *next;
};

static const struct error_class classes[] = {
    {-EEXIST, "E-EXISTS-03", 3, NULL, "choose another name, or use --if-missing"},
    {-ENOSPC, "E-NOSPACE-04", 4, "nothing was lost", "myfs brick list"},
    {-ENOENT, "E-NOTFOUND-05", 5, NULL, "myfs-block list"},
    {-EBUSY, "E-BUSY-06", 6, "nothing was changed", "myfs-block session list"},
    {-EAGAIN, "E-BUSY-06", 6, "nothing was changed", "try again"},
    {-EACCES, "E-DENIED-07", 7, NULL, NULL},
    {-EPERM, "E-SHRINK-09", 9, "nothing was changed", NULL},
    {-ENXIO, "E-STOPPED-02", 2, "data is safe", "myfs volume start"},
    {-ESHUTDOWN, "E-STOPPED-02", 2, "data is safe", "myfs status"},
    {-MYFS_E_FENCED, "E-BUSY-06", 6, "data is safe", "myfs-block info"},
    {-EUCLEAN, "E-DAMAGED-02", 2, NULL, "myfs doctor"},
    {-EINVAL, "E-USAGE-64", 64, NULL, NULL},
};

static int control_quorum(struct control_error *out, struct blockd *d, const char *volume, const struct err *e,
			  const char *what)
{
	struct volume *v = volume ? volume_get(d, volume) : NULL;
	char missing[512] = "";

	if (v)
		volume_missing(v, missing, sizeof(missing));
	control_fail(out, "E-QUORUM-02", 2, missing[0] ? missing : e->text,
		     "safe; I/O is paused, not failed, until the io-timeout", "myfs doctor",
		     v ? "%s: %u of %u bricks answer, %u are needed" : "%s: too few bricks answer", what,
		     v ? volume_fewest_connected(v) : 0, v ? v->geo.n : 0, v ? v->geo.w : 0);
	if (v)
		volume_put(v);
	return -1;
}

int control_from_err(struct control_error *out, struct blockd *d, const char *volume, int rc, const struct err *e,
		     const char *what)
{
	const char *why = e->text[0] ? e->text : err_name(rc);

	if (rc == -MYFS_E_QUORUM || rc == -ETIMEDOUT)
		return control_quorum(out, d, volume, e, what);
	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (classes[i].rc == rc)
			return control_fail(out, classes[i].code, classes[i].exit_code, why, classes[i].data,
					    classes[i].next, "%s", what);
	return control_fail(out, "E-FAILED-01", 1, why, NULL, "myfs status", "%s", what);
}

int control_bad_input(struct control_error *out, const char *why, const char *what)
{
	return control_fail(out, "E-USAGE-64", 64, why, "nothing was changed", NULL, "%s", what);
}

const char *param_text(const json_t *params, const char *key)
{
	return json_string_value(json_object_get(params, key));
}

int param_u64(const json_t *params, const char *key, uint64_t def, uint64_t *ret, struct control_error *out)
{
	const json_t *x = json_object_get(params, key);
	char what[80];

	if (!x || json_is_null(x)) {
		*ret = def;
		return 0;
	}
	if (json_is_integer(x) && json_integer_value(x) >= 0) {
		*ret = (uint64_t)json_integer_value(x);
		return 0;
	}
	snprintf(what, sizeof(what), "%s must be a whole number, 0 or more", key);
	return control_bad_input(out, "", what);
}

bool param_flag(const json_t *params, const char *key)
{
	return json_is_true(json_object_get(params, key));
}

json_t *json_time(uint64_t wall_ns)
{
	time_t t = (time_t)(wall_ns / NS_PER_S);
	char text[32];
	struct tm tm;

	if (wall_ns == 0 || !gmtime_r(&t, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		return json_null();
	return json_string(text);
}

json_t *json_u64(uint64_t v)
{
	return json_integer(v > INT64_MAX ? INT64_MAX : (json_int_t)v);
}

static int method_ping(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	struct blockd *d = arg;
	uint64_t after_ms;

	if (param_u64(params, "after_ms", 0, &after_ms, error) < 0)
		return -1;
	if (after_ms > 0)
		blockd_sleep(d, min_u64(after_ms, PING_KEPT_MAX_MS) * NS_PER_MS);
	*ret = json_pack("{s:s,s:s}", "gateway", d->self.name, "version", MYFS_VERSION);
	return 0;
}

static int method_reload(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)params;
	(void)ret;
	(void)error;
	reconcile_kick(arg);
	return 0;
}

static int method_shutdown(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	(void)arg;
	(void)params;
	(void)ret;
	(void)error;
	/* The way out is the same for everybody: the signal. The reply is queued before the loop sees it. */
	kill(getpid(), SIGTERM);
	return 0;
}

const struct control_method blockd_methods[] = {
    {"ping", method_ping},
    {"status", method_status},
    {"lun.create", method_lun_create},
    {"lun.list", cluster_lun_list},
    {"lun.info", method_lun_info},
    {"lun.du", method_lun_du},
    {"lun.resize", method_lun_resize},
    {"lun.delete", method_lun_delete},
    {"lun.move", method_lun_move},
    {"lun.release", method_lun_release},
    {"lun.compare_and_write", method_lun_compare_and_write},
    {"target.list", cluster_target_list},
    {"target.info", method_target_info},
    {"target.enable", method_target_enable},
    {"target.disable", method_target_disable},
    {"target.leave", method_target_leave},
    {"acl.list", method_acl_list},
    {"acl.add", method_acl_add},
    {"acl.remove", method_acl_remove},
    {"auth.show", method_auth_show},
    {"auth.rotate", method_auth_rotate},
    {"auth.set", method_auth_set},
    {"trash.list", method_trash_list},
    {"trash.restore", method_trash_restore},
    {"trash.purge", method_trash_purge},
    {"session.list", cluster_session_list},
    {"metrics", method_metrics},
    {"gateway.list", method_gateway_list},
    {"heal.status", cluster_heal_status},
    {"heal.pause", method_heal_pause},
    {"heal.resume", method_heal_resume},
    {"heal.throttle", method_heal_throttle},
    {"scrub.status", method_scrub_status},
    {"scrub.start", method_scrub_start},
    {"scrub.pause", method_scrub_pause},
    {"scrub.resume", method_scrub_resume},
    {"scrub.schedule", method_scrub_schedule},
    {"reload", method_reload},
    {"shutdown", method_shutdown},
    {NULL, NULL},
};
