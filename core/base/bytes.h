/* bytes.h - the only way outside bytes are read or written: a cursor that checks every access.
 *
 * An access past the end sets `bad`, returns zeros and changes nothing; check `bad` once at the end.
 * Invariants: no access outside [p, p+left); once `bad` is set every later access is refused too, so that one check
 * at the end covers all of them. */
#ifndef MYFS_BYTES_H
#define MYFS_BYTES_H

#include <endian.h>

#include "core/base/base.h"

struct rcur { /* reader */
	const uint8_t *p;
	size_t left;
	bool bad;
};

static inline struct rcur rcur_of(const void *p, size_t len)
{
	return (struct rcur){.p = p, .left = len, .bad = false};
}

/* Borrowed pointer to the next len bytes, NULL (and bad) when fewer are left. */
static inline const uint8_t *rcur_bytes(struct rcur *c, size_t len)
{
	if (c->bad || len > c->left) {
		c->bad = true;
		return NULL;
	}
	const uint8_t *p = c->p;
	c->p += len;
	c->left -= len;
	return p;
}

/* Every frame and record is a row of these: inline, each is one load and a swap. */
static inline void rcur_copy(struct rcur *c, void *dst, size_t len)
{
	const uint8_t *p = rcur_bytes(c, len);

	if (p)
		memcpy(dst, p, len);
	else
		memset(dst, 0, len);
}

static inline uint8_t rcur_u8(struct rcur *c)
{
	uint8_t v;
	rcur_copy(c, &v, sizeof(v));
	return v;
}

static inline uint16_t rcur_be16(struct rcur *c)
{
	uint16_t v;
	rcur_copy(c, &v, sizeof(v));
	return be16toh(v);
}

static inline uint32_t rcur_be32(struct rcur *c)
{
	uint32_t v;
	rcur_copy(c, &v, sizeof(v));
	return be32toh(v);
}

static inline uint64_t rcur_be64(struct rcur *c)
{
	uint64_t v;
	rcur_copy(c, &v, sizeof(v));
	return be64toh(v);
}

static inline uint32_t rcur_le32(struct rcur *c)
{
	uint32_t v;
	rcur_copy(c, &v, sizeof(v));
	return le32toh(v);
}

static inline uint64_t rcur_le64(struct rcur *c)
{
	uint64_t v;
	rcur_copy(c, &v, sizeof(v));
	return le64toh(v);
}

struct wcur { /* writer */
	uint8_t *p;
	size_t left;
	size_t used;
	bool bad;
};

static inline struct wcur wcur_of(void *p, size_t len)
{
	return (struct wcur){.p = p, .left = len, .used = 0, .bad = false};
}

/* The next len bytes, to be written. False (and bad) when there is no room for them. */
static inline bool wcur_take(struct wcur *c, size_t len, uint8_t **ret)
{
	if (c->bad || len > c->left) {
		c->bad = true;
		return false;
	}
	*ret = c->p;
	c->p += len;
	c->left -= len;
	c->used += len;
	return true;
}

static inline void wcur_copy(struct wcur *c, const void *src, size_t len)
{
	uint8_t *p;

	if (wcur_take(c, len, &p) && len > 0)
		memcpy(p, src, len);
}

static inline void wcur_zeros(struct wcur *c, size_t len)
{
	uint8_t *p;

	if (wcur_take(c, len, &p) && len > 0)
		memset(p, 0, len);
}

static inline void wcur_u8(struct wcur *c, uint8_t v)
{
	uint8_t *p;

	if (wcur_take(c, sizeof(v), &p))
		*p = v;
}

static inline void wcur_be16(struct wcur *c, uint16_t v)
{
	uint8_t *p;

	v = htobe16(v);
	if (wcur_take(c, sizeof(v), &p))
		memcpy(p, &v, sizeof(v));
}

static inline void wcur_be32(struct wcur *c, uint32_t v)
{
	uint8_t *p;

	v = htobe32(v);
	if (wcur_take(c, sizeof(v), &p))
		memcpy(p, &v, sizeof(v));
}

static inline void wcur_be64(struct wcur *c, uint64_t v)
{
	uint8_t *p;

	v = htobe64(v);
	if (wcur_take(c, sizeof(v), &p))
		memcpy(p, &v, sizeof(v));
}

static inline void wcur_le32(struct wcur *c, uint32_t v)
{
	uint8_t *p;

	v = htole32(v);
	if (wcur_take(c, sizeof(v), &p))
		memcpy(p, &v, sizeof(v));
}

static inline void wcur_le64(struct wcur *c, uint64_t v)
{
	uint8_t *p;

	v = htole64(v);
	if (wcur_take(c, sizeof(v), &p))
		memcpy(p, &v, sizeof(v));
}

#endif
