/* namespace.c - names of a volume: directories on every set, a file on the set its gfid hashes to.
 *
 * Every change is one absolute, idempotent operation per set (ec_ns_apply), so whoever finds an intent unfinished
 * simply does it again. The namespace domain of a set is opened on first use. When another gateway takes it over we
 * learn it by -MYFS_E_FENCED, take it over again after a random pause and repeat the operation: names are used rarely,
 * so a duel ends soon.
 *
 * Invariant: a layout is written before the first file exists and never changed afterwards. The commit hash on "/" is
 * written after all layouts are in place: where it exists a missing or damaged layout is an error, not an invitation to
 * make a new one. */
#include "dht/dht_priv.h"

#include <stdio.h>

#include "brick.h" /* generated from core/rpc/brick.x */
#include "core/base/bytes.h"
#include "dht/hash.h"

#define SIZE_XATTR       "glusterfs.shard.file-size" /* BE64 size, reserved, blocks, reserved */
#define SIZE_XATTR_BYTES 32u
#define BLOCK_SIZE_XATTR "glusterfs.shard.block-size" /* BE64 bytes of one shard */
#define EC_SIZE_XATTR    "ec.size"                    /* BE64 bytes of the base file itself: shard 0 */
#define QUORUM_WAIT_NS   (5 * NS_PER_S)
#define FENCED_TRIES     6u
#define FENCED_PAUSE_NS  (20 * NS_PER_MS)

struct directory {
	const char *path; /* decides where its layout begins, as in GlusterFS */
	const char *name;
	const struct gfid *gfid;
};
static const struct directory directories[] = {
    {"/", "", &GFID_ROOT}, {"/block", "block", &GFID_BLOCK_DIR}, {"/.shard", ".shard", &GFID_SHARD_DIR}};
#define DIRECTORIES ARRAY_LEN(directories)

uint32_t dht_place(const struct dht_volume *v, const struct gfid *gfid, uint32_t shard)
{
	char name[GFID_TEXT + 12], text[GFID_TEXT];
	int len;

	if (v->sets == 1)
		return 0;
	len = snprintf(name, sizeof(name), "%s.%u", gfid_text(gfid, text), shard);
	return dht_layout_find(&v->shards, dht_hash(name, (size_t)len));
}

/* ---- the domain of one set ---- */

static int names_wait_quorum(struct dht_volume *v, unsigned set, struct err *e) YIELDS
{
	struct err text = ERR_INIT;
	int rc = ec_set_wait_up(v->set[set], ec_set_geometry(v->set[set])->w, loop_now_ns() + QUORUM_WAIT_NS, &text);

	return rc == -ETIMEDOUT ? err_set(e, -MYFS_E_QUORUM, "%s", text.text)
	       : rc < 0         ? err_set(e, rc, "%s", text.text)
				: 0;
}

static bool names_deposed(const struct ec_domain *domain)
{
	struct ec_domain_status s;

	ec_domain_status(domain, &s);
	return s.deposed;
}

static int names_domain(struct dht_volume *v, unsigned set, bool create, struct ec_domain **ret, struct err *e) YIELDS
{
	struct dht_names *names = &v->names[set];
	struct ec_domain_options opt = {.gfid = GFID_ROOT, .namespace_domain = true, .create = create};
	int rc = names_wait_quorum(v, set, e);

	if (rc < 0)
		return rc;
	fmutex_lock(&names->lock);
	if (names->domain && names_deposed(names->domain)) {
		ec_domain_close(names->domain);
		names->domain = NULL;
	}
	if (!names->domain)
		rc = ec_domain_open(v->set[set], &opt, &names->domain, e);
	*ret = rc < 0 ? *ret : names->domain;
	fmutex_unlock(&names->lock);
	return rc;
}

/* Lets go of a domain that somebody else took over; the next use opens it again. */
static void names_forget(struct dht_volume *v, unsigned set, struct ec_domain *deposed) YIELDS
{
	struct dht_names *names = &v->names[set];

	fmutex_lock(&names->lock);
	if (names->domain == deposed) {
		names->domain = NULL;
		ec_domain_close(deposed);
	}
	fmutex_unlock(&names->lock);
}

void dht_names_close(struct dht_volume *v)
{
	for (uint32_t i = 0; i < v->sets; i++)
		if (v->names[i].domain)
			names_forget(v, i, v->names[i].domain);
}

static void fenced_pause(unsigned attempt) YIELDS
{
	uint64_t random;

	loop_random(&random, sizeof(random));
	fiber_sleep_until(loop_now_ns() + (FENCED_PAUSE_NS << attempt) + random % FENCED_PAUSE_NS);
}

static int names_apply(struct dht_volume *v, unsigned set, struct bp_nsop_args *op, struct err *e) YIELDS
{
	if (!op->name)
		op->name = (char *)(uintptr_t) "";
	if (!op->name2)
		op->name2 = (char *)(uintptr_t) "";
	for (unsigned attempt = 0;; attempt++) {
		struct ec_domain *domain = NULL;
		struct err text = ERR_INIT;
		int rc = names_domain(v, set, false, &domain, &text);

		if (rc == 0)
			rc = ec_ns_apply(domain, op, &text);
		if (rc == 0)
			return 0;
		if (rc != -MYFS_E_FENCED || attempt + 1 == FENCED_TRIES)
			return err_set(e, rc, "volume %s: set %u: %s", v->name, set,
				       text.text[0] ? text.text : err_name(rc));
		if (domain)
			names_forget(v, set, domain);
		fenced_pause(attempt);
	}
}

/* *res must be zeroed, and freed with xdr_free after success. */
static int names_read(struct dht_volume *v, unsigned set, struct bp_nsread_args *args, struct bp_nsread_res *res,
		      struct err *e) YIELDS
{
	if (!args->name)
		args->name = (char *)(uintptr_t) "";
	for (unsigned attempt = 0;; attempt++) {
		struct ec_domain *domain = NULL;
		struct err text = ERR_INIT;
		int rc = names_domain(v, set, false, &domain, &text);

		if (rc == 0)
			rc = ec_ns_read(domain, args, res);
		if (rc == 0)
			return 0;
		xdr_free((xdrproc_t)xdr_bp_nsread_res, res);
		memset(res, 0, sizeof(*res));
		if (rc != -MYFS_E_FENCED || attempt + 1 == FENCED_TRIES)
			return err_set(e, rc, "volume %s: set %u: %s", v->name, set,
				       text.text[0] ? text.text : err_name(rc));
		if (domain)
			names_forget(v, set, domain);
		fenced_pause(attempt);
	}
}

/* ---- xattrs ---- */

static struct bp_xattr xattr_of(const char *name, void *value, uint32_t len)
{
	return (struct bp_xattr){.name = (char *)(uintptr_t)name, .value = {.value_len = len, .value_val = value}};
}

static const struct bp_xattr *entry_xattr(const struct bp_entry *entry, const char *name)
{
	for (uint32_t i = 0; i < entry->xattrs.xattrs_len; i++)
		if (strcmp(entry->xattrs.xattrs_val[i].name, name) == 0)
			return &entry->xattrs.xattrs_val[i];
	return NULL;
}

static void op_set_gfid(bp_uuid dst, const struct gfid *g)
{
	memcpy(dst, g->b, sizeof(g->b));
}

static int set_xattrs(struct dht_volume *v, unsigned set, const struct gfid *gfid, struct bp_xattr *x, uint32_t n,
		      struct err *e) YIELDS
{
	struct bp_nsop_args op = {.op = BP_NS_SETXATTR, .xattrs = {.xattrs_len = n, .xattrs_val = x}};

	op_set_gfid(op.gfid, gfid);
	return names_apply(v, set, &op, e);
}

/* Reads one xattr of a directory or file. -ENODATA when the object has none of that name, -EUCLEAN when its length is
 * wrong. */
static int read_xattr(struct dht_volume *v, unsigned set, const struct gfid *gfid, const char *name, void *dst,
		      uint32_t len, struct err *e) YIELDS
{
	struct bp_nsread_args args = {.op = BP_NS_STATX};
	struct bp_nsread_res res = {0};
	const struct bp_xattr *x;
	int rc;

	op_set_gfid(args.gfid, gfid);
	rc = names_read(v, set, &args, &res, e);
	if (rc < 0)
		return rc;
	x = res.entries.entries_len == 1 ? entry_xattr(&res.entries.entries_val[0], name) : NULL;
	if (!x)
		rc = err_set(e, -ENODATA, "no xattr %s", name);
	else if (x->value.value_len != len)
		rc = err_set(e, -EUCLEAN, "xattr %s has %u bytes, %u expected", name, x->value.value_len, len);
	else
		memcpy(dst, x->value.value_val, len);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	return rc;
}

/* ---- layouts ---- */

int dht_layout_load(struct dht_volume *v, struct err *e)
{
	struct dht_range *ranges;
	int rc = 0;

	if (v->sets == 1 || v->shards.n > 0)
		return 0;
	ranges = calloc(v->sets, sizeof(*ranges));
	if (!ranges)
		return err_set(e, -ENOMEM, "no memory");
	fmutex_lock(&v->layout_lock);
	for (uint32_t i = 0; i < v->sets && rc == 0 && v->shards.n == 0; i++) {
		uint8_t raw[DHT_XATTR_BYTES];

		ranges[i].set = i;
		rc = read_xattr(v, i, &GFID_SHARD_DIR, DHT_XATTR_NAME, raw, sizeof(raw), e);
		if (rc == 0 && dht_range_decode(raw, sizeof(raw), &ranges[i]) < 0)
			rc = err_set(e, -EUCLEAN, "set %u: layout xattr is malformed", i);
	}
	if (rc == 0 && v->shards.n == 0)
		rc = dht_layout_assemble(&v->shards, ranges, v->sets, e);
	fmutex_unlock(&v->layout_lock);
	free(ranges);
	return rc < 0 ? err_wrap(e, rc, "volume %s: layout of /.shard", v->name) : 0;
}

/* Room of a set: its smallest brick times K. 0 when any brick does not answer. */
static uint64_t set_capacity(struct dht_volume *v, unsigned set) YIELDS
{
	const struct ec_geometry *g = ec_set_geometry(v->set[set]);
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < g->n; i++) {
		struct bp_stat_res stat = {0};

		if (ec_set_brick_stat(v->set[set], i, &stat) < 0)
			return 0;
		least = min_u64(least, stat.total_bytes);
	}
	return least > UINT64_MAX / g->k ? 0 : least * g->k;
}

static uint32_t commit_hash_of(const struct dht_volume *v)
{
	uint32_t hash = dht_hash(v->uuid.b, sizeof(v->uuid.b));

	return hash <= 1 ? 2 : hash; /* 1 says "not valid" */
}

static int write_directory(struct dht_volume *v, unsigned set, const struct directory *dir,
			   const struct dht_range *range, struct err *e) YIELDS
{
	uint8_t raw[DHT_XATTR_BYTES];
	struct bp_xattr x = xattr_of(DHT_XATTR_NAME, raw, sizeof(raw));
	int rc = 0;

	dht_range_encode(range, raw);
	if (dir->gfid != &GFID_ROOT) {
		struct bp_nsop_args op = {.op = BP_NS_MKDIR,
					  .name = (char *)(uintptr_t)dir->name,
					  .xattrs = {.xattrs_len = 1, .xattrs_val = &x}};

		op_set_gfid(op.parent, &GFID_ROOT);
		op_set_gfid(op.gfid, dir->gfid);
		rc = names_apply(v, set, &op, e);
	}
	/* A directory left by an interrupted attempt keeps its old xattr through MKDIR. */
	return rc < 0 ? rc : set_xattrs(v, set, dir->gfid, &x, 1, e);
}

static int write_layouts(struct dht_volume *v, uint32_t commit, struct err *e) YIELDS
{
	uint64_t *sizes = calloc(v->sets, sizeof(*sizes));
	int rc = sizes ? 0 : err_set(e, -ENOMEM, "no memory");

	for (uint32_t i = 0; i < v->sets && rc == 0; i++)
		sizes[i] = set_capacity(v, i);
	for (size_t d = 0; d < DIRECTORIES && rc == 0; d++) {
		struct dht_layout l = {0, NULL};

		rc = dht_layout_build(&l, sizes, v->sets, dht_hash_name(directories[d].path), commit);
		if (rc < 0)
			err_set(e, rc, "no memory");
		for (uint32_t i = 0; i < v->sets && rc == 0; i++) {
			struct dht_range range = dht_layout_range_of(&l, i);

			rc = write_directory(v, i, &directories[d], &range, e);
		}
		dht_layout_free(&l);
	}
	free(sizes);
	return rc;
}

int dht_namespace_open(struct dht_volume *v, struct err *e)
{
	for (uint32_t i = 0; i < v->sets; i++) {
		struct ec_domain *domain;
		int rc = names_domain(v, i, false, &domain, e);

		if (rc < 0)
			return err_wrap(e, rc, "volume %s: names of set %u", v->name, i);
	}
	return 0;
}

int dht_namespace_init(struct dht_volume *v, struct err *e)
{
	uint32_t commit = commit_hash_of(v);
	uint8_t raw[4];
	struct bp_xattr x = xattr_of(DHT_COMMIT_XATTR_NAME, raw, sizeof(raw));
	struct wcur c = wcur_of(raw, sizeof(raw));
	bool committed = false;
	int rc = 0;

	for (uint32_t i = 0; i < v->sets; i++) {
		struct ec_domain *domain;
		uint8_t present[4];

		rc = names_domain(v, i, true, &domain, e);
		if (rc < 0)
			return err_wrap(e, rc, "volume %s: names of set %u", v->name, i);
		rc = read_xattr(v, i, &GFID_ROOT, DHT_COMMIT_XATTR_NAME, present, sizeof(present), e);
		if (rc < 0 && rc != -ENODATA)
			return rc;
		committed |= rc == 0;
	}
	if (e)
		*e = (struct err)ERR_INIT;
	rc = committed ? 0 : write_layouts(v, commit, e);
	wcur_be32(&c, commit);
	for (uint32_t i = 0; i < v->sets && rc == 0; i++)
		rc = set_xattrs(v, i, &GFID_ROOT, &x, 1, e);
	return rc < 0 ? rc : dht_layout_load(v, e);
}

/* ---- files ---- */

static bool name_is_plain(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= BP_MAX_NAME && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0 && strncmp(name, DHT_TRASH_PREFIX, sizeof(DHT_TRASH_PREFIX) - 1) != 0;
}

#define TRASH_NAME (sizeof(DHT_TRASH_PREFIX) + GFID_TEXT)
static char *trash_name(const struct gfid *gfid, char out[TRASH_NAME])
{
	char text[GFID_TEXT];

	snprintf(out, TRASH_NAME, DHT_TRASH_PREFIX "%s", gfid_text(gfid, text));
	return out;
}

/* The xattrs that carry a file's size, as GlusterFS's shard translator and disperse translator mean them. */
struct size_xattrs {
	uint8_t file[SIZE_XATTR_BYTES], block[8], base[8];
	struct bp_xattr x[3];
};

static void size_xattrs_fill(struct size_xattrs *s, const struct dht_volume *v, uint64_t size_bytes)
{
	struct wcur file = wcur_of(s->file, sizeof(s->file)), block = wcur_of(s->block, 8), base = wcur_of(s->base, 8);

	wcur_be64(&file, size_bytes);
	wcur_zeros(&file, SIZE_XATTR_BYTES - 8);
	wcur_be64(&block, v->shard_bytes);
	wcur_be64(&base, min_u64(size_bytes, v->shard_bytes));
	s->x[0] = xattr_of(SIZE_XATTR, s->file, sizeof(s->file));
	s->x[1] = xattr_of(BLOCK_SIZE_XATTR, s->block, sizeof(s->block));
	s->x[2] = xattr_of(EC_SIZE_XATTR, s->base, sizeof(s->base));
}

int dht_create(struct dht_volume *v, const char *name, const struct gfid *gfid, uint64_t size_bytes, struct err *e)
{
	struct size_xattrs sizes;
	struct bp_nsop_args op = {.op = BP_NS_MKFILE, .name = (char *)(uintptr_t)name};
	int rc;

	if (!name_is_plain(name) || size_bytes > DHT_MAX_FILE_BYTES)
		return err_set(e, -EINVAL, "bad name or size of %s", name);
	rc = dht_layout_load(v, e);
	if (rc < 0)
		return rc;
	size_xattrs_fill(&sizes, v, size_bytes);
	op.xattrs.xattrs_len = ARRAY_LEN(sizes.x);
	op.xattrs.xattrs_val = sizes.x;
	op_set_gfid(op.parent, &GFID_BLOCK_DIR);
	op_set_gfid(op.gfid, gfid);
	return names_apply(v, dht_place(v, gfid, 0), &op, e);
}

int dht_set_size(struct dht_volume *v, const struct gfid *gfid, const char *name, uint64_t size_bytes, struct err *e)
{
	struct size_xattrs sizes;
	int rc = dht_layout_load(v, e);

	if (rc == 0) {
		size_xattrs_fill(&sizes, v, size_bytes);
		rc = set_xattrs(v, dht_place(v, gfid, 0), gfid, sizes.x, ARRAY_LEN(sizes.x), e);
	}
	return rc < 0 ? err_wrap(e, rc, "size of %s", name) : 0;
}

static int lookup_on(struct dht_volume *v, unsigned set, const char *name, struct gfid *ret_gfid, uint64_t *ret_size,
		     struct err *e) YIELDS
{
	struct bp_nsread_args args = {.op = BP_NS_LOOKUP, .name = (char *)(uintptr_t)name};
	struct bp_nsread_res res = {0};
	const struct bp_xattr *x;
	int rc;

	op_set_gfid(args.gfid, &GFID_BLOCK_DIR);
	rc = names_read(v, set, &args, &res, e);
	if (rc < 0)
		return rc;
	x = res.entries.entries_len == 1 ? entry_xattr(&res.entries.entries_val[0], SIZE_XATTR) : NULL;
	if (!x || x->value.value_len != SIZE_XATTR_BYTES) {
		rc = err_set(e, -EUCLEAN, "volume %s: /block/%s carries no size", v->name, name);
	} else {
		struct rcur c = rcur_of(x->value.value_val, x->value.value_len);

		memcpy(ret_gfid->b, res.entries.entries_val[0].gfid, sizeof(ret_gfid->b));
		*ret_size = rcur_be64(&c);
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	return rc;
}

int dht_lookup(struct dht_volume *v, const char *name, struct gfid *ret_gfid, uint64_t *ret_size, struct err *e)
{
	/* A name does not tell the set (the gfid does), so every set is asked. "Not there" is only believed from all of
	 * them. */
	int worst = -ENOENT;

	for (uint32_t i = 0; i < v->sets; i++) {
		struct err text = ERR_INIT;
		int rc = lookup_on(v, i, name, ret_gfid, ret_size, &text);

		if (rc == 0)
			return 0;
		if (rc != -ENOENT)
			worst = err_set(e, rc, "%s", text.text);
	}
	return worst == -ENOENT ? err_set(e, -ENOENT, "volume %s has no /block/%s", v->name, name) : worst;
}

static int rename_in_block(struct dht_volume *v, const char *from, const char *to, const struct gfid *gfid,
			   struct err *e) YIELDS
{
	struct bp_nsop_args op = {.op = BP_NS_RENAME, .name = (char *)(uintptr_t)from, .name2 = (char *)(uintptr_t)to};
	int rc = dht_layout_load(v, e);

	if (rc < 0)
		return rc;
	op_set_gfid(op.parent, &GFID_BLOCK_DIR);
	op_set_gfid(op.parent2, &GFID_BLOCK_DIR);
	op_set_gfid(op.gfid, gfid);
	return names_apply(v, dht_place(v, gfid, 0), &op, e);
}

int dht_trash(struct dht_volume *v, const char *name, const struct gfid *gfid, struct err *e)
{
	char trash[TRASH_NAME];

	return rename_in_block(v, name, trash_name(gfid, trash), gfid, e);
}

int dht_restore(struct dht_volume *v, const struct gfid *gfid, const char *name, struct err *e)
{
	char trash[TRASH_NAME];

	if (!name_is_plain(name))
		return err_set(e, -EINVAL, "bad name %s", name);
	return rename_in_block(v, trash_name(gfid, trash), name, gfid, e);
}

int dht_unlink_trashed(struct dht_volume *v, const struct gfid *gfid, struct err *e)
{
	char trash[TRASH_NAME];
	uint32_t base;
	int rc = dht_layout_load(v, e);

	if (rc < 0)
		return rc;
	/* The name goes last: as long as it is there, somebody who finds it knows that shards may be left on other
	 * sets. */
	base = dht_place(v, gfid, 0);
	for (uint32_t i = 1; i <= v->sets && rc == 0; i++) {
		struct bp_nsop_args op = {.op = BP_NS_UNLINK, .name = trash_name(gfid, trash)};

		op_set_gfid(op.parent, &GFID_BLOCK_DIR);
		op_set_gfid(op.gfid, gfid);
		rc = names_apply(v, (base + i) % v->sets, &op, e);
	}
	return rc;
}

static int list_set(struct dht_volume *v, unsigned set,
		    int (*emit)(void *arg, const char *name, const struct gfid *gfid), void *arg, struct err *e) YIELDS
{
	char after[BP_MAX_NAME + 1] = "";
	bool more = true;

	while (more) {
		struct bp_nsread_args args = {.op = BP_NS_READDIR, .name = after};
		struct bp_nsread_res res = {0};
		int rc;

		op_set_gfid(args.gfid, &GFID_BLOCK_DIR);
		rc = names_read(v, set, &args, &res, e);
		if (rc < 0)
			return rc;
		more = res.more && res.entries.entries_len > 0;
		for (uint32_t i = 0; i < res.entries.entries_len && rc == 0; i++) {
			const struct bp_entry *entry = &res.entries.entries_val[i];
			struct gfid gfid;

			memcpy(gfid.b, entry->gfid, sizeof(gfid.b));
			snprintf(after, sizeof(after), "%s", entry->name);
			if (name_is_plain(entry->name) && !entry->is_dir)
				rc = emit(arg, entry->name, &gfid);
		}
		xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
		if (rc != 0)
			return rc;
	}
	return 0;
}

int dht_list(struct dht_volume *v, int (*emit)(void *arg, const char *name, const struct gfid *gfid), void *arg,
	     struct err *e)
{
	for (uint32_t i = 0; i < v->sets; i++) {
		int rc = list_set(v, i, emit, arg, e);

		if (rc != 0)
			return rc;
	}
	return 0;
}
