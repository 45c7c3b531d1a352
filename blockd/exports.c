/* exports.c - NBD requests to LUNs.
 *
 * CAN_MULTI_CONN is true in earnest: one gateway owns the LUN, all its connections go through the same open file, and a
 * flush on any of them covers what was acknowledged on all. A zero request may always punch holes: a block of zeros and
 * a hole read the same, and on an erasure-coded LUN there is no "allocated" to preserve. */
#include "blockd/exports.h"

#include <stdio.h>

#include "blockd/gateways.h"
#include "blockd/lun.h"
#include "blockd/target.h"

#define MAX_BLOCK_BYTES (32u << 20)
#define PREFERRED_BLOCK MYFS_BLOCK

struct nbd_export { /* one session's use of a LUN */
	struct lun *lun;
	uint32_t generation;
	bool counted; /* as a client: tcmu-runner is not, its initiators are */
};

static bool name_valid(const char *s, size_t len)
{
	if (len == 0 || len >= REG_NAME)
		return false;
	for (size_t i = 0; i < len; i++) {
		bool word = (s[i] >= 'a' && s[i] <= 'z') || (s[i] >= '0' && s[i] <= '9');

		if (!word && (i == 0 || !strchr("._-", s[i])))
			return false;
	}
	return true;
}

int lun_spec_parse(const char *spec, char ret_volume[REG_NAME], char ret_name[REG_NAME], struct err *e)
{
	const char *slash = strchr(spec, '/');

	if (!slash || !name_valid(spec, (size_t)(slash - spec)) || !name_valid(slash + 1, strlen(slash + 1)))
		return err_set(e, -EINVAL, "\"%.130s\" is not a LUN: write VOLUME/LUN, names of a-z 0-9 . _ -", spec);
	snprintf(ret_volume, REG_NAME, "%.*s", (int)(slash - spec), spec);
	snprintf(ret_name, REG_NAME, "%s", slash + 1);
	return 0;
}

static int find_row(struct blockd *d, const char *spec, struct reg_lun *ret, struct err *e)
{
	char volume[REG_NAME], name[REG_NAME];

	/* What cannot be a name does not exist. */
	if (lun_spec_parse(spec, volume, name, e) < 0)
		return err_set(e, -ENOENT, "no LUN %.130s", spec);
	return reg_lun_get(d->registry, volume, name, ret, e);
}

/* peer: NULL for nobody in particular. A client on this host is told where the control socket is: handlers/tcmu asks
 * there for what NBD has no command for. */
static void fill_info(const struct blockd *d, const struct reg_lun *row, const struct stream *peer,
		      struct nbd_export_info *info)
{
	bool local = peer && peer->is_unix && strncmp(d->self.control, "unix:", 5) == 0;

	*info = (struct nbd_export_info){.size_bytes = row->size_bytes,
					 .min_block = 1,
					 .preferred_block = PREFERRED_BLOCK,
					 .max_block = MAX_BLOCK_BYTES,
					 .multi_conn = true};
	snprintf(info->description, sizeof(info->description), "myfs LUN, %u byte blocks%s%s", row->block_size,
		 local ? CONTROL_MARK : "", local ? d->self.control + 5 : "");
}

/* Only what the peer may attach: names are nobody else's business. */
static int export_list(void *arg, const struct stream *peer,
		       void (*emit)(void *emit_arg, const char *name, const char *description), void *emit_arg)
{
	struct blockd *d = arg;
	struct reg_lun *rows = NULL;
	size_t n = 0;
	int rc = reg_lun_list(d->registry, NULL, REG_LUN_READY, &rows, &n, NULL);

	for (size_t i = 0; i < n && rc == 0; i++) {
		char name[2 * REG_NAME];

		if (target_admit_nbd(d, &rows[i], peer, NULL) < 0)
			continue;
		snprintf(name, sizeof(name), "%s/%s", rows[i].volume, rows[i].name);
		emit(emit_arg, name, "myfs LUN");
	}
	free(rows);
	return rc;
}

static int export_info(void *arg, const char *name, const struct stream *peer, struct nbd_export_info *info,
		       struct err *e)
{
	struct reg_lun row;
	int rc = find_row(arg, name, &row, e);

	if (rc == 0 && row.state != REG_LUN_READY)
		rc = err_set(e, -ENOENT, "%s is being made or deleted", name);
	if (rc == 0)
		rc = target_admit_nbd(arg, &row, peer, e);
	if (rc == 0)
		fill_info(arg, &row, peer, info);
	return rc;
}

/* tcmu-runner serves what this gateway exports. A device that is left over from a LUN that went elsewhere must not
 * fetch it back. */
static int runner_may_open(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	if (!row->owner[0] || strcmp(row->owner, d->self.name) == 0 || gateways_state(d, row->owner) != GATEWAY_ALIVE)
		return 0;
	return err_set(e, -EBUSY, "gateway %s serves %s/%s", row->owner, row->volume, row->name);
}

static int export_open(void *arg, const char *name, const struct stream *peer, struct nbd_export **ret,
		       struct nbd_export_info *info, struct err *e)
{
	struct blockd *d = arg;
	struct nbd_export *x;
	struct reg_lun row;
	int rc = find_row(d, name, &row, e);

	bool runner = peer && peer_is_runner(peer->peer);

	if (rc == 0)
		rc = target_admit_nbd(d, &row, peer, e);
	if (rc == 0 && runner)
		rc = runner_may_open(d, &row, e);
	if (rc < 0)
		return rc;
	x = calloc(1, sizeof(*x));
	if (!x)
		return err_set(e, -ENOMEM, "no memory");
	rc = lun_hold(d, &row, &x->lun, e);
	if (rc < 0) {
		free(x);
		return rc;
	}
	x->generation = x->lun->generation;
	x->counted = !runner;
	x->lun->sessions += x->counted;
	x->lun->keep_ns = LUN_KEEP_OPEN_NS; /* it may have been opened only to be healed */
	fill_info(d, &x->lun->row, peer, info);
	*ret = x;
	return 0;
}

static void export_close(struct nbd_export *x)
{
	if (x->counted && x->generation == x->lun->generation)
		x->lun->sessions--;
	lun_release(x->lun);
	free(x);
}

static int export_read(struct nbd_export *x, uint64_t off, uint32_t len, struct bufs *out)
{
	struct span span = {.off = off, .len = len};
	uint64_t began_ns = loop_precise_ns();
	int rc = lun_enter_span(x->lun, x->generation, &span);

	if (rc == 0) {
		rc = dht_read(x->lun->file, off, len, out);
		lun_activity_count(x->lun->activity, LUN_OP_READ, began_ns, len, rc);
		lun_leave_span(x->lun, &span, rc);
	}
	return rc;
}

static int export_write(struct nbd_export *x, uint64_t off, struct iov data, bool fua)
{
	struct span span = {.off = off, .len = iov_bytes(data)};
	uint64_t began_ns = loop_precise_ns();
	int rc = lun_enter_span(x->lun, x->generation, &span);

	if (rc == 0) {
		rc = dht_write(x->lun->file, off, data, fua);
		lun_activity_count(x->lun->activity, LUN_OP_WRITE, began_ns, span.len, rc);
		lun_leave_span(x->lun, &span, rc);
	}
	return rc;
}

static int export_flush(struct nbd_export *x)
{
	uint64_t began_ns = loop_precise_ns();
	int rc = lun_enter(x->lun, x->generation);

	if (rc == 0) {
		rc = dht_flush(x->lun->file);
		lun_activity_count(x->lun->activity, LUN_OP_FLUSH, began_ns, 0, rc);
		lun_leave(x->lun, rc);
	}
	return rc;
}

static int export_trim(struct nbd_export *x, uint64_t off, uint64_t len, bool fua)
{
	struct span span = {.off = off, .len = len};
	uint64_t began_ns = loop_precise_ns();
	int rc = lun_enter_span(x->lun, x->generation, &span);

	if (rc == 0) {
		rc = dht_zero(x->lun->file, off, len, fua);
		lun_activity_count(x->lun->activity, LUN_OP_ZERO, began_ns, len, rc);
		lun_leave_span(x->lun, &span, rc);
	}
	return rc;
}

static int export_zero(struct nbd_export *x, uint64_t off, uint64_t len, bool fua, bool may_trim)
{
	(void)may_trim;
	return export_trim(x, off, len, fua);
}

static int export_cache(struct nbd_export *x, uint64_t off, uint64_t len)
{
	/* "Please read ahead" is a hint; bricks read ahead by themselves. Only whether we can still serve is told. */
	int rc = lun_enter(x->lun, x->generation);

	(void)off;
	(void)len;
	if (rc == 0)
		lun_leave(x->lun, 0);
	return rc;
}

struct one_extent {
	int (*emit)(void *emit_arg, uint64_t len, bool data);
	void *emit_arg;
};

static int emit_one(void *arg, uint64_t len, bool data)
{
	struct one_extent *one = arg;
	int rc = one->emit(one->emit_arg, len, data);

	return rc != 0 ? rc : 1;
}

static int export_extents(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
			  int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg)
{
	struct one_extent first = {emit, emit_arg};
	int rc = lun_enter(x->lun, x->generation);

	if (rc == 0) {
		rc = dht_extents(x->lun->file, off, len, one ? emit_one : emit, one ? (void *)&first : emit_arg);
		lun_leave(x->lun, rc);
	}
	return rc;
}

struct nbd_provider exports_provider(struct blockd *d)
{
	return (struct nbd_provider){.list = export_list,
				     .open = export_open,
				     .info = export_info,
				     .close = export_close,
				     .read = export_read,
				     .write = export_write,
				     .flush = export_flush,
				     .trim = export_trim,
				     .zero = export_zero,
				     .cache = export_cache,
				     .extents = export_extents,
				     .arg = d};
}
