/* inspect.c - see inspect.h. */
#include "brick/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "brick/frag.h"
#include "brick/ns_priv.h"
#include "brick/xattr.h"

#define LIST_BYTES  16384u
#define VALUE_BYTES 4096u
#define WORDS_BYTES 1024u
#define XATTRS_MAX  64u /* shown of one object */

static json_t *text_of_gfid(const struct gfid *g)
{
	char text[GFID_TEXT];

	return json_string(gfid_text(g, text));
}

static json_t *number(uint64_t v)
{
	return json_integer((json_int_t)v);
}

static json_t *identity_json(const struct brick_identity *id)
{
	char layout[64];

	snprintf(layout, sizeof(layout), id->k == 1 ? "replica %u+%u" : "EC %u+%u", id->k, id->r);
	return json_pack("{s:o, s:o, s:I, s:I, s:s, s:I, s:I, s:I, s:s, s:i}", "volume", text_of_gfid(&id->volume),
			 "brick", text_of_gfid(&id->brick), "set", (json_int_t)id->set_index, "index",
			 (json_int_t)id->brick_index, "layout", layout, "chunk_bytes", (json_int_t)id->chunk_bytes,
			 "shard_fragment_bytes", (json_int_t)id->shard_rows * MYFS_BLOCK, "journal_bytes",
			 (json_int_t)id->journal_bytes, "xattr_prefix", id->user_xattrs ? TREE_USER : TREE_TRUSTED,
			 "format", BRICK_FORMAT);
}

/* ---- xattrs ---- */

static void add_words(json_t *out, const char *full, const char *name, const uint8_t *v, size_t len)
{
	char words[WORDS_BYTES];

	xattr_describe(name, v, len, words, sizeof(words));
	json_t *text = json_string(words);
	if (!text) /* not UTF-8 */
		text = json_string("(not text)");
	json_object_set_new(out, full, text);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *xattrs_json(struct tree *t, const char *path) YIELDS
{
	char *names = malloc(LIST_BYTES);
	uint8_t *value = malloc(VALUE_BYTES);
	size_t prefix = strlen(t->prefix);
	ssize_t len = names && value ? store_listxattr(t->store, path, names, LIST_BYTES) : 0;
	const char *sorted[XATTRS_MAX];
	size_t count = 0;
	json_t *out = json_object();

	for (const char *p = names; len > 0 && p < names + len && count < XATTRS_MAX; p += strlen(p) + 1)
		sorted[count++] = p;
	qsort(sorted, count, sizeof(sorted[0]), by_text);
	for (size_t i = 0; i < count; i++) {
		const char *p = sorted[i];
		ssize_t n = store_getxattr(t->store, path, p, value, VALUE_BYTES);
		if (n >= 0)
			add_words(out, p, strncmp(p, t->prefix, prefix) == 0 ? p + prefix : p, value, (size_t)n);
	}
	free(names);
	free(value);
	return out;
}

/* ---- fragment and domain ---- */

static json_t *fragment_json(struct tree *t, const struct gfid *domain, uint32_t shard) YIELDS
{
	struct frag *f = NULL;
	uint32_t data = 0, bad = 0, rows = t->id.shard_rows;

	if (frag_get(t, domain, shard, false, &f))
		return NULL;
	for (uint32_t row = 0; row < rows; row++) {
		data += !frag_rows_are_holes(f, row, 1);
		bad += frag_is_bad(f, row);
	}
	frag_put(f);
	return json_pack("{s:o, s:I, s:I, s:I, s:I, s:I}", "file", text_of_gfid(domain), "shard", (json_int_t)shard,
			 "rows", (json_int_t)rows, "data_rows", (json_int_t)data, "hole_rows",
			 (json_int_t)(rows - data), "bad_rows", (json_int_t)bad);
}

static void add_missed(void *arg, uint32_t shard, uint32_t brick, uint64_t regions)
{
	char text[96];

	snprintf(text, sizeof(text), "brick %u lacks regions %016" PRIx64 " of shard %u", brick, regions, shard);
	json_array_append_new(arg, json_string(text));
}

static json_t *domain_json(struct brick *b, const struct gfid *domain)
{
	struct brick_domain_info d;
	char insync[160] = "", floor[48];
	size_t at = 0;

	if (brick_domain_info(b, domain, &d))
		return NULL;
	for (uint32_t i = 0; i < 32 && at + 4 < sizeof(insync); i++) {
		if (d.view_insync >> i & 1)
			at += (size_t)snprintf(insync + at, sizeof(insync) - at, at ? " %u" : "%u", i);
	}
	snprintf(floor, sizeof(floor), "%" PRIu64 ".%" PRIu64, d.floor_epoch, d.floor_n);
	json_t *missed = json_array();
	brick_domain_missed(b, domain, add_missed, missed);
	return json_pack("{s:I, s:o, s:s, s:I, s:I, s:s, s:b, s:s, s:i, s:i, s:o}", "promised_epoch",
			 (json_int_t)d.promise_epoch, "owner", text_of_gfid(&d.promise_owner), "view",
			 !d.has_view ? "none"
			 : d.ready   ? "ready"
				     : "resolving",
			 "view_epoch", (json_int_t)d.view_epoch, "view_version", (json_int_t)d.view_ver,
			 "insync_bricks", insync, "this_brick_insync", d.insync, "stable_below", floor, "undecided",
			 (int)d.tx_undecided, "unstable", (int)d.tx_unstable, "missed", missed);
}

/* Which shard of which domain the file is: its first name tells, whichever path led here. */
static void shard_of(struct tree *t, const char *path, const struct gfid *g, struct gfid *ret_domain,
		     uint32_t *ret_shard) YIELDS
{
	char name[BP_MAX_NAME + 1];

	if (ns_name_of(t, path, false, name) || shards_parse(name, ret_domain, ret_shard)) {
		*ret_domain = *g; /* a base file */
		*ret_shard = 0;
	}
}

static void set_if(json_t *o, const char *key, json_t *v)
{
	if (v)
		json_object_set_new(o, key, v);
}

static const char *type_name(uint32_t mode)
{
	return S_ISDIR(mode)   ? "directory"
	       : S_ISREG(mode) ? "file"
	       : S_ISLNK(mode) ? "symlink (handle of a directory)"
			       : "other";
}

/* ---- faces ---- */

int inspect_path(struct brick *b, const char *path, json_t **ret, struct err *e)
{
	struct tree *t = brick_tree(b);
	struct gfid g = GFID_NULL, domain;
	struct file_info info;
	uint32_t shard;
	int rc = store_stat(t->store, path, &info);

	if (rc)
		return err_set(e, rc, "%s: %s", path, err_name(rc));
	json_t *o = json_object();
	json_object_set_new(o, "path", json_string(path[0] ? path : "/"));
	json_object_set_new(o, "type", json_string(type_name(info.mode)));
	if (object_gfid_at(t, path, &g) == 0) {
		char handle[TREE_PATH];
		json_object_set_new(o, "gfid", text_of_gfid(&g));
		json_object_set_new(o, "handle", json_string(tree_handle_path(&g, handle)));
	}
	if (path[0] == '\0')
		json_object_set_new(o, "identity", identity_json(&t->id));
	if (S_ISREG(info.mode)) {
		json_object_set_new(o, "fragment_bytes", number(info.size_bytes));
		json_object_set_new(o, "allocated_bytes", number(info.alloc_bytes));
	}
	json_object_set_new(o, "xattrs", xattrs_json(t, path));
	if (S_ISREG(info.mode) && !gfid_is_null(&g)) {
		shard_of(t, path, &g, &domain, &shard);
		set_if(o, "fragment", fragment_json(t, &domain, shard));
		set_if(o, "domain", domain_json(b, &domain));
	} else if (gfid_eq(&g, &GFID_ROOT)) {
		set_if(o, "domain", domain_json(b, &GFID_ROOT));
	}
	*ret = o;
	return 0;
}

int inspect_gfid(struct brick *b, const struct gfid *gfid, json_t **ret, struct err *e)
{
	char path[TREE_PATH], text[GFID_TEXT];
	bool dir;
	int rc = tree_object_path(brick_tree(b), gfid, path, &dir);

	if (rc)
		return err_set(e, rc, "gfid %s: %s", gfid_text(gfid, text), err_name(rc));
	return inspect_path(b, path, ret, e);
}

int inspect_unserved(struct store *s, json_t **ret, struct err *e)
{
	struct brick_identity id;
	int rc = tree_read_identity(s, &id, e);

	if (!rc)
		*ret = json_pack("{s:s, s:s, s:o}", "path", "/", "type", "directory", "identity", identity_json(&id));
	return rc;
}
