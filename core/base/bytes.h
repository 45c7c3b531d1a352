/* bytes.h - the only way outside bytes are read or written: a cursor that checks every access.
 *
 * An access past the end sets `bad`, returns zeros and changes nothing; check `bad` once at the end. */
#ifndef MYFS_BYTES_H
#define MYFS_BYTES_H

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
const uint8_t *rcur_bytes(struct rcur *c, size_t len);
uint8_t rcur_u8(struct rcur *c);
uint16_t rcur_be16(struct rcur *c);
uint32_t rcur_be32(struct rcur *c);
uint64_t rcur_be64(struct rcur *c);
uint32_t rcur_le32(struct rcur *c);
uint64_t rcur_le64(struct rcur *c);
void rcur_copy(struct rcur *c, void *dst, size_t len);

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

void wcur_u8(struct wcur *c, uint8_t v);
void wcur_be16(struct wcur *c, uint16_t v);
void wcur_be32(struct wcur *c, uint32_t v);
void wcur_be64(struct wcur *c, uint64_t v);
void wcur_le32(struct wcur *c, uint32_t v);
void wcur_le64(struct wcur *c, uint64_t v);
void wcur_copy(struct wcur *c, const void *src, size_t len);
void wcur_zeros(struct wcur *c, size_t len);

#endif
