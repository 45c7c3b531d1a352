/* bytes.c - checked cursors over outside bytes.
 *
 * Invariants: no access outside [p, p+left); once `bad` is set every later access is refused too, so that one check
 * at the end covers all of them. */
#include "core/base/bytes.h"

const uint8_t *rcur_bytes(struct rcur *c, size_t len)
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

static uint64_t rcur_be(struct rcur *c, size_t len)
{
	const uint8_t *p = rcur_bytes(c, len);
	uint64_t v = 0;

	for (size_t i = 0; p && i < len; i++)
		v = v << 8 | p[i];
	return v;
}

static uint64_t rcur_le(struct rcur *c, size_t len)
{
	const uint8_t *p = rcur_bytes(c, len);
	uint64_t v = 0;

	for (size_t i = len; p && i > 0; i--)
		v = v << 8 | p[i - 1];
	return v;
}

uint8_t rcur_u8(struct rcur *c) { return (uint8_t)rcur_be(c, 1); }
uint16_t rcur_be16(struct rcur *c) { return (uint16_t)rcur_be(c, 2); }
uint32_t rcur_be32(struct rcur *c) { return (uint32_t)rcur_be(c, 4); }
uint64_t rcur_be64(struct rcur *c) { return rcur_be(c, 8); }
uint32_t rcur_le32(struct rcur *c) { return (uint32_t)rcur_le(c, 4); }
uint64_t rcur_le64(struct rcur *c) { return rcur_le(c, 8); }

void rcur_copy(struct rcur *c, void *dst, size_t len)
{
	const uint8_t *p = rcur_bytes(c, len);

	if (p)
		memcpy(dst, p, len);
	else
		memset(dst, 0, len);
}

static uint8_t *wcur_take(struct wcur *c, size_t len)
{
	if (c->bad || len > c->left) {
		c->bad = true;
		return NULL;
	}
	uint8_t *p = c->p;
	c->p += len;
	c->left -= len;
	c->used += len;
	return p;
}

static void wcur_be(struct wcur *c, uint64_t v, size_t len)
{
	uint8_t *p = wcur_take(c, len);

	for (size_t i = len; p && i > 0; i--, v >>= 8)
		p[i - 1] = (uint8_t)v;
}

static void wcur_le(struct wcur *c, uint64_t v, size_t len)
{
	uint8_t *p = wcur_take(c, len);

	for (size_t i = 0; p && i < len; i++, v >>= 8)
		p[i] = (uint8_t)v;
}

void wcur_u8(struct wcur *c, uint8_t v) { wcur_be(c, v, 1); }
void wcur_be16(struct wcur *c, uint16_t v) { wcur_be(c, v, 2); }
void wcur_be32(struct wcur *c, uint32_t v) { wcur_be(c, v, 4); }
void wcur_be64(struct wcur *c, uint64_t v) { wcur_be(c, v, 8); }
void wcur_le32(struct wcur *c, uint32_t v) { wcur_le(c, v, 4); }
void wcur_le64(struct wcur *c, uint64_t v) { wcur_le(c, v, 8); }

void wcur_copy(struct wcur *c, const void *src, size_t len)
{
	uint8_t *p = wcur_take(c, len);

	if (p && len > 0)
		memcpy(p, src, len);
}

void wcur_zeros(struct wcur *c, size_t len)
{
	uint8_t *p = wcur_take(c, len);

	if (p && len > 0)
		memset(p, 0, len);
}
