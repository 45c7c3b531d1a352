/* disk_names.c - entries and xattrs of the simulated disk, and the ordered changes since they were last durable. */
#include <stdio.h>
#include <sys/stat.h>

#include "tests/sim/disk_priv.h"

/* A name is its first len bytes everywhere here: a part of a path needs no copy. */
static uint64_t hash_of(uint64_t parent, const char *name, size_t len)
{
	uint64_t h = parent * UINT64_C(0x9E3779B97F4A7C15);
	for (; len > 0; name++, len--)
		h = (h ^ (uint8_t)*name) * UINT64_C(1099511628211);
	return h;
}

static struct list *bucket_of(struct disk *d, uint64_t hash)
{
	return &d->buckets[(hash >> 32) % NAME_BUCKETS];
}

static struct entry *entry_new(uint64_t parent, const char *name, struct inode *i)
{
	size_t len = strlen(name) + 1;
	struct entry *e = malloc(sizeof(*e) + len);
	assert(e != NULL);
	e->parent = parent;
	memcpy(e->name, name, len);
	e->inode = i;
	e->hash = hash_of(parent, name, len - 1);
	list_init(&e->in_bucket);
	list_init(&e->in_order);
	list_init(&e->in_dir);
	return e;
}

static void live_add(struct disk *d, struct inode *dir, const char *name, struct inode *i)
{
	struct entry *e = entry_new(dir->ino, name, i);
	list_push_back(bucket_of(d, e->hash), &e->in_bucket);
	list_push_back(&dir->children, &e->in_dir);
	list_push_back(&d->order, &e->in_order);
	i->links++;
}

static void entry_free(struct entry *e)
{
	e->inode->links--;
	list_del(&e->in_bucket);
	list_del(&e->in_order);
	list_del(&e->in_dir);
	free(e);
}

void names_init(struct disk *d)
{
	for (unsigned i = 0; i < NAME_BUCKETS; i++)
		list_init(&d->buckets[i]);
	list_init(&d->order);
	list_init(&d->changes);
	d->root = inode_new(d, S_IFDIR | 0755);
}

static void free_list(struct list *entries)
{
	list_for_each_safe(e, entries, struct entry, in_order)
		entry_free(e);
}

static void free_changes(struct disk *d)
{
	list_for_each_safe(c, &d->changes, struct change, node) {
		list_del(&c->node);
		free(c);
	}
}

void names_free(struct disk *d)
{
	free_list(&d->order);
	free_changes(d);
}

static struct entry *entry_find(struct disk *d, const struct inode *dir, const char *name, size_t len)
{
	uint64_t hash = hash_of(dir->ino, name, len);
	list_for_each(e, bucket_of(d, hash), struct entry, in_bucket)
		if (e->hash == hash && e->parent == dir->ino && strncmp(e->name, name, len) == 0 && e->name[len] == '\0')
			return e;
	return NULL;
}

struct entry *names_entry(struct disk *d, const struct inode *dir, const char *name)
{
	return entry_find(d, dir, name, strlen(name));
}

int names_parent(struct disk *d, const char *path, struct inode **ret_dir, const char **ret_name)
{
	struct inode *at = d->root;
	for (;;) {
		size_t len = strcspn(path, "/");
		if (path[len] == '\0') {
			*ret_dir = at;
			*ret_name = path;
			return 0;
		}
		bool here = len == 0 || (len == 1 && path[0] == '.');
		struct entry *e = here ? NULL : entry_find(d, at, path, len);
		if (e == NULL && !here)
			return -ENOENT;
		if (e != NULL) {
			if (S_ISLNK(e->inode->mode))
				return -ELOOP;
			if (!S_ISDIR(e->inode->mode))
				return -ENOTDIR;
			at = e->inode;
		}
		path += len + 1;
	}
}

int names_find(struct disk *d, const char *path, struct inode **ret)
{
	struct inode *dir;
	const char *name;
	int rc = names_parent(d, path, &dir, &name);
	if (rc < 0)
		return rc;
	if (name[0] == '\0' || strcmp(name, ".") == 0) {
		*ret = dir;
		return 0;
	}
	struct entry *e = names_entry(d, dir, name);
	if (e == NULL)
		return -ENOENT;
	*ret = e->inode;
	return 0;
}

static struct change *change_new(struct disk *d, enum change_kind kind, struct inode *dir, const char *name, struct inode *i, const void *value, size_t len)
{
	size_t name_len = strlen(name) + 1;
	struct change *c = calloc(1, sizeof(*c) + len + name_len);
	assert(c != NULL);
	c->kind = kind;
	c->dir = dir;
	c->name = (char *)c->value + len;
	memcpy(c->name, name, name_len);
	c->inode = i;
	c->len = len;
	if (len > 0)
		memcpy(c->value, value, len);
	list_push_back(&d->changes, &c->node);
	return c;
}

void names_add(struct disk *d, struct inode *dir, const char *name, struct inode *i)
{
	live_add(d, dir, name, i);
	change_new(d, CHANGE_ADD, dir, name, i, NULL, 0);
}

void names_del(struct disk *d, struct inode *dir, struct entry *e)
{
	change_new(d, CHANGE_DEL, dir, e->name, e->inode, NULL, 0);
	entry_free(e);
}

void names_move(struct disk *d, struct inode *from_dir, struct entry *from, struct inode *to_dir, const char *to_name, struct entry *to)
{
	struct inode *i = from->inode;
	if (to != NULL) {
		names_del(d, to_dir, to);
		list_entry(d->changes.prev, struct change, node)->more = true;
	}
	names_del(d, from_dir, from);
	list_entry(d->changes.prev, struct change, node)->more = true;
	names_add(d, to_dir, to_name, i);
}

unsigned names_links(const struct disk *d, const struct inode *i)
{
	(void)d;
	return i->links;
}

bool names_dir_empty(const struct disk *d, const struct inode *dir)
{
	(void)d;
	return list_empty(&dir->children);
}

bool names_path_of(const struct disk *d, const struct inode *i, char *out, size_t cap)
{
	if (i == d->root) {
		out[0] = '\0';
		return true;
	}
	list_for_each(e, &d->order, struct entry, in_order) {
		if (e->inode != i)
			continue;
		list_for_each(p, &d->inodes, struct inode, node) {
			if (p->ino != e->parent)
				continue;
			char parent[512];
			if (!names_path_of(d, p, parent, sizeof(parent)))
				return false;
			snprintf(out, cap, "%s/%s", parent, e->name);
			return true;
		}
	}
	return false;
}

/* ---- xattrs ---- */

struct xattr *xattr_find(struct inode *i, const char *name)
{
	list_for_each(x, &i->xattrs, struct xattr, node)
		if (strcmp(x->name, name) == 0)
			return x;
	return NULL;
}

static void set_now(struct inode *i, const char *name, const void *value, size_t len)
{
	size_t name_len = strlen(name) + 1;
	struct xattr *old = xattr_find(i, name), *x = malloc(sizeof(*x) + len + name_len);
	assert(x != NULL);
	x->name = (char *)x->value + len;
	memcpy(x->name, name, name_len);
	x->len = len;
	if (len > 0)
		memcpy(x->value, value, len);
	if (old != NULL) {
		list_del(&old->node);
		free(old);
	}
	list_push_back(&i->xattrs, &x->node);
}

void names_setxattr(struct disk *d, struct inode *i, const char *name, const void *value, size_t len)
{
	struct xattr *old = xattr_find(i, name);
	/* The change remembers what it replaced, so that a crash can undo it. */
	struct change *c = change_new(d, old != NULL ? CHANGE_SETXATTR : CHANGE_RMXATTR, NULL, name, i, old ? old->value : NULL, old ? old->len : 0);
	(void)c;
	set_now(i, name, value, len);
}

void names_rmxattr(struct disk *d, struct inode *i, struct xattr *x)
{
	change_new(d, CHANGE_SETXATTR, NULL, x->name, i, x->value, x->len);
	list_del(&x->node);
	free(x);
}

/* ---- durability ---- */

void names_sync(struct disk *d)
{
	free_changes(d);
}

static void undo(struct disk *d, const struct change *c)
{
	struct xattr *x;
	switch (c->kind) {
	case CHANGE_ADD:
		list_for_each_safe(e, &c->dir->children, struct entry, in_dir)
			if (e->inode == c->inode && strcmp(e->name, c->name) == 0)
				entry_free(e);
		break;
	case CHANGE_DEL:
		live_add(d, c->dir, c->name, c->inode);
		break;
	case CHANGE_SETXATTR:
		set_now(c->inode, c->name, c->value, c->len);
		break;
	case CHANGE_RMXATTR:
		x = xattr_find(c->inode, c->name);
		if (x != NULL) {
			list_del(&x->node);
			free(x);
		}
		break;
	}
}

/* A random prefix of the changes reached the journal of the file system; the others are undone, newest first. */
void names_crash(struct disk *d)
{
	size_t n = 0, keep;
	list_for_each(c, &d->changes, struct change, node)
		n++;
	keep = d->crash == CRASH_KEEPS ? n : d->crash == CRASH_LOSES ? 0 : prng_below(world_prng(d->world), n + 1);
	while (n > keep || (n > 0 && list_entry(d->changes.prev, struct change, node)->more)) { /* more: with the one just undone */
		struct change *c = list_entry(d->changes.prev, struct change, node);
		undo(d, c);
		list_del(&c->node);
		free(c);
		n--;
	}
	free_changes(d);
}

/* ---- images ---- */

static struct inode *inode_by_number(struct inode *const *v, uint64_t n, uint64_t ino)
{
	return ino <= n ? v[ino] : NULL;
}

void names_clone(struct disk *d, const struct disk *from, struct inode *const *inodes)
{
	list_for_each(e, &from->order, struct entry, in_order)
		live_add(d, inode_by_number(inodes, from->next_ino, e->parent), e->name, inode_by_number(inodes, from->next_ino, e->inode->ino));
	list_for_each(i, &from->inodes, struct inode, node)
		list_for_each(x, &i->xattrs, struct xattr, node)
			set_now(inode_by_number(inodes, from->next_ino, i->ino), x->name, x->value, x->len);
}
