/* brick_fixture.h - a throw-away brick directory for tests, and a fiber to work in. */
#ifndef MYFS_TEST_BRICK_FIXTURE_H
#define MYFS_TEST_BRICK_FIXTURE_H

#include <ftw.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "brick/tree.h"
#include "loop_fixture.h"

struct brick_dir {
	char path[64];
	struct store *s;
	struct brick_identity id;
};

static inline int brick_dir_remove_one(const char *path, const struct stat *st, int type, struct FTW *w)
{
	(void)st;
	(void)type;
	(void)w;
	return remove(path);
}

static inline struct gfid test_gfid(uint8_t n)
{
	struct gfid g;

	memset(g.b, n, sizeof(g.b));
	return g;
}

/* Where bricks are made. */
static const char *brick_dir_base = "/tmp";
static uint64_t brick_dir_journal_bytes = MIB(16);

/* Memory, when it takes our xattrs. */
static inline const char *brick_dir_fast_base(void)
{
	char probe[] = "/dev/shm/myfs-probe-XXXXXX";
	bool ok = false;

	if (!mkdtemp(probe))
		return "/tmp";
	ok = setxattr(probe, geteuid() == 0 ? "trusted.probe" : "user.probe", "1", 1, 0) == 0;
	rmdir(probe);
	return ok ? "/dev/shm" : "/tmp";
}

/* An empty directory, not a brick yet. */
static inline void brick_dir_make(struct brick_dir *d)
{
	struct err e = ERR_INIT;

	memset(d, 0, sizeof(*d));
	snprintf(d->path, sizeof(d->path), "%s/myfs-brick-XXXXXX", brick_dir_base);
	CHECK(mkdtemp(d->path));
	CHECK(store_open_posix(d->path, &d->s, &e) == 0);
	d->id = (struct brick_identity){.volume = test_gfid(1),
					.brick = test_gfid(2),
					.brick_index = 3,
					.k = 4,
					.r = 2,
					.chunk_bytes = 16384,
					.journal_bytes = brick_dir_journal_bytes};
}

static inline void brick_dir_create(struct brick_dir *d)
{
	struct err e = ERR_INIT;

	brick_dir_make(d);
	int rc = tree_create(d->s, &d->id, false, &e);
	if (rc)
		fprintf(stderr, "tree_create: %s\n", e.text);
	CHECK(rc == 0);
}

static inline struct tree *brick_dir_open(struct brick_dir *d)
{
	struct tree *t = NULL;
	struct err e = ERR_INIT;

	int rc = tree_open(d->s, &t, NULL, &e);
	if (rc)
		fprintf(stderr, "tree_open: %s\n", e.text);
	CHECK(rc == 0);
	return t;
}

/* Closes and opens store and tree, as a restart of the daemon does. */
static inline struct tree *brick_dir_reopen(struct brick_dir *d, struct tree *t)
{
	tree_close(t);
	store_close(d->s);
	CHECK(store_open_posix(d->path, &d->s, NULL) == 0);
	return brick_dir_open(d);
}

static inline void brick_dir_remove(struct brick_dir *d)
{
	store_close(d->s);
	int rc = nftw(d->path, brick_dir_remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (rc)
		fprintf(stderr, "%s: %s\n", d->path, strerror(errno));
	CHECK(rc == 0);
}

#endif
