/* codec.h - the erasure code of one set: systematic Reed-Solomon over GF(2^8), polynomial 0x11D, on isa-l.
 *
 *   chunk numbers: 0..K-1 data, K..N-1 parity.        parity[p] = sum over j of coef(p, j) * data[j]
 *
 * Parity rows are a Cauchy matrix (1 / (x_i + y_j)) with columns and rows scaled so that the first row and the first
 * column are all ones: parity 0 is plain XOR, and K = 1 is plain copying (replica). Scaling keeps every square
 * submatrix regular, so any K of N chunks decode; ec_codec_new proves it for the geometry instead of trusting the
 * argument.
 *
 * Codes byte positions independently: any len, any alignment. Only the decode-table cache changes after creation; one
 * loop owns a codec. */
#ifndef MYFS_EC_CODEC_H
#define MYFS_EC_CODEC_H

#include "core/base/base.h"
#include "core/base/err.h"

#define EC_CODEC_MAX         32u /* chunks of a stripe */
#define EC_MATRIX_CAUCHY_XOR 1u  /* matrix id: stored with a volume, so that another matrix can follow */

struct ec_codec;

/* k >= 1, r >= 1, k + r <= 32. *ret owned. 0, -EINVAL, -ENOMEM, or -EIO when the proof fails (a broken library). */
int ec_codec_new(uint32_t k, uint32_t r, struct ec_codec **ret, struct err *e);
void ec_codec_free(struct ec_codec *c); /* NULL is fine */

/* Coefficient of data chunk j in parity p (0..R-1). Never 0. */
uint8_t ec_codec_coef(const struct ec_codec *c, uint32_t p, uint32_t j);

/* parity[0..R-1] from data[0..K-1], len bytes each. A NULL data pointer stands for zeros; a NULL parity pointer is not
 * computed. */
void ec_codec_encode(const struct ec_codec *c, const uint8_t *const *data, uint8_t *const *parity, size_t len);

/* dst ^= coef * src. What a parity brick does with a delta. */
void ec_codec_delta(uint8_t coef, const uint8_t *src, uint8_t *dst, size_t len);

/* out = sum of coef(p, chunks[i]) * deltas[i]: one delta (to be sent with coefficient 1) for several touched data
 * chunks. out must not overlap the deltas. */
void ec_codec_delta_combine(const struct ec_codec *c, uint32_t p, const uint32_t *chunks, const uint8_t *const *deltas,
			    unsigned n, uint8_t *out, size_t len);

/* The K chunks that a rebuild out of `have` reads: data first. `have` has at least K bits. */
uint32_t ec_codec_sources(const struct ec_codec *c, uint32_t have);

/* Builds every chunk of mask `want` from the chunks of mask `have` (>= K bits, disjoint from want). src and dst are
 * indexed by chunk number, N entries; only ec_codec_sources(have) of src are read, NULL there stands for zeros. No
 * allocation. */
void ec_codec_rebuild(struct ec_codec *c, uint32_t have, uint32_t want, const uint8_t *const *src, uint8_t *const *dst,
		      size_t len);

/* dst = a ^ b, dst may be either. */
void ec_xor(uint8_t *dst, const uint8_t *a, const uint8_t *b, size_t len);

#endif
