/* codec.c - Reed-Solomon coding on isa-l, with a proof of the matrix at start and cached decode tables. See codec.h.
 *
 * Decode tables are kept per (sources, wanted) pair in a fixed array with least-recently-used replacement: patterns are
 * few (which bricks are out, times the rotation), so after warm-up a rebuild costs no matrix inversion. */
#include <isa-l/erasure_code.h>

#include "ec/codec.h"

/* Patterns kept: all rotations of a few outages of the widest usual codes. */
#define DECODE_ENTRIES 64u
/* Erasure patterns tried one by one at start. Wider codes rest on the structural proof alone. */
#define PROOF_PATTERNS 2000u
/* Zeros that stand for a NULL source; longer runs are coded piece by piece. */
#define ZERO_PIECE 16384u
/* isa-l expands every coefficient to 32 bytes of lookup table. */
#define TABLE_BYTES 32u

struct decode_entry {
	uint32_t sources, want; /* want == 0: unused */
	uint64_t used_at;
	uint8_t *tables; /* popcount(want) * k * TABLE_BYTES; room for r rows */
};

struct ec_codec {
	uint32_t k, r, n;
	uint8_t matrix[EC_CODEC_MAX * EC_CODEC_MAX]; /* n rows of k: identity, then parity */
	uint8_t *encode_tables; /* r * k * TABLE_BYTES, owned; decode tables follow in the same memory */
	uint64_t clock;
	struct decode_entry cache[DECODE_ENTRIES];
};

static const uint8_t zero_piece[ZERO_PIECE] __attribute__((aligned(64)));

/* isa-l's prototypes lack const; it does not write to sources or tables. */
static uint8_t *unconst(const uint8_t *p) { return (uint8_t *)(uintptr_t)p; }

static void matrix_build(struct ec_codec *c)
{
	uint32_t k = c->k;
	for (uint32_t i = 0; i < k; i++)
		c->matrix[i * k + i] = 1;
	for (uint32_t p = 0; p < c->r; p++)
		for (uint32_t j = 0; j < k; j++)
			c->matrix[(k + p) * k + j] = gf_inv((uint8_t)((k + p) ^ j));
	for (uint32_t j = 0; j < k; j++) { /* columns: first parity row becomes ones */
		uint8_t scale = gf_inv(c->matrix[k * k + j]);
		for (uint32_t p = 0; p < c->r; p++)
			c->matrix[(k + p) * k + j] = gf_mul(c->matrix[(k + p) * k + j], scale);
	}
	for (uint32_t p = 0; p < c->r; p++) { /* rows: first column becomes ones, row 0 stays */
		uint8_t scale = gf_inv(c->matrix[(k + p) * k]);
		for (uint32_t j = 0; j < k; j++)
			c->matrix[(k + p) * k + j] = gf_mul(c->matrix[(k + p) * k + j], scale);
	}
}

/* Every square submatrix of a Cauchy matrix is regular, and scaling rows and columns by non-zero factors keeps that. So
 * it is enough to see that entry(p, j) * ((k+p) ^ j) splits into a factor of the row times a factor of the column, none
 * zero. */
static bool proof_structural(const struct ec_codec *c)
{
	uint32_t k = c->k;
	uint8_t column[EC_CODEC_MAX];
	for (uint32_t j = 0; j < k; j++)
		column[j] = gf_mul(c->matrix[k * k + j], (uint8_t)(k ^ j));
	for (uint32_t p = 0; p < c->r; p++) {
		uint8_t row = gf_mul(gf_mul(c->matrix[(k + p) * k], (uint8_t)(k + p)), gf_inv(column[0]));
		for (uint32_t j = 0; j < k; j++) {
			uint8_t entry = c->matrix[(k + p) * k + j];
			if (entry == 0 || row == 0 || column[j] == 0)
				return false;
			if (gf_mul(entry, (uint8_t)((k + p) ^ j)) != gf_mul(row, column[j]))
				return false;
		}
	}
	return true;
}

static uint64_t choose(uint32_t n, uint32_t r)
{
	uint64_t v = 1;
	for (uint32_t i = 1; i <= r && v <= PROOF_PATTERNS; i++)
		v = v * (n - r + i) / i;
	return v;
}

/* Rows of `sources` (k bits) inverted: data = inverse * sources. 0 or -EIO when singular. */
static int invert_sources(const struct ec_codec *c, uint32_t sources, uint8_t *inverse)
{
	uint8_t rows[EC_CODEC_MAX * EC_CODEC_MAX];
	uint32_t i = 0;
	for (uint32_t b = 0; b < c->n; b++)
		if ((sources >> b) & 1)
			memcpy(rows + c->k * i++, c->matrix + c->k * b, c->k);
	assert(i == c->k);
	return gf_invert_matrix(rows, inverse, (int)c->k) == 0 ? 0 : -EIO;
}

/* Every choice of exactly r lost chunks; fewer lost ones leave a superset of sources. */
static int proof_exhaustive(const struct ec_codec *c, struct err *e)
{
	uint8_t inverse[EC_CODEC_MAX * EC_CODEC_MAX];
	uint64_t all = (UINT64_C(1) << c->n) - 1;
	uint64_t lost = (UINT64_C(1) << c->r) - 1;
	while (lost <= all) {
		int rc = invert_sources(c, (uint32_t)(all & ~lost), inverse);
		if (rc)
			return err_set(e, rc, "erasure code %u+%u cannot decode with chunks 0x%x lost", c->k, c->r,
				       (unsigned)lost);
		uint64_t low = lost & -lost, ripple = lost + low; /* next mask with as many bits */
		lost = (((ripple ^ lost) >> 2) / low) | ripple;
	}
	return 0;
}

/* One proof per geometry and process. */
static int codec_prove(const struct ec_codec *c, struct err *e)
{
	static bool proved[EC_CODEC_MAX + 1][EC_CODEC_MAX + 1];
	if (__atomic_load_n(&proved[c->k][c->r], __ATOMIC_RELAXED))
		return 0;
	if (!proof_structural(c))
		return err_set(e, -EIO, "erasure code %u+%u: matrix is not a scaled Cauchy matrix", c->k, c->r);
	int rc = choose(c->n, c->r) <= PROOF_PATTERNS ? proof_exhaustive(c, e) : 0;
	if (rc)
		return rc;
	__atomic_store_n(&proved[c->k][c->r], true, __ATOMIC_RELAXED);
	return 0;
}

int ec_codec_new(uint32_t k, uint32_t r, struct ec_codec **ret, struct err *e)
{
	if (k < 1 || r < 1 || k > EC_CODEC_MAX || r > EC_CODEC_MAX || k + r > EC_CODEC_MAX)
		return err_set(e, -EINVAL, "no erasure code %u+%u: at most %u chunks", k, r, EC_CODEC_MAX);
	struct ec_codec *c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->k = k;
	c->r = r;
	c->n = k + r;
	matrix_build(c);
	int rc = codec_prove(c, e);
	if (rc) {
		ec_codec_free(c);
		return rc;
	}
	size_t one = (size_t)k * r * TABLE_BYTES;
	c->encode_tables = aligned_alloc(TABLE_BYTES, one * (1 + DECODE_ENTRIES));
	if (!c->encode_tables) {
		ec_codec_free(c);
		return err_set(e, -ENOMEM, "out of memory");
	}
	ec_init_tables((int)k, (int)r, c->matrix + k * k, c->encode_tables);
	for (uint32_t i = 0; i < DECODE_ENTRIES; i++)
		c->cache[i].tables = c->encode_tables + one * (1 + i);
	*ret = c;
	return 0;
}

void ec_codec_free(struct ec_codec *c)
{
	if (!c)
		return;
	free(c->encode_tables);
	free(c);
}

uint8_t ec_codec_coef(const struct ec_codec *c, uint32_t p, uint32_t j)
{
	assert(p < c->r && j < c->k);
	return c->matrix[(c->k + p) * c->k + j];
}

/* rows outputs from cols inputs; a NULL input is zeros. */
static void code(uint8_t *tables, uint32_t cols, uint32_t rows, const uint8_t *const *in, uint8_t *const *out,
		 size_t len)
{
	uint8_t *src[EC_CODEC_MAX], *dst[EC_CODEC_MAX];
	bool sparse = false;
	for (uint32_t j = 0; j < cols; j++)
		sparse = sparse || !in[j];
	size_t piece = sparse ? ZERO_PIECE : (size_t)1 << 30; /* isa-l counts in int */
	for (size_t off = 0; off < len; off += piece) {
		size_t n = len - off < piece ? len - off : piece;
		for (uint32_t j = 0; j < cols; j++)
			src[j] = in[j] ? unconst(in[j]) + off : unconst(zero_piece);
		for (uint32_t i = 0; i < rows; i++)
			dst[i] = out[i] + off;
		ec_encode_data((int)n, (int)cols, (int)rows, tables, src, dst);
	}
}

void ec_codec_encode(const struct ec_codec *c, const uint8_t *const *data, uint8_t *const *parity, size_t len)
{
	uint32_t p = 0;
	while (p < c->r) { /* runs of wanted parities: usually one */
		uint32_t first = p;
		while (p < c->r && parity[p])
			p++;
		if (p > first)
			code(c->encode_tables + (size_t)first * c->k * TABLE_BYTES, c->k, p - first, data,
			     parity + first, len);
		else
			p++;
	}
}

typedef uint64_t vector __attribute__((vector_size(16)));

void ec_xor(uint8_t *dst, const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i = 0;
	for (; i + 32 <= len; i += 32) {
		vector x0, x1, y0, y1; /* both halves are read before either is written: dst may be a or b */
		memcpy(&x0, a + i, 16);
		memcpy(&x1, a + i + 16, 16);
		memcpy(&y0, b + i, 16);
		memcpy(&y1, b + i + 16, 16);
		x0 ^= y0;
		x1 ^= y1;
		memcpy(dst + i, &x0, 16);
		memcpy(dst + i + 16, &x1, 16);
	}
	for (; i < len; i++)
		dst[i] = a[i] ^ b[i];
}

void ec_codec_delta(uint8_t coef, const uint8_t *src, uint8_t *dst, size_t len)
{
	uint8_t tables[TABLE_BYTES];
	uint8_t *out[1] = {dst};
	if (coef == 0)
		return;
	if (coef == 1) {
		ec_xor(dst, dst, src, len);
		return;
	}
	gf_vect_mul_init(coef, tables);
	ec_encode_data_update((int)len, 1, 1, 0, tables, unconst(src), out);
}

void ec_codec_delta_combine(const struct ec_codec *c, uint32_t p, const uint32_t *chunks, const uint8_t *const *deltas,
			    unsigned n, uint8_t *out, size_t len)
{
	uint8_t tables[EC_CODEC_MAX * TABLE_BYTES];
	uint8_t *const dst[1] = {out};
	assert(n >= 1 && n <= c->k);
	for (unsigned i = 0; i < n; i++)
		gf_vect_mul_init(ec_codec_coef(c, p, chunks[i]), tables + (size_t)i * TABLE_BYTES);
	code(tables, n, 1, deltas, dst, len);
}

uint32_t ec_codec_sources(const struct ec_codec *c, uint32_t have)
{
	uint32_t sources = 0, left = c->k;
	for (uint32_t b = 0; b < c->n && left > 0; b++) {
		if ((have >> b) & 1) {
			sources |= UINT32_C(1) << b;
			left--;
		}
	}
	assert(left == 0);
	return sources;
}

/* Coefficients of every wanted chunk over the sources, expanded to tables. */
static void decode_tables_fill(const struct ec_codec *c, struct decode_entry *d)
{
	uint8_t inverse[EC_CODEC_MAX * EC_CODEC_MAX], coefs[EC_CODEC_MAX * EC_CODEC_MAX];
	uint32_t k = c->k, rows = 0;
	int rc = invert_sources(c, d->sources, inverse);
	assert(rc == 0); /* proved at start */
	for (uint32_t b = 0; b < c->n; b++) {
		if (!((d->want >> b) & 1))
			continue;
		for (uint32_t s = 0; s < k; s++) { /* row b of the matrix times inverse */
			uint8_t v = 0;
			for (uint32_t j = 0; j < k; j++)
				v ^= gf_mul(c->matrix[b * k + j], inverse[j * k + s]);
			coefs[rows * k + s] = v;
		}
		rows++;
	}
	ec_init_tables((int)k, (int)rows, coefs, d->tables);
}

static struct decode_entry *decode_tables(struct ec_codec *c, uint32_t sources, uint32_t want)
{
	struct decode_entry *victim = &c->cache[0];
	c->clock++;
	for (uint32_t i = 0; i < DECODE_ENTRIES; i++) {
		struct decode_entry *d = &c->cache[i];
		if (d->want == want && d->sources == sources) {
			d->used_at = c->clock;
			return d;
		}
		if (d->used_at < victim->used_at)
			victim = d;
	}
	victim->sources = sources;
	victim->want = want;
	victim->used_at = c->clock;
	decode_tables_fill(c, victim);
	return victim;
}

void ec_codec_rebuild(struct ec_codec *c, uint32_t have, uint32_t want, const uint8_t *const *src, uint8_t *const *dst,
		      size_t len)
{
	const uint8_t *in[EC_CODEC_MAX];
	uint8_t *out[EC_CODEC_MAX];
	uint32_t cols = 0, rows = 0;
	uint32_t sources = ec_codec_sources(c, have);
	bool zeros = true;
	assert(want != 0 && (want & have) == 0 && (uint64_t)want < UINT64_C(1) << c->n);
	for (uint32_t b = 0; b < c->n; b++) {
		if ((sources >> b) & 1) {
			zeros = zeros && !src[b];
			in[cols++] = src[b];
		}
		if ((want >> b) & 1)
			out[rows++] = dst[b];
	}
	assert(rows <= c->r);
	if (zeros) { /* most of what is healed in a sparse file */
		for (uint32_t i = 0; i < rows; i++)
			memset(out[i], 0, len);
		return;
	}
	code(decode_tables(c, sources, want)->tables, cols, rows, in, out, len);
}
