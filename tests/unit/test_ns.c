/* test_ns.c - namespace operations on one brick: what they make, that they may be repeated, and what they refuse. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>


#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "brick/frag.h"
#include "brick/ns.h"
#include "core/rpc/rpc.h"
#include "brick_fixture.h"

static const char *in(const struct brick_dir *d, const char *path)
{
	static char full[512];

	snprintf(full, sizeof(full), "%s/%s", d->path, path);
	return full;
}

static bool there(const struct brick_dir *d, const char *path)
{
	struct stat st;

	return lstat(in(d, path), &st) == 0;
}

static const char *handle_of(const struct gfid *g)
{
	static char path[TREE_PATH];

	return tree_handle_path(g, path);
}

/* ---- operations in one line each ---- */

struct xattr_arg {
	const char *name, *value;
	unsigned len;
};

static int apply(struct tree *t, u_int what, const struct gfid *parent, const char *name, const struct gfid *gfid,
		 const struct gfid *parent2, const char *name2, const struct xattr_arg *x)
{
	struct bp_xattr xattr = {0};
	struct bp_nsop_args op = {.op = what, .name = (char *)(uintptr_t)name, .name2 = (char *)(uintptr_t)name2};

	memcpy(op.parent, parent->b, 16);
	memcpy(op.gfid, gfid->b, 16);
	if (parent2)
		memcpy(op.parent2, parent2->b, 16);
	if (x) {
		xattr.name = (char *)(uintptr_t)x->name;
		xattr.value.value_val = (char *)(uintptr_t)x->value;
		xattr.value.value_len = x->len;
		op.xattrs.xattrs_val = &xattr;
		op.xattrs.xattrs_len = 1;
	}
	return ns_apply(t, &op);
}

static int mkdir_at(struct tree *t, const struct gfid *parent, const char *name, const struct gfid *g)
{
	return apply(t, BP_NS_MKDIR, parent, name, g, NULL, "", NULL);
}

static int mkfile(struct tree *t, const struct gfid *parent, const char *name, const struct gfid *g)
{
	return apply(t, BP_NS_MKFILE, parent, name, g, NULL, "", NULL);
}

static int unlink_at(struct tree *t, const struct gfid *parent, const char *name, const struct gfid *g)
{
	return apply(t, BP_NS_UNLINK, parent, name, g, NULL, "", NULL);
}

static int rename_to(struct tree *t, const struct gfid *p, const char *name, const struct gfid *p2, const char *name2,
		     const struct gfid *g)
{
	return apply(t, BP_NS_RENAME, p, name, g, p2, name2, NULL);
}

static int setxattr_of(struct tree *t, const struct gfid *g, const char *name, const char *value, unsigned len)
{
	return apply(t, BP_NS_SETXATTR, &GFID_NULL, "", g, NULL, "", &(struct xattr_arg){name, value, len});
}

/* gfid and xattr count of a name; -ENOENT and so on. */
static int lookup(struct tree *t, const struct gfid *parent, const char *name, struct gfid *ret)
{
	struct bp_nsread_args a = {.op = BP_NS_LOOKUP, .name = (char *)(uintptr_t)name};
	struct bp_nsread_res res = {0};

	memcpy(a.gfid, parent->b, 16);
	int rc = ns_read(t, &a, &res);
	if (rc == 0) {
		CHECK(res.entries.entries_len == 1 && strcmp(res.entries.entries_val[0].name, name) == 0);
		memcpy(ret->b, res.entries.entries_val[0].gfid, 16);
	}
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	return rc;
}

static bool names(struct tree *t, const struct gfid *parent, const char *name, const struct gfid *g)
{
	struct gfid found;

	return lookup(t, parent, name, &found) == 0 && gfid_eq(&found, g);
}

/* A brick with /block. */
static struct gfid block;
static struct tree *start(struct brick_dir *d)
{
	brick_dir_create(d);
	struct tree *t = brick_dir_open(d);
	block = test_gfid(0x6d);
	CHECK(mkdir_at(t, &GFID_ROOT, "block", &block) == 0);
	return t;
}

static void finish(struct brick_dir *d, struct tree *t)
{
	tree_close(t);
	brick_dir_remove(d);
}

/* ---- directories ---- */

static void mkdir_body(void *arg)
{
	struct brick_dir d;
	struct gfid sub = test_gfid(7), other = test_gfid(8);
	char target[256] = {0}, path[TREE_PATH];

	(void)arg;
	struct tree *t = start(&d);
	for (int twice = 0; twice < 2; twice++)
		CHECK(mkdir_at(t, &block, "sub", &sub) == 0);
	CHECK(there(&d, "block/sub"));
	CHECK(readlink(in(&d, handle_of(&sub)), target, sizeof(target) - 1) > 0);
	CHECK(strcmp(target, "../../6d/6d/6d6d6d6d-6d6d-6d6d-6d6d-6d6d6d6d6d6d/sub") == 0);
	CHECK(there(&d, ".glusterfs/07/07/07070707-0707-0707-0707-070707070707/."));
	CHECK(tree_dir_path(t, &sub, path) == 0 && strcmp(path, "block/sub") == 0);
	CHECK(mkdir_at(t, &block, "sub", &other) == -EEXIST);
	CHECK(mkdir_at(t, &block, "elsewhere", &sub) == -EEXIST);
	CHECK(mkdir_at(t, &other, "x", &other) == -ENOENT);
	CHECK(names(t, &GFID_ROOT, ".shard", &GFID_SHARD_DIR));
	CHECK(mkdir_at(t, &GFID_ROOT, ".shard", &GFID_SHARD_DIR) == 0);
	finish(&d, t);
}

static void mkdir_makes_a_directory_and_its_handle(void **state)
{
	(void)state;
	on_every_backend(mkdir_body);
}

static void half_mkdir_body(void *arg)
{
	struct brick_dir d;
	struct gfid sub = test_gfid(7);

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkdir(in(&d, "block/sub"), 0700) == 0); /* the crash came before the gfid */
	CHECK(mkdir_at(t, &block, "sub", &sub) == 0);
	CHECK(names(t, &block, "sub", &sub));
	CHECK(unlink(in(&d, handle_of(&sub))) == 0); /* before the handle */
	CHECK(mkdir_at(t, &block, "sub", &sub) == 0);
	CHECK(there(&d, handle_of(&sub)));
	finish(&d, t);
}

static void a_half_done_mkdir_is_completed(void **state)
{
	(void)state;
	on_every_backend(half_mkdir_body);
}

static void rmdir_body(void *arg)
{
	struct brick_dir d;
	struct gfid sub = test_gfid(7), file = test_gfid(8);

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkdir_at(t, &block, "sub", &sub) == 0);
	CHECK(mkfile(t, &sub, "f", &file) == 0);
	CHECK(unlink_at(t, &block, "sub", &sub) == -ENOTEMPTY);
	CHECK(unlink_at(t, &sub, "f", &file) == 0);
	for (int twice = 0; twice < 2; twice++)
		CHECK(unlink_at(t, &block, "sub", &sub) == 0);
	CHECK(!there(&d, "block/sub") && !there(&d, handle_of(&sub)));
	CHECK(unlink_at(t, &sub, "f", &file) == 0); /* the directory went with all its names */
	finish(&d, t);
}

static void unlink_takes_empty_directories(void **state)
{
	(void)state;
	on_every_backend(rmdir_body);
}

/* ---- files ---- */

static void mkfile_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7), other = test_gfid(8);
	struct stat a, b;
	char v[128], name[64];

	(void)arg;
	struct tree *t = start(&d);
	for (int twice = 0; twice < 2; twice++)
		CHECK(mkfile(t, &block, "lun", &g) == 0);
	CHECK(stat(in(&d, "block/lun"), &a) == 0 && a.st_nlink == 2);
	CHECK(stat(in(&d, handle_of(&g)), &b) == 0 && a.st_ino == b.st_ino);
	CHECK(names(t, &block, "lun", &g));
	CHECK(mkfile(t, &block, "lun", &other) == -EEXIST);
	CHECK(names(t, &block, "lun", &g) && !there(&d, handle_of(&other)));
	CHECK(mkfile(t, &block, "block", &block) == -EEXIST); /* a directory has that gfid */
	snprintf(name, sizeof(name), "%sgfid2path.", tree_xattr_prefix(t));
	char list[1024];
	ssize_t n = listxattr(in(&d, "block/lun"), list, sizeof(list)), found = 0;
	for (const char *p = list; p < list + n; p += strlen(p) + 1) {
		if (strncmp(p, name, strlen(name)) == 0) {
			ssize_t len = getxattr(in(&d, "block/lun"), p, v, sizeof(v));
			CHECK(len == 40 && memcmp(v, "6d6d6d6d-6d6d-6d6d-6d6d-6d6d6d6d6d6d/lun", 40) == 0);
			found++;
		}
	}
	CHECK(found == 1);
	finish(&d, t);
}

static void mkfile_makes_a_file_with_handle_and_gfid2path(void **state)
{
	(void)state;
	on_every_backend(mkfile_body);
}

static void late_name_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct frag *f;
	struct stat st;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(frag_get(t, &g, 0, true, &f) == 0); /* data came before the brick learnt the name */
	frag_put(f);
	CHECK(stat(in(&d, handle_of(&g)), &st) == 0 && st.st_nlink == 1);
	CHECK(mkfile(t, &block, "lun", &g) == 0);
	CHECK(stat(in(&d, "block/lun"), &st) == 0 && st.st_nlink == 2);
	CHECK(unlink(in(&d, handle_of(&g))) == 0); /* a lost handle comes back from the name */
	CHECK(mkfile(t, &block, "lun", &g) == 0);
	CHECK(stat(in(&d, handle_of(&g)), &st) == 0 && st.st_nlink == 2);
	finish(&d, t);
}

static void mkfile_joins_what_is_there_of_the_file(void **state)
{
	(void)state;
	on_every_backend(late_name_body);
}

static void unlink_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7), other = test_gfid(8);
	uint64_t bits[1];
	uint32_t max;
	struct frag *f;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "lun", &g) == 0);
	for (uint32_t n = 0; n < 3; n++) {
		CHECK(frag_get(t, &g, n, true, &f) == 0);
		CHECK(n > 0 || unlink_at(t, &block, "lun", &g) == -EBUSY);
		frag_put(f);
	}
	CHECK(unlink_at(t, &block, "lun", &other) == 0); /* not the one meant: success, and nothing happens */
	CHECK(names(t, &block, "lun", &g));
	for (int twice = 0; twice < 2; twice++)
		CHECK(unlink_at(t, &block, "lun", &g) == 0);
	CHECK(!there(&d, "block/lun") && !there(&d, handle_of(&g)));
	CHECK(frag_list(t, &g, bits, 64, &max) == 0 && max == 0);
	CHECK(frag_get(t, &g, 0, false, &f) == -ENOENT && frag_get(t, &g, 1, false, &f) == -ENOENT);
	finish(&d, t);
}

static void unlink_takes_name_handle_and_all_shards(void **state)
{
	(void)state;
	on_every_backend(unlink_body);
}

static void nameless_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct frag *f;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(frag_get(t, &g, 0, true, &f) == 0);
	frag_put(f);
	CHECK(frag_get(t, &g, 5, true, &f) == 0);
	frag_put(f);
	CHECK(unlink_at(t, &block, "lun", &g) == 0);
	CHECK(!there(&d, handle_of(&g)));
	CHECK(frag_get(t, &g, 5, false, &f) == -ENOENT);
	finish(&d, t);
}

static void unlink_of_a_file_whose_name_never_came_takes_its_data(void **state)
{
	(void)state;
	on_every_backend(nameless_body);
}

static void two_names_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct frag *f;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "a", &g) == 0);
	CHECK(mkfile(t, &block, "b", &g) == 0);
	CHECK(frag_get(t, &g, 1, true, &f) == 0);
	frag_put(f);
	CHECK(unlink_at(t, &block, "a", &g) == 0);
	CHECK(!there(&d, "block/a") && names(t, &block, "b", &g));
	CHECK(unlink_at(t, &block, "a", &g) == 0); /* repeated: it lives on under b */
	CHECK(frag_get(t, &g, 1, false, &f) == 0);
	frag_put(f);
	CHECK(unlink_at(t, &block, "b", &g) == 0);
	CHECK(frag_get(t, &g, 1, false, &f) == -ENOENT);
	finish(&d, t);
}

static void data_goes_with_the_last_name(void **state)
{
	(void)state;
	on_every_backend(two_names_body);
}

static void rename_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7), other = test_gfid(8), sub = test_gfid(9), inner = test_gfid(10);
	struct bp_nsread_args a = {.op = BP_NS_STATX, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	char path[TREE_PATH];

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "a", &g) == 0);
	CHECK(mkfile(t, &block, "other", &other) == 0);
	CHECK(rename_to(t, &block, "a", &block, "other", &g) == -EEXIST);
	CHECK(rename_to(t, &block, "nothing", &block, "b", &g) == -ENOENT);
	CHECK(rename_to(t, &block, "a", &block, "b", &other) == -ENOENT);
	for (int twice = 0; twice < 2; twice++)
		CHECK(rename_to(t, &block, "a", &block, ".trash.x", &g) == 0);
	CHECK(!there(&d, "block/a") && names(t, &block, ".trash.x", &g));
	memcpy(a.gfid, g.b, 16);
	CHECK(ns_read(t, &a, &res) == 0); /* gfid2path says the new name */
	CHECK(strcmp(res.entries.entries_val[0].name, ".trash.x") == 0);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	CHECK(mkdir_at(t, &block, "sub", &sub) == 0 && mkdir_at(t, &sub, "inner", &inner) == 0);
	for (int twice = 0; twice < 2; twice++)
		CHECK(rename_to(t, &block, "sub", &GFID_ROOT, "top", &sub) == 0);
	CHECK(tree_dir_path(t, &inner, path) == 0 && strcmp(path, "top/inner") == 0);
	CHECK(rename_to(t, &block, ".trash.x", &inner, "back", &g) == 0);
	CHECK(names(t, &inner, "back", &g));
	finish(&d, t);
}

static void rename_moves_files_and_directories_once(void **state)
{
	(void)state;
	on_every_backend(rename_body);
}

static void rename_both_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct stat st;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "a", &g) == 0 && mkfile(t, &block, "b", &g) == 0);
	CHECK(rename_to(t, &block, "a", &block, "b", &g) == 0);
	CHECK(!there(&d, "block/a") && stat(in(&d, "block/b"), &st) == 0 && st.st_nlink == 2);
	CHECK(rename_to(t, &block, "b", &block, "b", &g) == 0);
	finish(&d, t);
}

static void rename_onto_its_own_other_name_leaves_one(void **state)
{
	(void)state;
	on_every_backend(rename_both_body);
}

static void setxattr_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	char v[16], name[64];

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "lun", &g) == 0);
	CHECK(setxattr_of(t, &g, "ec.size", "12345678", 8) == 0);
	CHECK(setxattr_of(t, &block, "glusterfs.dht", "0123456789abcdef", 16) == 0);
	CHECK(setxattr_of(t, &GFID_ROOT, "glusterfs.dht", "0123456789abcdef", 16) == 0);
	snprintf(name, sizeof(name), "%sec.size", tree_xattr_prefix(t));
	CHECK(getxattr(in(&d, "block/lun"), name, v, sizeof(v)) == 8 && memcmp(v, "12345678", 8) == 0);
	snprintf(name, sizeof(name), "%sglusterfs.dht", tree_xattr_prefix(t));
	CHECK(getxattr(d.path, name, v, sizeof(v)) == 16);
	CHECK(setxattr_of(t, &g, "ec.size", "", 0) == 0);
	CHECK(setxattr_of(t, &g, "ec.size", "", 0) == 0);
	snprintf(name, sizeof(name), "%sec.size", tree_xattr_prefix(t));
	CHECK(getxattr(in(&d, "block/lun"), name, v, sizeof(v)) < 0);
	struct gfid nobody = test_gfid(99);
	CHECK(setxattr_of(t, &nobody, "ec.size", "1", 1) == -ENOENT);
	finish(&d, t);
}

static void setxattr_sets_and_an_empty_value_removes(void **state)
{
	(void)state;
	on_every_backend(setxattr_body);
}

/* ---- bad input ---- */

static void bad_body(void *arg)
{
	static const char *const bad_names[] = {"", ".", "..", "a/b", "/", "/etc"};
	static const struct {
		const char *name;
		int rc;
	} xattrs[] = {
	    {"gfid", -EPERM},
	    {"glusterfs.volume-id", -EPERM},
	    {"gfid2path.0011223344556677", -EPERM},
	    {"ec.version", -EPERM},
	    {"ec.dirty", -EPERM},
	    {"glusterfs.mdata", -EPERM},
	    {"", -EINVAL},
	    {"Upper", -EINVAL},
	    {"with space", -EINVAL},
	    {"ec.config", -EINVAL},
	};
	struct brick_dir d;
	struct gfid g = test_gfid(7), found;
	char long_name[300];

	(void)arg;
	struct tree *t = start(&d);
	memset(long_name, 'x', sizeof(long_name));
	long_name[256] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(bad_names); i++) {
		CHECK(mkfile(t, &block, bad_names[i], &g) == -EINVAL);
		CHECK(mkdir_at(t, &block, bad_names[i], &g) == -EINVAL);
		CHECK(unlink_at(t, &block, bad_names[i], &g) == -EINVAL);
		CHECK(rename_to(t, &block, "a", &block, bad_names[i], &g) == -EINVAL);
		CHECK(lookup(t, &block, bad_names[i], &found) == -EINVAL);
	}
	CHECK(mkfile(t, &block, long_name, &g) == -EINVAL);
	long_name[255] = '\0';
	CHECK(mkfile(t, &block, long_name, &g) == 0);
	CHECK(mkfile(t, &GFID_ROOT, ".glusterfs", &g) == -EINVAL);
	CHECK(rename_to(t, &GFID_ROOT, ".glusterfs", &block, "mine", &g) == -EINVAL);
	CHECK(lookup(t, &GFID_ROOT, ".glusterfs", &found) == -EINVAL);
	CHECK(mkfile(t, &block, "x", &GFID_NULL) == -EINVAL);
	CHECK(mkdir_at(t, &block, "x", &GFID_ROOT) == -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(xattrs); i++)
		CHECK(setxattr_of(t, &g, xattrs[i].name, "v", 1) == xattrs[i].rc);
	CHECK(setxattr_of(t, &g, "ec.config", "\0\1\10\6\2\0\x40\0", 8) == 0); /* saying what is so is fine */
	CHECK(apply(t, 77, &block, "x", &g, NULL, "", NULL) == -EINVAL);
	CHECK(mkfile(t, &g, "below-a-file", &block) == -ENOTDIR);
	finish(&d, t);
}

static void bad_names_gfids_and_xattrs_are_refused(void **state)
{
	(void)state;
	on_every_backend(bad_body);
}

/* ---- reading ---- */

static void readdir_body(void *arg)
{
	struct brick_dir d;
	struct bp_nsread_args a = {.op = BP_NS_READDIR, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkdir(in(&d, "lost+found"), 0700) == 0);
	memcpy(a.gfid, GFID_ROOT.b, 16);
	CHECK(ns_read(t, &a, &res) == 0);
	CHECK(res.entries.entries_len == 2 && !res.more);
	CHECK(strcmp(res.entries.entries_val[0].name, ".shard") == 0 &&
	      strcmp(res.entries.entries_val[1].name, "block") == 0);
	CHECK(res.entries.entries_val[1].is_dir && memcmp(res.entries.entries_val[1].gfid, block.b, 16) == 0);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	memset(&res, 0, sizeof(res));
	a.name = (char *)(uintptr_t) ".shard";
	CHECK(ns_read(t, &a, &res) == 0 && res.entries.entries_len == 1);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	memset(&res, 0, sizeof(res));
	memset(a.gfid, 0x55, 16);
	CHECK(ns_read(t, &a, &res) == -ENOENT);
	a.op = 9;
	CHECK(ns_read(t, &a, &res) == -EINVAL);
	finish(&d, t);
}

static void readdir_shows_what_has_a_gfid_in_name_order(void **state)
{
	(void)state;
	on_every_backend(readdir_body);
}

static void pages_body(void *arg)
{
	enum { N = 4200 };
	struct brick_dir d;
	struct bp_nsread_args a = {.op = BP_NS_READDIR};
	char name[256], last[256] = "", prefix[32];
	unsigned seen = 0, pages = 0;
	bool more = true;

	(void)arg;
	struct tree *t = start(&d);
	snprintf(prefix, sizeof(prefix), "%sgfid", tree_xattr_prefix(t));
	for (int i = 0; i < N; i++) { /* long names: the answer is full before BP_MAX_NAMES */
		char path[300];
		struct gfid g = test_gfid(3);
		g.b[0] = (uint8_t)(i >> 8);
		g.b[1] = (uint8_t)i;
		memset(name, 'n', sizeof(name));
		snprintf(name + 240, 16, "%06d", i);
		snprintf(path, sizeof(path), "block/%s", name);
		int fd = open(in(&d, path), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
		CHECK(fd >= 0 && fsetxattr(fd, prefix, g.b, 16, 0) == 0);
		close(fd);
	}
	memcpy(a.gfid, block.b, 16);
	while (more) {
		struct bp_nsread_res res = {0};
		a.name = last;
		CHECK(ns_read(t, &a, &res) == 0);
		CHECK(xdr_sizeof((xdrproc_t)xdr_bp_nsread_res, &res) <= RPC_BODY_MAX);
		for (u_int i = 0; i < res.entries.entries_len; i++) {
			CHECK(strcmp(res.entries.entries_val[i].name, i ? res.entries.entries_val[i - 1].name : last) >
			      0);
			seen++;
		}
		CHECK(res.entries.entries_len > 0);
		snprintf(last, sizeof(last), "%s", res.entries.entries_val[res.entries.entries_len - 1].name);
		more = res.more;
		pages++;
		xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	}
	CHECK(seen == N && pages > 1);
	finish(&d, t);
}

static void a_large_directory_comes_in_pages_that_fit_a_frame(void **state)
{
	(void)state;
	on_backend(LOOP_AUTO, pages_body);
}

static void statx_body(void *arg)
{
	struct brick_dir d;
	struct gfid g = test_gfid(7);
	struct bp_nsread_args a = {.op = BP_NS_STATX, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	bool size = false, config = false;

	(void)arg;
	struct tree *t = start(&d);
	CHECK(mkfile(t, &block, "lun", &g) == 0 && setxattr_of(t, &g, "ec.size", "12345678", 8) == 0);
	memcpy(a.gfid, g.b, 16);
	CHECK(ns_read(t, &a, &res) == 0 && res.entries.entries_len == 1);
	struct bp_entry *entry = &res.entries.entries_val[0];
	CHECK(strcmp(entry->name, "lun") == 0 && !entry->is_dir);
	for (u_int i = 0; i < entry->xattrs.xattrs_len; i++) {
		const struct bp_xattr *x = &entry->xattrs.xattrs_val[i];
		CHECK(strcmp(x->name, "gfid") != 0 && strncmp(x->name, "gfid2path", 9) != 0);
		size |= strcmp(x->name, "ec.size") == 0 && x->value.value_len == 8 &&
			memcmp(x->value.value_val, "12345678", 8) == 0;
		config |= strcmp(x->name, "ec.config") == 0 && x->value.value_len == 8;
	}
	CHECK(size && config);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	memset(&res, 0, sizeof(res));
	memcpy(a.gfid, block.b, 16);
	CHECK(ns_read(t, &a, &res) == 0 && res.entries.entries_val[0].is_dir);
	CHECK(strcmp(res.entries.entries_val[0].name, "block") == 0);
	xdr_free((xdrproc_t)xdr_bp_nsread_res, (char *)&res);
	finish(&d, t);
}

static void statx_tells_name_and_xattrs(void **state)
{
	(void)state;
	on_every_backend(statx_body);
}

int main(void)
{
	brick_dir_base = brick_dir_fast_base(); /* nothing here depends on a real disk */
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mkdir_makes_a_directory_and_its_handle),
	    cmocka_unit_test(a_half_done_mkdir_is_completed),
	    cmocka_unit_test(unlink_takes_empty_directories),
	    cmocka_unit_test(mkfile_makes_a_file_with_handle_and_gfid2path),
	    cmocka_unit_test(mkfile_joins_what_is_there_of_the_file),
	    cmocka_unit_test(unlink_takes_name_handle_and_all_shards),
	    cmocka_unit_test(unlink_of_a_file_whose_name_never_came_takes_its_data),
	    cmocka_unit_test(data_goes_with_the_last_name),
	    cmocka_unit_test(rename_moves_files_and_directories_once),
	    cmocka_unit_test(rename_onto_its_own_other_name_leaves_one),
	    cmocka_unit_test(setxattr_sets_and_an_empty_value_removes),
	    cmocka_unit_test(bad_names_gfids_and_xattrs_are_refused),
	    cmocka_unit_test(readdir_shows_what_has_a_gfid_in_name_order),
	    cmocka_unit_test(a_large_directory_comes_in_pages_that_fit_a_frame),
	    cmocka_unit_test(statx_tells_name_and_xattrs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
