/* heal_names.c - a returned brick gets the names it missed and loses those that went meanwhile. H24.
 *
 * The whole tree of names is small (the shards' directory is not looked into: its files are not names of the namespace
 * but data), so it is simply compared with a member's. The order matters, because data goes with the last name of its
 * gfid:
 *
 *   1 create what is missing and whose place is free         a renamed file now has its new name beside the old one
 *   2 take away what is too much, children before parents    its gfid has no other name by now: the file is deleted, as
 * on the members; it should have one, but the place is taken (two files swapped names): set aside as .heal.<gfid> 3
 * create what was in the way of step 1's places          4 take away what was set aside           5 extended attributes
 *
 * HN1 a file that a member still names is never left without a name. HN2 every step may be repeated after a crash
 * anywhere: a name set aside by an earlier run is just another name too much. */
#include <stdio.h>

#include "ec/heal.h"

#define NAMES_MAX (UINT32_C(1) << 20)
#define ASIDE     ".heal."

struct name {
	struct gfid parent, gfid;
	char *name; /* owned */
	bool is_dir;
};

/* One brick's tree; v in the order found: parents before their children. */
struct names {
	struct name *v;
	uint32_t n, cap;
	const struct name **by_place; /* sorted by (parent, name) */
	const struct name **by_gfid;
};

struct compare {
	struct ec_heal *h;
	uint32_t to;   /* the brick being healed */
	uint32_t from; /* a member */
	struct names want, have;
};

/* ---- a tree ---- */

static void names_release(struct names *t)
{
	for (uint32_t i = 0; i < t->n; i++)
		free(t->v[i].name);
	free(t->v);
	free(t->by_place);
	free(t->by_gfid);
	*t = (struct names){0};
}

static int names_add(struct names *t, const struct gfid *parent, const struct bp_entry *entry)
{
	if (t->n == NAMES_MAX)
		return -E2BIG;
	if (t->n == t->cap) {
		uint32_t cap = t->cap ? t->cap * 2 : 64;
		struct name *v = realloc(t->v, cap * sizeof(*v));
		if (!v)
			return -ENOMEM;
		t->v = v;
		t->cap = cap;
	}
	struct name *x = &t->v[t->n];
	*x = (struct name){.parent = *parent, .is_dir = entry->is_dir, .name = strdup(entry->name)};
	if (!x->name)
		return -ENOMEM;
	memcpy(x->gfid.b, entry->gfid, sizeof(x->gfid.b));
	t->n++;
	return 0;
}

static int place_cmp(const struct name *a, const struct name *b)
{
	int c = memcmp(a->parent.b, b->parent.b, sizeof(a->parent.b));

	return c ? c : strcmp(a->name, b->name);
}

static int by_place_cmp(const void *a, const void *b)
{
	return place_cmp(*(const struct name *const *)a, *(const struct name *const *)b);
}

static int by_gfid_cmp(const void *a, const void *b)
{
	const struct name *x = *(const struct name *const *)a, *y = *(const struct name *const *)b;

	return memcmp(x->gfid.b, y->gfid.b, sizeof(x->gfid.b));
}

static int names_index(struct names *t)
{
	t->by_place = calloc(t->n + 1, sizeof(*t->by_place));
	t->by_gfid = calloc(t->n + 1, sizeof(*t->by_gfid));
	if (!t->by_place || !t->by_gfid)
		return -ENOMEM;
	for (uint32_t i = 0; i < t->n; i++)
		t->by_place[i] = t->by_gfid[i] = &t->v[i];
	qsort(t->by_place, t->n, sizeof(*t->by_place), by_place_cmp);
	qsort(t->by_gfid, t->n, sizeof(*t->by_gfid), by_gfid_cmp);
	return 0;
}

static const struct name *names_at(const struct names *t, const struct name *place)
{
	const struct name *const *x = bsearch(&place, t->by_place, t->n, sizeof(*t->by_place), by_place_cmp);

	return x ? *x : NULL;
}

/* The same thing at the same place? */
static bool names_same(const struct name *a, const struct name *b)
{
	return a && b && a->is_dir == b->is_dir && gfid_eq(&a->gfid, &b->gfid);
}

/* Where the run of names of this gfid begins in by_gfid; n when there is none. */
static uint32_t names_of(const struct names *t, const struct gfid *gfid)
{
	uint32_t lo = 0, hi = t->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (memcmp(t->by_gfid[mid]->gfid.b, gfid->b, sizeof(gfid->b)) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < t->n && gfid_eq(&t->by_gfid[lo]->gfid, gfid) ? lo : t->n;
}

/* ---- reading ---- */

/* A member that fails is somebody else's business: the comparison starts again with another one. */
static int ask(struct compare *c, uint32_t b, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS
{
	if (!heal_goes_on(c->h, c->to) || !mask_has(c->h->d->live, b))
		return -EAGAIN;
	int rc = ec_ns_ask(c->h->d, b, args, res);
	if (!heal_goes_on(c->h, c->to))
		return -EAGAIN;
	return rc && rc != -ENOENT && b == c->from ? -EAGAIN : rc;
}

static int read_dir(struct compare *c, uint32_t b, const struct gfid *dir, struct names *t) YIELDS
{
	char after[BP_MAX_NAME + 1] = "";
	bool more = true;
	int rc = 0;

	while (!rc && more) {
		struct bp_nsread_args args = {.op = BP_NS_READDIR, .name = after};
		struct bp_nsread_res res = {0};
		gfid_to_wire(dir, args.gfid);
		rc = ask(c, b, &args, &res);
		for (uint32_t i = 0; !rc && i < res.entries.entries_len; i++)
			rc = names_add(t, dir, &res.entries.entries_val[i]);
		more = res.more && res.entries.entries_len > 0;
		if (!rc && more)
			snprintf(after, sizeof(after), "%s", t->v[t->n - 1].name);
		xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	}
	return rc == -ENOENT && b == c->to ? 0 : rc; /* a directory the returned brick lacks is empty */
}

static int read_tree(struct compare *c, uint32_t b, struct names *t) YIELDS
{
	int rc = read_dir(c, b, &GFID_ROOT, t);

	for (uint32_t i = 0; !rc && i < t->n; i++) {
		struct gfid dir = t->v[i].gfid;
		if (t->v[i].is_dir && !gfid_eq(&dir, &GFID_SHARD_DIR))
			rc = read_dir(c, b, &dir, t);
	}
	return rc ? rc : names_index(t);
}

static int read_xattrs(struct compare *c, uint32_t b, const struct gfid *gfid, struct bp_nsread_res *res) YIELDS
{
	struct bp_nsread_args args = {.op = BP_NS_STATX, .name = (char *)(uintptr_t) ""};

	gfid_to_wire(gfid, args.gfid);
	int rc = ask(c, b, &args, res);
	return !rc && res->entries.entries_len != 1 ? -MYFS_E_PROTO : rc;
}

/* ---- changing ---- */

static int change(struct compare *c, struct bp_nsop_args *op) YIELDS
{
	struct ec_domain *d = c->h->d;
	struct rpc_call call;

	if (!heal_goes_on(c->h, c->to))
		return -EAGAIN;
	if (!op->name)
		op->name = (char *)(uintptr_t) "";
	if (!op->name2)
		op->name2 = (char *)(uintptr_t) "";
	op->view_version = d->view.ver;
	ec_call_init(&call, BP_NSOP, (xdrproc_t)xdr_bp_nsop_args, op, NULL, NULL);
	int rc = ec_call_sync(d, c->to, &call);
	rpc_call_release(&call);
	return rc == -MYFS_E_VIEW || rc == -MYFS_E_GONE || rc == -MYFS_E_FENCED ? -EAGAIN : rc;
}

static struct bp_nsop_args op_on(enum bp_nsop what, const struct name *x)
{
	struct bp_nsop_args op = {.op = what, .name = x->name};

	gfid_to_wire(&x->parent, op.parent);
	gfid_to_wire(&x->gfid, op.gfid);
	return op;
}

/* What each brick writes for itself. */
static bool xattr_is_local(const char *name)
{
	return strcmp(name, "ec.version") == 0 || strcmp(name, "ec.dirty") == 0 || strcmp(name, "ec.config") == 0 ||
	       strcmp(name, "glusterfs.mdata") == 0;
}

static const struct bp_xattr *xattr_find(const struct bp_entry *e, const char *name)
{
	for (uint32_t i = 0; i < e->xattrs.xattrs_len; i++)
		if (strcmp(e->xattrs.xattrs_val[i].name, name) == 0)
			return &e->xattrs.xattrs_val[i];
	return NULL;
}

static bool xattr_eq(const struct bp_xattr *a, const struct bp_xattr *b)
{
	return a && b && a->value.value_len == b->value.value_len &&
	       memcmp(a->value.value_val, b->value.value_val, a->value.value_len) == 0;
}

/* Attributes of `want` that `have` (NULL: nothing) lacks or has otherwise, and removals of those too much. Entries are
 * borrowed. */
static uint32_t xattrs_to_set(const struct bp_entry *want, const struct bp_entry *have, struct bp_xattr out[32])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < want->xattrs.xattrs_len && n < 32; i++) {
		const struct bp_xattr *x = &want->xattrs.xattrs_val[i];
		if (!xattr_is_local(x->name) && !(have && xattr_eq(x, xattr_find(have, x->name))))
			out[n++] = *x;
	}
	for (uint32_t i = 0; have && i < have->xattrs.xattrs_len && n < 32; i++) {
		const struct bp_xattr *x = &have->xattrs.xattrs_val[i];
		if (!xattr_is_local(x->name) && !xattr_find(want, x->name))
			out[n++] = (struct bp_xattr){.name = x->name};
	}
	return n;
}

static int create(struct compare *c, const struct name *x) YIELDS
{
	struct bp_nsop_args op = op_on(x->is_dir ? BP_NS_MKDIR : BP_NS_MKFILE, x);
	struct bp_nsread_res res = {0};
	struct bp_xattr xattrs[32];
	int rc = read_xattrs(c, c->from, &x->gfid, &res);

	if (!rc) {
		op.xattrs.xattrs_len = xattrs_to_set(&res.entries.entries_val[0], NULL, xattrs);
		op.xattrs.xattrs_val = xattrs;
		rc = change(c, &op);
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
	return rc == -ENOENT ? -EAGAIN : rc; /* the member lost it: it is being dropped */
}

static int same_xattrs(struct compare *c, const struct gfid *gfid) YIELDS
{
	struct bp_nsop_args op = {.op = BP_NS_SETXATTR};
	struct bp_nsread_res want = {0}, have = {0};
	struct bp_xattr xattrs[32];
	int rc = read_xattrs(c, c->from, gfid, &want);

	if (!rc)
		rc = read_xattrs(c, c->to, gfid, &have);
	if (!rc) {
		gfid_to_wire(gfid, op.gfid);
		op.xattrs.xattrs_len =
		    xattrs_to_set(&want.entries.entries_val[0], &have.entries.entries_val[0], xattrs);
		op.xattrs.xattrs_val = xattrs;
		rc = op.xattrs.xattrs_len ? change(c, &op) : 0;
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &want);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &have);
	return rc;
}

/* ---- the steps ---- */

/* Steps 1 and 3: what is missing; the places that something else holds only when it has been moved out of the way. */
static int create_missing(struct compare *c, bool taken_places) YIELDS
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < c->want.n; i++) {
		const struct name *x = &c->want.v[i], *there = names_at(&c->have, x);
		if (!names_same(x, there) && (there != NULL) == taken_places)
			rc = create(c, x);
	}
	return rc;
}

/* Has the file of this gfid one of its right names on the brick, after step 1? */
static bool has_right_name(const struct compare *c, const struct gfid *gfid)
{
	for (uint32_t i = names_of(&c->want, gfid); i < c->want.n && gfid_eq(&c->want.by_gfid[i]->gfid, gfid); i++) {
		const struct name *there = names_at(&c->have, c->want.by_gfid[i]);
		if (!there || names_same(c->want.by_gfid[i], there))
			return true;
	}
	return false;
}

static char *aside_name(const struct gfid *gfid, char out[sizeof(ASIDE) + GFID_TEXT])
{
	char text[GFID_TEXT];

	snprintf(out, sizeof(ASIDE) + GFID_TEXT, ASIDE "%s", gfid_text(gfid, text));
	return out;
}

static int take_away(struct compare *c, const struct name *x) YIELDS
{
	struct bp_nsop_args op = op_on(BP_NS_UNLINK, x);
	char aside[sizeof(ASIDE) + GFID_TEXT];

	if (!x->is_dir && names_of(&c->want, &x->gfid) < c->want.n && !has_right_name(c, &x->gfid)) { /* HN1 */
		op.op = BP_NS_RENAME;
		memcpy(op.parent2, op.parent, sizeof(op.parent2));
		op.name2 = aside_name(&x->gfid, aside);
	}
	return change(c, &op);
}

static int take_away_too_much(struct compare *c) YIELDS
{
	int rc = 0;

	for (uint32_t i = c->have.n; !rc && i-- > 0;) /* children before parents */
		if (!names_same(&c->have.v[i], names_at(&c->want, &c->have.v[i])))
			rc = take_away(c, &c->have.v[i]);
	return rc;
}

/* Step 4: every gfid that was set aside has its right name by now. A name that is not there is not missed. */
static int take_away_aside(struct compare *c) YIELDS
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < c->have.n; i++) {
		const struct name *x = &c->have.v[i];
		char aside[sizeof(ASIDE) + GFID_TEXT];
		if (x->is_dir || names_same(x, names_at(&c->want, x)) || names_of(&c->want, &x->gfid) == c->want.n ||
		    has_right_name(c, &x->gfid))
			continue;
		struct bp_nsop_args op = op_on(BP_NS_UNLINK, x);
		op.name = aside_name(&x->gfid, aside);
		rc = change(c, &op);
	}
	return rc;
}

static int heal_xattrs(struct compare *c) YIELDS
{
	int rc = same_xattrs(c, &GFID_ROOT);

	for (uint32_t i = 0; !rc && i < c->want.n; i++)
		if (names_of(&c->have, &c->want.v[i].gfid) < c->have.n) /* new ones were made with theirs */
			rc = same_xattrs(c, &c->want.v[i].gfid);
	return rc;
}

int heal_names(struct ec_heal *h, uint32_t b) YIELDS
{
	struct compare c = {.h = h, .to = b};
	uint32_t members = ec_insync_live(h->d);

	if (!members)
		return -EAGAIN;
	c.from = (uint32_t)__builtin_ctz(members);
	int rc = read_tree(&c, c.from, &c.want);
	if (!rc)
		rc = read_tree(&c, c.to, &c.have);
	if (!rc)
		rc = create_missing(&c, false);
	if (!rc)
		rc = take_away_too_much(&c);
	if (!rc)
		rc = create_missing(&c, true);
	if (!rc)
		rc = take_away_aside(&c);
	if (!rc)
		rc = heal_xattrs(&c);
	names_release(&c.want);
	names_release(&c.have);
	return rc;
}
