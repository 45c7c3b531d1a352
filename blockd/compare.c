/* compare.c - compare and write (lun.h), and its control method: NBD has no such command, so handlers/tcmu asks here.
 */
#include <gnutls/gnutls.h>

#include "blockd/control.h"
#include "blockd/exports.h"

/* ---- the operation ---- */

/* First byte of `expected` that differs from what was read, or the length. */
static uint32_t first_difference(const struct bufs *now, const uint8_t *expected, uint32_t len)
{
	uint32_t at = 0;

	for (unsigned i = 0; i < now->n && at < len; i++) {
		const struct slice *s = &now->v[i];

		if (memcmp(s->ptr, expected + at, s->len) == 0) {
			at += (uint32_t)s->len;
			continue;
		}
		for (size_t k = 0; s->ptr[k] == expected[at]; k++)
			at++;
		return at;
	}
	return len;
}

static int compare_then_write(struct lun *l, struct lun_compare *c) YIELDS
{
	struct iovec data = {.iov_base = (void *)(uintptr_t)c->data, .iov_len = c->len};
	struct bufs now;
	uint32_t at;
	int rc;

	bufs_init(&now);
	rc = dht_read(l->file, c->off, c->len, &now);
	if (rc == 0 && now.bytes != c->len)
		rc = -EIO;
	at = rc == 0 ? first_difference(&now, c->expected, c->len) : 0;
	bufs_release(&now);
	if (rc < 0)
		return rc;
	c->differs_at = c->off + at;
	c->begun = c->written = at == c->len;
	return c->begun ? dht_write(l->file, c->off, (struct iov){.v = &data, .n = 1}, c->fua) : 0;
}

int lun_compare_and_write(struct lun *l, struct lun_compare *c, struct err *e)
{
	struct span span = {.off = c->off, .len = c->len, .alone = true};
	uint64_t began_ns = loop_precise_ns();
	int rc;

	if (c->len == 0 || c->len > LUN_COMPARE_MAX_BYTES || !range_inside(c->off, c->len, l->row.size_bytes))
		return err_set(e, -EINVAL, "1 to %u bytes inside the LUN can be compared",
			       (unsigned)LUN_COMPARE_MAX_BYTES);
	rc = lun_enter_span(l, l->generation, &span);
	if (rc < 0)
		return err_set(e, rc, "the LUN is being closed");
	rc = compare_then_write(l, c);
	lun_activity_count(l->activity, LUN_OP_COMPARE, began_ns, c->len, rc);
	lun_leave_span(l, &span, rc);
	return rc < 0 ? err_set(e, rc, "%s", err_name(rc)) : 0;
}

/* ---- the method ---- */

/* *ret owned: free with gnutls_free. */
static int decode(const json_t *params, const char *key, gnutls_datum_t *ret)
{
	const char *text = param_text(params, key);
	gnutls_datum_t in = {.data = (unsigned char *)(uintptr_t)text, .size = text ? (unsigned)strlen(text) : 0};

	return text && gnutls_base64_decode2(&in, ret) == 0 ? 0 : -EINVAL;
}

static int decode_both(const json_t *params, gnutls_datum_t *expected, gnutls_datum_t *data,
		       struct control_error *error)
{
	if (decode(params, "expected", expected) < 0 || decode(params, "data", data) < 0)
		return control_bad_input(error, "", "expected and data must be base64");
	if (expected->size != data->size)
		return control_bad_input(error, "", "expected and data must be of the same length");
	return 0;
}

static int run(struct blockd *d, const struct reg_lun *row, struct lun_compare *c, json_t **ret,
	       struct control_error *error) YIELDS
{
	struct err e = ERR_INIT;
	struct lun *l;
	char what[3 * REG_NAME];
	int rc = lun_hold(d, row, &l, &e);

	if (rc == 0) {
		rc = lun_compare_and_write(l, c, &e);
		lun_release(l);
	}
	snprintf(what, sizeof(what), "cannot compare and write on %s/%s", row->volume, row->name);
	if (rc < 0 && c->begun && rc != -ENOSPC) {
		*ret = json_pack("{s:n,s:s}", "written", "why", err_name(rc));
		return 0;
	}
	if (rc < 0)
		return control_from_err(error, d, row->volume, rc, &e, what);
	*ret = json_pack("{s:b}", "written", (int)c->written);
	if (!c->written)
		json_object_set_new(*ret, "differs_at", json_u64(c->differs_at));
	return 0;
}

int method_lun_compare_and_write(void *arg, const json_t *params, json_t **ret, struct control_error *error)
{
	gnutls_datum_t expected = {NULL, 0}, data = {NULL, 0};
	struct lun_compare c = {.fua = param_flag(params, "fua")};
	struct reg_lun row;
	int rc = control_find_lun(arg, params, &row, error);

	if (rc == 0)
		rc = param_u64(params, "offset", 0, &c.off, error);
	if (rc == 0)
		rc = decode_both(params, &expected, &data, error);
	if (rc == 0) {
		c.len = expected.size;
		c.expected = expected.data;
		c.data = data.data;
		rc = run(arg, &row, &c, ret, error);
	}
	gnutls_free(expected.data);
	gnutls_free(data.data);
	return rc;
}
