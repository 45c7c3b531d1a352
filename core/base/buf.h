/* buf.h - reference-counted payload memory and vectors of slices of it.
 *
 * Payload is received once into a pooled buf and travels as slices; whoever keeps a slice holds a
 * reference. One loop owns its bufs: counts are not atomic. */
#ifndef MYFS_BUF_H
#define MYFS_BUF_H

#include <sys/uio.h>

#include "core/base/base.h"

struct buf {
	uint32_t refs;
	uint32_t pool_class; /* private to buf.c: which free list it returns to */
	size_t size;
	uint8_t *data;       /* 4096-byte aligned */
};

/* Owned: refs = 1. Sizes are rounded up to a pool class (4K, 16K, 64K, 272K, 1M+64K); larger ones
 * are plain allocations. NULL when out of memory. */
struct buf *buf_alloc(size_t size);
static inline struct buf *buf_ref(struct buf *b) { b->refs++; return b; }
void buf_unref(struct buf *b); /* NULL is fine */

/* A run of bytes. owner == NULL: static memory (the zero page). */
struct slice {
	struct buf *owner;
	uint8_t *ptr;
	size_t len;
};

/* A growable list of slices; `inline_` avoids allocation for small ones. */
struct bufs {
	unsigned n, cap;
	size_t bytes;
	struct slice *v;
	struct slice inline_[8];
};

void bufs_init(struct bufs *v);
void bufs_release(struct bufs *v); /* drops every reference; v is empty and reusable afterwards */
/* Drops what lies behind the first `bytes`; they end with a slice. */
void bufs_cut(struct bufs *v, size_t bytes);
/* Appends [ptr, ptr+len) of owner (takes a new reference). 0 or -ENOMEM. */
int bufs_add(struct bufs *v, struct buf *owner, uint8_t *ptr, size_t len);
/* Appends len zero bytes without memory of their own. 0 or -ENOMEM. */
int bufs_add_zeros(struct bufs *v, size_t len);
/* Copies [off, off+len) of the list into dst; the range must be inside. */
void bufs_copy_out(const struct bufs *v, size_t off, void *dst, size_t len);

/* Borrowed view of caller memory for writes: a plain iovec array. owner: NULL, or what all of the bytes lie in and nobody will change:
 * whoever wants them for longer takes a reference instead of a copy. */
struct iov {
	const struct iovec *v;
	unsigned n;
	struct buf *owner;
};
size_t iov_bytes(struct iov v);
void iov_copy_out(struct iov v, size_t off, void *dst, size_t len);
/* Fills out[] (cap entries) with the pieces of v covering [off, off+len); returns how many, 0 when cap is too small. */
unsigned iov_cut(struct iov v, size_t off, size_t len, struct iovec *out, unsigned cap);

#endif
