/* test_ns_crash.c - the brick's directory cut off in the middle: for every step of every operation, everything after
 * that step fails, the brick is opened again, the operation is repeated, and the outcome must be the same as without
 * the cut.
 *
 * The store below counts calls that change something and refuses all calls from the n-th on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include <fcntl.h>
#include <sys/stat.h>

#include "brick/frag.h"
#include "brick/ns.h"
#include "brick_fixture.h"
#include "core/base/crc32c.h"

/* ---- a store that stops working ---- */

struct cut_store {
	struct store s;
	struct store *real;
	unsigned left; /* changes that still succeed; UINT_MAX = all */
	struct fiber *owner; /* whose changes count: the sweeper's come when they like */
	bool dead;
};

struct cut_file {
	struct file f;
	struct file *real;
	struct cut_store *c;
};

static struct cut_store *cut_of(struct store *s)
{
	return CONTAINER_OF(s, struct cut_store, s);
}
static struct cut_file *cutf_of(struct file *f)
{
	return CONTAINER_OF(f, struct cut_file, f);
}

/* True when the power is off before this change. */
static bool cut(struct cut_store *c)
{
	if (c->dead || fiber_self() != c->owner)
		return c->dead;
	if (c->left == 0)
		c->dead = true;
	else if (c->left != UINT32_MAX)
		c->left--;
	return c->dead;
}

#define DEAD(c, call)   ((c)->dead ? -EIO : (call))
#define CHANGE(c, call) (cut(c) ? -EIO : (call))

static void cf_close(struct file *f)
{
	file_close(cutf_of(f)->real);
	free(cutf_of(f));
}
static ssize_t cf_pread(struct file *f, void *dst, size_t len, uint64_t off)
{
	return DEAD(cutf_of(f)->c, file_pread(cutf_of(f)->real, dst, len, off));
}
static int cf_pwritev(struct file *f, const struct iovec *v, unsigned n, uint64_t off)
{
	struct cut_file *c = cutf_of(f);

	return CHANGE(c->c, c->real->ops->pwritev(c->real, v, n, off));
}
static int cf_datasync(struct file *f)
{
	return CHANGE(cutf_of(f)->c, file_datasync(cutf_of(f)->real));
}
static int cf_allocate(struct file *f, enum file_alloc_mode m, uint64_t off, uint64_t len)
{
	return CHANGE(cutf_of(f)->c, file_allocate(cutf_of(f)->real, m, off, len));
}
static int cf_truncate(struct file *f, uint64_t size)
{
	return CHANGE(cutf_of(f)->c, file_truncate(cutf_of(f)->real, size));
}
static int cf_stat(struct file *f, struct file_info *ret)
{
	return DEAD(cutf_of(f)->c, file_stat(cutf_of(f)->real, ret));
}
static int64_t cf_seek_data(struct file *f, uint64_t off)
{
	return DEAD(cutf_of(f)->c, file_seek_data(cutf_of(f)->real, off));
}
static int64_t cf_seek_hole(struct file *f, uint64_t off)
{
	return DEAD(cutf_of(f)->c, file_seek_hole(cutf_of(f)->real, off));
}

static const struct file_ops cut_file_ops = {cf_close,    cf_pread, cf_pwritev,   cf_datasync, cf_allocate,
					     cf_truncate, cf_stat,  cf_seek_data, cf_seek_hole};

static void cs_close(struct store *s)
{
	store_close(cut_of(s)->real);
	free(cut_of(s));
}
static int cs_open(struct store *s, const char *p, int flags, uint32_t mode, struct file **ret)
{
	struct cut_store *c = cut_of(s);
	struct cut_file *f;
	struct file *real;

	if (flags & (O_CREAT | O_TRUNC) ? cut(c) : c->dead)
		return -EIO;
	int rc = store_open(c->real, p, flags, mode, &real);
	if (rc)
		return rc;
	f = calloc(1, sizeof(*f));
	f->f.ops = &cut_file_ops;
	f->real = real;
	f->c = c;
	*ret = &f->f;
	return 0;
}
static int cs_mkdir(struct store *s, const char *p, uint32_t m)
{
	return CHANGE(cut_of(s), store_mkdir(cut_of(s)->real, p, m));
}
static int cs_link(struct store *s, const char *a, const char *b)
{
	return CHANGE(cut_of(s), store_link(cut_of(s)->real, a, b));
}
static int cs_symlink(struct store *s, const char *a, const char *b)
{
	return CHANGE(cut_of(s), store_symlink(cut_of(s)->real, a, b));
}
static int cs_readlink(struct store *s, const char *p, char *out, size_t cap)
{
	return DEAD(cut_of(s), store_readlink(cut_of(s)->real, p, out, cap));
}
static int cs_unlink(struct store *s, const char *p)
{
	return CHANGE(cut_of(s), store_unlink(cut_of(s)->real, p));
}
static int cs_rmdir(struct store *s, const char *p)
{
	return CHANGE(cut_of(s), store_rmdir(cut_of(s)->real, p));
}
static int cs_rename(struct store *s, const char *a, const char *b)
{
	return CHANGE(cut_of(s), store_rename(cut_of(s)->real, a, b));
}
static int cs_stat(struct store *s, const char *p, struct file_info *ret)
{
	return DEAD(cut_of(s), store_stat(cut_of(s)->real, p, ret));
}
static int cs_readdir(struct store *s, const char *p, struct dirent_list *ret)
{
	return DEAD(cut_of(s), store_readdir(cut_of(s)->real, p, ret));
}
static int cs_sync_dir(struct store *s, const char *p)
{
	return CHANGE(cut_of(s), store_sync_dir(cut_of(s)->real, p));
}
static ssize_t cs_getxattr(struct store *s, const char *p, const char *name, void *dst, size_t cap)
{
	return DEAD(cut_of(s), store_getxattr(cut_of(s)->real, p, name, dst, cap));
}
static int cs_setxattr(struct store *s, const char *p, const char *name, const void *v, size_t len, int flags)
{
	return CHANGE(cut_of(s), store_setxattr(cut_of(s)->real, p, name, v, len, flags));
}
static int cs_removexattr(struct store *s, const char *p, const char *name)
{
	return CHANGE(cut_of(s), store_removexattr(cut_of(s)->real, p, name));
}
static ssize_t cs_listxattr(struct store *s, const char *p, char *dst, size_t cap)
{
	return DEAD(cut_of(s), store_listxattr(cut_of(s)->real, p, dst, cap));
}
static int cs_space(struct store *s, struct store_space *ret)
{
	return DEAD(cut_of(s), store_space(cut_of(s)->real, ret));
}
static int cs_lock(struct store *s, const char *p)
{
	return DEAD(cut_of(s), store_lock(cut_of(s)->real, p));
}

static const struct store_ops cut_store_ops = {
    .close = cs_close,
    .open = cs_open,
    .mkdir = cs_mkdir,
    .link = cs_link,
    .symlink = cs_symlink,
    .readlink = cs_readlink,
    .unlink = cs_unlink,
    .rmdir = cs_rmdir,
    .rename = cs_rename,
    .stat = cs_stat,
    .readdir = cs_readdir,
    .sync_dir = cs_sync_dir,
    .getxattr = cs_getxattr,
    .setxattr = cs_setxattr,
    .removexattr = cs_removexattr,
    .listxattr = cs_listxattr,
    .space = cs_space,
    .lock = cs_lock,
};

/* The store of d, from now on behind one that stops after `left` changes. */
static struct cut_store *cut_open(struct brick_dir *d, unsigned left)
{
	struct cut_store *c = calloc(1, sizeof(*c));

	c->s.ops = &cut_store_ops;
	c->left = left;
	c->owner = fiber_self();
	CHECK(store_open_posix(d->path, &c->real, NULL) == 0);
	store_close(d->s);
	d->s = &c->s;
	return c;
}

/* ---- operations ---- */

static const struct gfid block = {{0x6d}}, file = {{7}}, other = {{8}}, sub = {{9}};

static int apply(struct tree *t, u_int what, const struct gfid *parent, const char *name, const struct gfid *gfid,
		 const struct gfid *parent2, const char *name2)
{
	struct bp_xattr xattr = {.name = (char *)(uintptr_t) "ec.size"};
	struct bp_nsop_args op = {.op = what, .name = (char *)(uintptr_t)name, .name2 = (char *)(uintptr_t)name2};

	memcpy(op.parent, parent->b, 16);
	memcpy(op.gfid, gfid->b, 16);
	memcpy(op.parent2, parent2->b, 16);
	if (what == BP_NS_MKFILE || what == BP_NS_MKDIR || what == BP_NS_SETXATTR) {
		xattr.value.value_val = (char *)(uintptr_t) "12345678";
		xattr.value.value_len = 8;
		op.xattrs.xattrs_val = &xattr;
		op.xattrs.xattrs_len = 1;
	}
	return ns_apply(t, &op);
}

static int lookup(struct tree *t, const struct gfid *parent, const char *name, struct gfid *ret, u_int *ret_xattrs)
{
	struct bp_nsread_args a = {.op = BP_NS_LOOKUP, .name = (char *)(uintptr_t)name};
	struct bp_nsread_res res = {0};

	memcpy(a.gfid, parent->b, 16);
	int rc = ns_read(t, &a, &res);
	if (rc == 0) {
		memcpy(ret->b, res.entries.entries_val[0].gfid, 16);
		*ret_xattrs = res.entries.entries_val[0].xattrs.xattrs_len;
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	return rc;
}

static bool is_named(struct tree *t, const struct gfid *parent, const char *name, const struct gfid *g)
{
	struct gfid found;
	u_int n;

	return lookup(t, parent, name, &found, &n) == 0 && gfid_eq(&found, g);
}

static unsigned links_of(struct tree *t, const struct gfid *g)
{
	struct file_info info;
	char path[TREE_PATH];

	return store_stat(tree_store(t), tree_handle_path(g, path), &info) == 0 ? info.nlink : 0;
}

static void put_row(struct frag *f, uint32_t row)
{
	uint8_t p[MYFS_BLOCK];
	uint32_t crc;
	struct iovec v = {p, sizeof(p)};

	memset(p, (int)row + 1, sizeof(p));
	crc = crc32c(p, sizeof(p));
	(void)frag_write(f, row, 1, &v, 1, &crc);
}

/* A case: what is there before, the operation, what must be there after it succeeded. */
struct crash_case {
	void (*before)(struct tree *t);
	int (*op)(struct tree *t);
	void (*after)(struct tree *t);
};

static void nothing(struct tree *t)
{
	(void)t;
}

static int op_mkdir(struct tree *t)
{
	return apply(t, BP_NS_MKDIR, &block, "sub", &sub, &GFID_NULL, "");
}
static void after_mkdir(struct tree *t)
{
	char path[TREE_PATH];

	CHECK(is_named(t, &block, "sub", &sub));
	CHECK(tree_dir_path(t, &sub, path) == 0 && strcmp(path, "block/sub") == 0);
	CHECK(apply(t, BP_NS_MKFILE, &sub, "f", &file, &GFID_NULL, "") == 0);
}

static int op_mkfile(struct tree *t)
{
	return apply(t, BP_NS_MKFILE, &block, "lun", &file, &GFID_NULL, "");
}
static void after_mkfile(struct tree *t)
{
	struct gfid found;
	u_int xattrs = 0;

	CHECK(lookup(t, &block, "lun", &found, &xattrs) == 0 && gfid_eq(&found, &file));
	CHECK(xattrs == 5); /* config, size, version, dirty, mdata */
	CHECK(links_of(t, &file) == 2);
}

static void before_unlink(struct tree *t)
{
	struct frag *f;

	CHECK(op_mkfile(t) == 0);
	for (uint32_t n = 0; n < 3; n++) {
		CHECK(frag_get(t, &file, n, true, &f) == 0);
		put_row(f, n);
		CHECK(frag_sync(f) == 0);
		frag_put(f);
	}
	CHECK(apply(t, BP_NS_MKFILE, &block, "other", &other, &GFID_NULL, "") == 0);
}
static int op_unlink(struct tree *t)
{
	return apply(t, BP_NS_UNLINK, &block, "lun", &file, &GFID_NULL, "");
}
static void after_unlink(struct tree *t)
{
	uint64_t bits[1];
	uint32_t max;
	struct file_info info;
	char path[TREE_PATH];

	CHECK(!is_named(t, &block, "lun", &file) && links_of(t, &file) == 0);
	CHECK(frag_list(t, &file, bits, 64, &max) == 0 && max == 0);
	for (uint32_t n = 0; n < 3; n++) { /* no handle, no checksums are left behind */
		struct gfid g = gfid_of_shard(&file, n);
		char text[GFID_TEXT];
		CHECK(links_of(t, &g) == 0);
		snprintf(path, sizeof(path), ".glusterfs/myfs/csum/%02x/%02x/%s", g.b[0], g.b[1], gfid_text(&g, text));
		CHECK(store_stat(tree_store(t), path, &info) == -ENOENT);
	}
	CHECK(is_named(t, &block, "other", &other) && links_of(t, &other) == 2);
}

static int op_rename(struct tree *t)
{
	return apply(t, BP_NS_RENAME, &block, "lun", &file, &GFID_ROOT, "moved");
}
static void after_rename(struct tree *t)
{
	struct bp_nsread_args a = {.op = BP_NS_STATX, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	char list[2048];
	char handle[TREE_PATH];
	unsigned names = 0;

	CHECK(!is_named(t, &block, "lun", &file) && is_named(t, &GFID_ROOT, "moved", &file) && links_of(t, &file) == 2);
	memcpy(a.gfid, file.b, 16);
	CHECK(ns_read(t, &a, &res) == 0 && strcmp(res.entries.entries_val[0].name, "moved") == 0);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	ssize_t n = store_listxattr(tree_store(t), tree_handle_path(&file, handle), list, sizeof(list));
	for (const char *p = list; p < list + n; p += strlen(p) + 1)
		names += strstr(p, "gfid2path.") != NULL;
	CHECK(names == 1);
}

static void before_rename_dir(struct tree *t)
{
	CHECK(op_mkdir(t) == 0);
	CHECK(apply(t, BP_NS_MKFILE, &sub, "f", &file, &GFID_NULL, "") == 0);
}
static int op_rename_dir(struct tree *t)
{
	return apply(t, BP_NS_RENAME, &block, "sub", &sub, &GFID_ROOT, "top");
}
static void after_rename_dir(struct tree *t)
{
	char path[TREE_PATH];

	CHECK(tree_dir_path(t, &sub, path) == 0 && strcmp(path, "top") == 0);
	CHECK(is_named(t, &sub, "f", &file));
}

static void before_rmdir(struct tree *t)
{
	CHECK(op_mkdir(t) == 0);
}
static int op_rmdir(struct tree *t)
{
	return apply(t, BP_NS_UNLINK, &block, "sub", &sub, &GFID_NULL, "");
}
static void after_rmdir(struct tree *t)
{
	char path[TREE_PATH];

	CHECK(!is_named(t, &block, "sub", &sub) && tree_dir_path(t, &sub, path) == -ENOENT && links_of(t, &sub) == 0);
}

/* A new shard with a row in it: what a checkpoint does. */
static int op_shard(struct tree *t)
{
	struct frag *f;
	int rc = frag_get(t, &file, 4, true, &f);

	if (rc)
		return rc;
	put_row(f, 9);
	rc = frag_sync(f);
	frag_put(f);
	return rc;
}
static void after_shard(struct tree *t)
{
	struct gfid g = gfid_of_shard(&file, 4);
	uint8_t p[MYFS_BLOCK];
	uint32_t crc;
	struct frag *f;

	CHECK(links_of(t, &g) == 2);
	CHECK(frag_get(t, &file, 4, false, &f) == 0);
	CHECK(frag_read(f, 9, 1, p, &crc) == 0 && p[0] == 10 && crc == crc32c(p, sizeof(p)));
	frag_put(f);
}

/* ---- the walk through all cuts ---- */

static struct tree *start(struct brick_dir *d, const struct crash_case *c)
{
	brick_dir_create(d);
	struct tree *t = brick_dir_open(d);

	CHECK(apply(t, BP_NS_MKDIR, &GFID_ROOT, "block", &block, &GFID_NULL, "") == 0);
	c->before(t);
	return t;
}

/* The operation cut off before its change number n, then repeated. False when it has no such change. */
static bool one_cut(const struct crash_case *c, unsigned n)
{
	struct brick_dir d;
	struct tree *t = start(&d, c);

	tree_close(t);
	struct cut_store *cs = cut_open(&d, UINT32_MAX);
	t = brick_dir_open(&d);
	cs->left = n;
	int rc = c->op(t);
	bool was_cut = cs->dead;
	CHECK(was_cut ? rc < 0 : rc == 0);
	cs->dead = true;
	t = brick_dir_reopen(&d, t);
	CHECK(c->op(t) == 0);
	c->after(t);
	CHECK(c->op(t) == 0 || c->op == op_shard);
	tree_close(t);
	brick_dir_remove(&d);
	return was_cut;
}

static void walk(void *arg)
{
	const struct crash_case *c = arg;

	for (unsigned n = 0; one_cut(c, n); n++)
		CHECK(n < 100);
}

static void run(const struct crash_case *c)
{
	struct loop *l;

	assert_int_equal(loop_new(&(struct loop_options){.backend = LOOP_AUTO}, &l, NULL), 0);
	assert_int_equal(loop_run_fiber(l, "walk", walk, (void *)(uintptr_t)c), 0);
	loop_free(l);
}

#define CASE(name, ...)                                                                                                \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		static const struct crash_case c = {__VA_ARGS__};                                                      \
		(void)state;                                                                                           \
		run(&c);                                                                                               \
	}

CASE(mkdir_cut_anywhere_is_completed_by_repeating_it, nothing, op_mkdir, after_mkdir)
CASE(mkfile_cut_anywhere_is_completed_by_repeating_it, nothing, op_mkfile, after_mkfile)
CASE(unlink_cut_anywhere_is_completed_by_repeating_it, before_unlink, op_unlink, after_unlink)
CASE(rename_cut_anywhere_is_completed_by_repeating_it, before_unlink, op_rename, after_rename)
CASE(rename_of_a_directory_cut_anywhere_is_completed_by_repeating_it, before_rename_dir, op_rename_dir,
     after_rename_dir)
CASE(rmdir_cut_anywhere_is_completed_by_repeating_it, before_rmdir, op_rmdir, after_rmdir)
CASE(a_new_shard_cut_anywhere_is_completed_by_writing_it_again, nothing, op_shard, after_shard)

/* ---- creating a brick ---- */

static void create_walk(void *arg)
{
	unsigned n = 0;
	bool was_cut = true;

	(void)arg;
	while (was_cut) {
		struct brick_dir d;
		struct tree *t;
		struct brick_identity id;
		brick_dir_make(&d);
		struct cut_store *cs = cut_open(&d, n);
		id = d.id;
		int rc = tree_create(d.s, &id, false, NULL);
		was_cut = cs->dead;
		CHECK(was_cut ? rc < 0 : rc == 0);
		store_close(d.s);
		CHECK(store_open_posix(d.path, &d.s, NULL) == 0);
		if (tree_open(d.s, &t, NULL, NULL) == 0) { /* whole, or not a brick */
			tree_close(t);
		} else {
			CHECK(tree_create(d.s, &d.id, true, NULL) == 0);
			t = brick_dir_open(&d);
			CHECK(apply(t, BP_NS_MKDIR, &GFID_ROOT, "block", &block, &GFID_NULL, "") == 0);
			tree_close(t);
		}
		brick_dir_remove(&d);
		n += n < 8 || n > 520 ? 1 : 97; /* the many equal directories in the middle: a few of them */
	}
	CHECK(n > 530);
}

static void a_brick_whose_creation_was_cut_is_no_brick_and_can_be_made_again(void **state)
{
	struct loop *l;

	(void)state;
	assert_int_equal(loop_new(&(struct loop_options){.backend = LOOP_AUTO}, &l, NULL), 0);
	assert_int_equal(loop_run_fiber(l, "walk", create_walk, NULL), 0);
	loop_free(l);
}

int main(void)
{
	brick_dir_base = brick_dir_fast_base(); /* a hundred bricks, and nothing here depends on a real disk */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mkdir_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(mkfile_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(unlink_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(rename_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(rename_of_a_directory_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(rmdir_cut_anywhere_is_completed_by_repeating_it),
	    cmocka_unit_test(a_new_shard_cut_anywhere_is_completed_by_writing_it_again),
	    cmocka_unit_test(a_brick_whose_creation_was_cut_is_no_brick_and_can_be_made_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
