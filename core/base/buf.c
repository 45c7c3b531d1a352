/* buf.c - pooled payload memory, slice lists, iovec cutting.
 *
 * Each thread keeps free lists per size class: a pure cache, bounded by keep_bytes per class, so the data path
 * does not call malloc once it is warm. Memory on a free list is poisoned for AddressSanitizer.
 *
 * Invariants: B1 a buf on a free list has refs == 0. B2 size is at least what was asked for. */
#include "core/base/buf.h"

#if defined(__has_include)
#if __has_include(<sanitizer/asan_interface.h>)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(addr, size) ((void)(addr), (void)(size))
#endif

#define DATA_ALIGN 4096u
#define CLASS_NONE UINT32_MAX /* plain allocation, never kept */
#define ZEROS_BYTES 65536u

/* The two largest take a payload of 256 KiB or 1 MiB with what stands around it in a frame. Blocks are kept in greater number: thousands
 * of them come and go with the changes that a brick has not checkpointed. */
static const struct {
	size_t bytes, keep_bytes;
} classes[] = {
    {KIB(4), MIB(64)}, {KIB(16), MIB(16)}, {KIB(64), MIB(16)}, {KIB(256) + KIB(16), MIB(16)}, {MIB(1) + KIB(64), MIB(16)},
};
#define CLASSES ARRAY_LEN(classes)

struct free_buf { /* what a buf on a free list looks like: its head doubles as the link */
	struct buf buf;
	struct free_buf *next;
};

static _Thread_local struct {
	struct free_buf *head;
	size_t kept_bytes;
} pools[CLASSES];

static const uint8_t zeros[ZEROS_BYTES] __attribute__((aligned(DATA_ALIGN)));

static struct buf *buf_new(size_t size, uint32_t class)
{
	struct free_buf *f = malloc(sizeof(*f));
	if (!f)
		return NULL;
	f->buf.data = aligned_alloc(DATA_ALIGN, size);
	if (!f->buf.data) {
		free(f);
		return NULL;
	}
	f->buf.refs = 1;
	f->buf.pool_class = class;
	f->buf.size = size;
	f->next = NULL;
	return &f->buf;
}

struct buf *buf_alloc(size_t size)
{
	for (uint32_t c = 0; c < CLASSES; c++) {
		if (size > classes[c].bytes)
			continue;
		struct free_buf *f = pools[c].head;
		if (!f)
			return buf_new(classes[c].bytes, c);
		pools[c].head = f->next;
		pools[c].kept_bytes -= classes[c].bytes;
		ASAN_UNPOISON_MEMORY_REGION(f->buf.data, f->buf.size);
		assert(f->buf.refs == 0); /* B1 */
		f->buf.refs = 1;
		return &f->buf;
	}
	if (size > SIZE_MAX - DATA_ALIGN)
		return NULL;
	return buf_new(round_up_u64(size, DATA_ALIGN), CLASS_NONE);
}

void buf_unref(struct buf *b)
{
	if (!b)
		return;
	assert(b->refs > 0);
	if (--b->refs > 0)
		return;

	struct free_buf *f = CONTAINER_OF(b, struct free_buf, buf);
	if (b->pool_class == CLASS_NONE || pools[b->pool_class].kept_bytes + b->size > classes[b->pool_class].keep_bytes) {
		free(b->data);
		free(f);
		return;
	}
	ASAN_POISON_MEMORY_REGION(b->data, b->size);
	f->next = pools[b->pool_class].head;
	pools[b->pool_class].head = f;
	pools[b->pool_class].kept_bytes += b->size;
}

void bufs_init(struct bufs *v)
{
	v->n = 0;
	v->cap = ARRAY_LEN(v->inline_);
	v->bytes = 0;
	v->v = v->inline_;
}

void bufs_release(struct bufs *v)
{
	for (unsigned i = 0; i < v->n; i++)
		buf_unref(v->v[i].owner);
	if (v->v != v->inline_)
		free(v->v);
	bufs_init(v);
}

void bufs_cut(struct bufs *v, size_t bytes)
{
	while (v->bytes > bytes) {
		struct slice *last = &v->v[--v->n];
		assert(last->len <= v->bytes - bytes);
		v->bytes -= last->len;
		buf_unref(last->owner);
	}
}

static int bufs_reserve(struct bufs *v, size_t more)
{
	if (more <= v->cap - v->n)
		return 0;
	if (more > UINT32_MAX / 4 || v->cap > UINT32_MAX / 4)
		return -ENOMEM;

	unsigned cap = v->cap * 2;
	while (cap - v->n < more)
		cap *= 2;
	struct slice *grown = reallocarray(v->v == v->inline_ ? NULL : v->v, cap, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	if (v->v == v->inline_)
		memcpy(grown, v->inline_, v->n * sizeof(*grown));
	v->v = grown;
	v->cap = cap;
	return 0;
}

int bufs_add(struct bufs *v, struct buf *owner, uint8_t *ptr, size_t len)
{
	if (bufs_reserve(v, 1) != 0)
		return -ENOMEM;
	v->v[v->n++] = (struct slice){.owner = owner ? buf_ref(owner) : NULL, .ptr = ptr, .len = len};
	v->bytes += len;
	return 0;
}

int bufs_add_zeros(struct bufs *v, size_t len)
{
	if (bufs_reserve(v, div_up_u64(len, ZEROS_BYTES)) != 0)
		return -ENOMEM;
	for (size_t left = len; left > 0;) {
		size_t piece = min_u64(left, ZEROS_BYTES);
		/* Slices are read-only by convention; a write to these faults. */
		v->v[v->n++] = (struct slice){.owner = NULL, .ptr = (uint8_t *)(uintptr_t)zeros, .len = piece};
		left -= piece;
	}
	v->bytes += len;
	return 0;
}

void bufs_copy_out(const struct bufs *v, size_t off, void *dst, size_t len)
{
	uint8_t *out = dst;

	assert(range_inside(off, len, v->bytes));
	for (unsigned i = 0; len > 0; i++) {
		const struct slice *s = &v->v[i];
		if (off >= s->len) {
			off -= s->len;
			continue;
		}
		size_t piece = min_u64(s->len - off, len);
		memcpy(out, s->ptr + off, piece);
		out += piece;
		len -= piece;
		off = 0;
	}
}

size_t iov_bytes(struct iov v)
{
	size_t sum = 0;

	for (unsigned i = 0; i < v.n; i++)
		sum += v.v[i].iov_len;
	return sum;
}

void iov_copy_out(struct iov v, size_t off, void *dst, size_t len)
{
	uint8_t *out = dst;

	for (unsigned i = 0; len > 0; i++) {
		assert(i < v.n); /* the range is inside */
		if (off >= v.v[i].iov_len) {
			off -= v.v[i].iov_len;
			continue;
		}
		size_t piece = min_u64(v.v[i].iov_len - off, len);
		memcpy(out, (const uint8_t *)v.v[i].iov_base + off, piece);
		out += piece;
		len -= piece;
		off = 0;
	}
}

unsigned iov_cut(struct iov v, size_t off, size_t len, struct iovec *out, unsigned cap)
{
	unsigned n = 0;

	for (unsigned i = 0; len > 0; i++) {
		assert(i < v.n); /* the range is inside */
		if (off >= v.v[i].iov_len) {
			off -= v.v[i].iov_len;
			continue;
		}
		if (n == cap)
			return 0;
		size_t piece = min_u64(v.v[i].iov_len - off, len);
		out[n++] = (struct iovec){.iov_base = (uint8_t *)v.v[i].iov_base + off, .iov_len = piece};
		len -= piece;
		off = 0;
	}
	return n;
}
