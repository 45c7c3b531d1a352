/* micro_codec.c - the erasure code beside the library it stands on: encode, delta and rebuild in GB of user data per second, and
 * what isa-l itself does with the same matrix and buffers. A share near 1 says that our side of it costs nothing.
 *
 *   micro_codec [CHUNK_BYTES]        default 16384: in the cache, as in the data path; try 1048576 for memory speed */
#include <isa-l/erasure_code.h>
#include <stdio.h>
#include <time.h>

#include "core/base/crc32c.h"
#include "ec/codec.h"

#define RUN_NS (NS_PER_S / 4)

static size_t chunk_bytes = 16384;
static uint8_t *chunk[EC_CODEC_MAX], *spare[EC_CODEC_MAX];

/* CPU time of this process: what else runs here does not count. */
static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static void print(const char *what, double bytes_each, uint64_t n, uint64_t ns, double limit)
{
	double gb_s = bytes_each * (double)n / (double)ns;

	if (limit > 0)
		printf("%-36s %8.2f GB/s  %5.2f of isa-l's %.2f\n", what, gb_s, gb_s / limit, limit);
	else
		printf("%-36s %8.2f GB/s\n", what, gb_s);
}

#define TIMED(n, took, statement)                                                                                       \
	do {                                                                                                            \
		uint64_t start_ = cpu_ns();                                                                    \
		n = 0;                                                                                                  \
		do {                                                                                                    \
			for (unsigned i_ = 0; i_ < 16; i_++)                                                            \
				statement;                                                                              \
			n += 16;                                                                                        \
			took = cpu_ns() - start_;                                                              \
		} while (took < RUN_NS);                                                                                \
	} while (0)

static double isal_encode(const struct ec_codec *c, uint32_t k, uint32_t r)
{
	uint8_t matrix[EC_CODEC_MAX * EC_CODEC_MAX], tables[EC_CODEC_MAX * EC_CODEC_MAX * 32];
	uint64_t n, took;

	for (uint32_t p = 0; p < r; p++)
		for (uint32_t j = 0; j < k; j++)
			matrix[p * k + j] = ec_codec_coef(c, p, j);
	ec_init_tables((int)k, (int)r, matrix, tables);
	TIMED(n, took, ec_encode_data((int)chunk_bytes, (int)k, (int)r, tables, chunk, spare));
	return (double)(n * k * chunk_bytes) / (double)took;
}

static int geometry(uint32_t k, uint32_t r)
{
	struct ec_codec *c;
	struct err e = ERR_INIT;
	uint64_t n, took;
	char name[64];
	uint32_t lost = (1u << r) - 1, all = (uint32_t)((UINT64_C(1) << (k + r)) - 1);
	const uint8_t *src[EC_CODEC_MAX];
	uint8_t *dst[EC_CODEC_MAX];

	if (ec_codec_new(k, r, &c, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	double limit = isal_encode(c, k, r);
	TIMED(n, took, ec_codec_encode(c, (const uint8_t *const *)chunk, spare, chunk_bytes));
	snprintf(name, sizeof(name), "%u+%u encode", k, r);
	print(name, (double)(k * chunk_bytes), n, took, limit);
	for (uint32_t i = 0; i < k + r; i++) {
		src[i] = (lost >> i) & 1 ? NULL : chunk[i];
		dst[i] = (lost >> i) & 1 ? spare[i] : NULL;
	}
	TIMED(n, took, ec_codec_rebuild(c, all & ~lost, lost, src, dst, chunk_bytes));
	snprintf(name, sizeof(name), "%u+%u rebuild %u lost data chunks", k, r, r);
	print(name, (double)(k * chunk_bytes), n, took, limit);
	TIMED(n, took, ec_codec_delta(ec_codec_coef(c, r - 1, k - 1), chunk[0], spare[0], chunk_bytes));
	snprintf(name, sizeof(name), "%u+%u delta onto the last parity", k, r);
	print(name, (double)chunk_bytes, n, took, 0);
	ec_codec_free(c);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		uint32_t k, r;
	} all[] = {{2, 1}, {4, 2}, {8, 3}};
	volatile uint32_t crc = 0;
	uint64_t n, took;
	int rc = 0;

	if (argc > 1)
		chunk_bytes = strtoul(argv[1], NULL, 10);
	if (argc > 2 || chunk_bytes < 64 || chunk_bytes > MIB(64)) {
		fprintf(stderr, "usage: micro_codec [CHUNK_BYTES]\n");
		return 2;
	}
	for (unsigned i = 0; i < 12; i++) {
		chunk[i] = aligned_alloc(64, round_up_u64(chunk_bytes, 64));
		spare[i] = aligned_alloc(64, round_up_u64(chunk_bytes, 64));
		if (!chunk[i] || !spare[i])
			return 1;
		memset(chunk[i], (int)i + 1, chunk_bytes);
		memset(spare[i], 0, chunk_bytes);
	}
	printf("chunks of %zu bytes\n", chunk_bytes);
	TIMED(n, took, memcpy(spare[0], chunk[i_ % 8], chunk_bytes));
	print("memcpy", (double)chunk_bytes, n, took, 0);
	TIMED(n, took, crc = crc + crc32c(chunk[i_ % 8], chunk_bytes));
	print("CRC32C", (double)chunk_bytes, n, took, 0);
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		rc |= geometry(all[i].k, all[i].r);
	return rc;
}
