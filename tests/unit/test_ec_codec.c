/* ec/codec: every tolerated loss rebuilds exactly, deltas equal re-encoding, and the start-up proof is quick. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "ec/codec.h"

#define LEN 4096u

static const struct {
	uint32_t k, r;
} codes[] = {{2, 1}, {4, 2}, {8, 3}, {3, 3}, {1, 1}, {1, 2}, {5, 2}, {16, 4}};

struct stripe {
	uint32_t k, r, n;
	struct ec_codec *codec;
	uint8_t *chunk[EC_CODEC_MAX];
	struct prng prng;
};

static void stripe_init(struct stripe *s, uint32_t k, uint32_t r)
{
	*s = (struct stripe){.k = k, .r = r, .n = k + r};
	assert_int_equal(ec_codec_new(k, r, &s->codec, NULL), 0);
	prng_seed(&s->prng, 1000 * k + r);
	for (uint32_t i = 0; i < s->n; i++) {
		s->chunk[i] = malloc(LEN);
		prng_bytes(&s->prng, s->chunk[i], LEN);
	}
	ec_codec_encode(s->codec, (const uint8_t *const *)s->chunk, s->chunk + k, LEN);
}

static void stripe_release(struct stripe *s)
{
	for (uint32_t i = 0; i < s->n; i++)
		free(s->chunk[i]);
	ec_codec_free(s->codec);
}

/* Rebuilds `lost` from `have` and compares. */
static void check_rebuild(struct stripe *s, uint32_t have, uint32_t lost)
{
	uint8_t *out[EC_CODEC_MAX] = {0};
	const uint8_t *src[EC_CODEC_MAX] = {0};
	for (uint32_t b = 0; b < s->n; b++) {
		if ((have >> b) & 1)
			src[b] = s->chunk[b];
		if ((lost >> b) & 1)
			out[b] = malloc(LEN);
	}
	ec_codec_rebuild(s->codec, have, lost, src, out, LEN);
	for (uint32_t b = 0; b < s->n; b++) {
		if (out[b])
			assert_memory_equal(out[b], s->chunk[b], LEN);
		free(out[b]);
	}
}

static void every_loss_of_up_to_r_chunks_is_rebuilt(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct stripe s;
		stripe_init(&s, codes[i].k, codes[i].r);
		uint32_t all = (uint32_t)((UINT64_C(1) << s.n) - 1);
		for (uint32_t lost = 1; lost <= all; lost++)
			if ((unsigned)__builtin_popcount(lost) <= s.r)
				check_rebuild(&s, all & ~lost, lost);
		stripe_release(&s);
	}
}

static void every_set_of_k_chunks_yields_each_other_chunk(void **state)
{
	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct stripe s;
		stripe_init(&s, codes[i].k, codes[i].r);
		for (uint32_t have = 0; have < UINT32_C(1) << s.n; have++) {
			if ((unsigned)__builtin_popcount(have) != s.k)
				continue;
			for (uint32_t b = 0; b < s.n; b++)
				if (!((have >> b) & 1))
					check_rebuild(&s, have, UINT32_C(1) << b);
		}
		stripe_release(&s);
	}
}

static void the_first_parity_is_plain_xor(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct stripe s;
		uint8_t sum[LEN] = {0};
		stripe_init(&s, codes[i].k, codes[i].r);
		for (uint32_t j = 0; j < s.k; j++) {
			assert_int_equal(ec_codec_coef(s.codec, 0, j), 1);
			ec_xor(sum, sum, s.chunk[j], LEN);
		}
		assert_memory_equal(sum, s.chunk[s.k], LEN);
		stripe_release(&s);
	}
}

static void replicas_are_copies(void **state)
{
	(void)state;
	struct stripe s;
	stripe_init(&s, 1, 5);
	for (uint32_t p = 0; p < s.r; p++) {
		assert_int_equal(ec_codec_coef(s.codec, p, 0), 1);
		assert_memory_equal(s.chunk[1 + p], s.chunk[0], LEN);
	}
	stripe_release(&s);
}

static void a_delta_leads_to_the_same_parity_as_encoding_again(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
		struct stripe s;
		uint8_t delta[LEN], fresh[LEN], parity[LEN];
		uint8_t *want[EC_CODEC_MAX] = {0};
		stripe_init(&s, codes[i].k, codes[i].r);
		for (uint32_t j = 0; j < s.k; j++) {
			prng_bytes(&s.prng, fresh, LEN);
			ec_xor(delta, fresh, s.chunk[j], LEN);
			memcpy(s.chunk[j], fresh, LEN);
			for (uint32_t p = 0; p < s.r; p++) {
				want[p] = parity;
				ec_codec_encode(s.codec, (const uint8_t *const *)s.chunk, want, LEN);
				want[p] = NULL;
				ec_codec_delta(ec_codec_coef(s.codec, p, j), delta, s.chunk[s.k + p], LEN);
				assert_memory_equal(s.chunk[s.k + p], parity, LEN);
			}
		}
		stripe_release(&s);
	}
}

static void combined_deltas_equal_the_single_ones_applied_in_turn(void **state)
{
	(void)state;
	struct stripe s;
	static const uint32_t touched[] = {6, 1, 3};
	uint8_t delta[3][LEN], one[LEN], combined[LEN];
	stripe_init(&s, 8, 3);
	for (uint32_t p = 0; p < s.r; p++) {
		const uint8_t *in[3];
		memset(one, 0, LEN);
		for (unsigned i = 0; i < 3; i++) {
			prng_bytes(&s.prng, delta[i], LEN);
			in[i] = delta[i];
			ec_codec_delta(ec_codec_coef(s.codec, p, touched[i]), delta[i], one, LEN);
		}
		ec_codec_delta_combine(s.codec, p, touched, in, 3, combined, LEN);
		assert_memory_equal(combined, one, LEN);
	}
	stripe_release(&s);
}

static void a_missing_pointer_stands_for_zeros(void **state)
{
	(void)state;
	enum { LONG = 100000 };
	struct ec_codec *c;
	struct prng prng;
	uint8_t *data[4], *parity[2], *again[2], *back = malloc(LONG);
	prng_seed(&prng, 5);
	assert_int_equal(ec_codec_new(4, 2, &c, NULL), 0);
	for (unsigned i = 0; i < 4; i++) {
		data[i] = calloc(1, LONG);
		if (i != 2)
			prng_bytes(&prng, data[i], LONG);
	}
	for (unsigned i = 0; i < 2; i++) {
		parity[i] = malloc(LONG);
		again[i] = malloc(LONG);
	}
	ec_codec_encode(c, (const uint8_t *const *)data, parity, LONG);
	const uint8_t *sparse[4] = {data[0], data[1], NULL, data[3]};
	ec_codec_encode(c, sparse, again, LONG);
	assert_memory_equal(parity[0], again[0], LONG);
	assert_memory_equal(parity[1], again[1], LONG);
	const uint8_t *src[6] = {NULL, data[1], NULL, data[3], parity[0], parity[1]};
	uint8_t *dst[6] = {back};
	ec_codec_rebuild(c, 0x3e, 0x01, src, dst, LONG);
	assert_memory_equal(back, data[0], LONG);
	for (unsigned i = 0; i < 4; i++)
		free(data[i]);
	for (unsigned i = 0; i < 2; i++) {
		free(parity[i]);
		free(again[i]);
	}
	free(back);
	ec_codec_free(c);
}

static void odd_lengths_and_alignments_are_coded_too(void **state)
{
	(void)state;
	struct stripe s;
	stripe_init(&s, 4, 2);
	for (size_t len = 1; len < 200; len += 7) {
		uint8_t guard[LEN];
		uint8_t *dst[6] = {0};
		memset(guard, 0xAA, LEN);
		dst[2] = guard + 3;
		const uint8_t *src[6] = {s.chunk[0] + 1, s.chunk[1] + 1, NULL, s.chunk[3] + 1, s.chunk[4] + 1, s.chunk[5] + 1};
		ec_codec_rebuild(s.codec, 0x3b, 0x04, src, dst, len);
		assert_memory_equal(guard + 3, s.chunk[2] + 1, len);
		assert_int_equal(guard[2], 0xAA);
		assert_int_equal(guard[3 + len], 0xAA);
	}
	stripe_release(&s);
}

static void more_patterns_than_the_table_cache_holds_still_decode(void **state)
{
	(void)state;
	struct stripe s;
	stripe_init(&s, 8, 3);
	uint32_t all = 0x7ff;
	for (unsigned round = 0; round < 2; round++)
		for (uint32_t a = 0; a < 11; a++)
			for (uint32_t b = a + 1; b < 11; b++)
				check_rebuild(&s, all & ~(1u << a | 1u << b), 1u << a);
	stripe_release(&s);
}

static void sources_prefer_data_chunks(void **state)
{
	(void)state;
	struct ec_codec *c;
	assert_int_equal(ec_codec_new(4, 2, &c, NULL), 0);
	assert_int_equal(ec_codec_sources(c, 0x3f), 0x0f);
	assert_int_equal(ec_codec_sources(c, 0x3b), 0x1b);
	assert_int_equal(ec_codec_sources(c, 0x3c), 0x3c);
	ec_codec_free(c);
}

static void every_possible_code_passes_its_proof(void **state)
{
	(void)state;
	for (uint32_t k = 1; k < EC_CODEC_MAX; k++)
		for (uint32_t r = 1; k + r <= EC_CODEC_MAX; r++) {
			struct ec_codec *c = NULL;
			struct err e = ERR_INIT;
			assert_int_equal(ec_codec_new(k, r, &c, &e), 0);
			ec_codec_free(c);
		}
}

static void impossible_codes_are_refused_with_a_text(void **state)
{
	(void)state;
	static const uint32_t bad[][2] = {{0, 1}, {1, 0}, {31, 2}, {UINT32_MAX, 1}, {1, UINT32_MAX}};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct ec_codec *c = (void *)&c;
		struct err e = ERR_INIT;
		assert_int_equal(ec_codec_new(bad[i][0], bad[i][1], &c, &e), -EINVAL);
		assert_ptr_equal(c, (void *)&c);
		assert_string_not_equal(e.text, "");
	}
	ec_codec_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_possible_code_passes_its_proof),
	    cmocka_unit_test(every_loss_of_up_to_r_chunks_is_rebuilt),
	    cmocka_unit_test(every_set_of_k_chunks_yields_each_other_chunk),
	    cmocka_unit_test(the_first_parity_is_plain_xor),
	    cmocka_unit_test(replicas_are_copies),
	    cmocka_unit_test(a_delta_leads_to_the_same_parity_as_encoding_again),
	    cmocka_unit_test(combined_deltas_equal_the_single_ones_applied_in_turn),
	    cmocka_unit_test(a_missing_pointer_stands_for_zeros),
	    cmocka_unit_test(odd_lengths_and_alignments_are_coded_too),
	    cmocka_unit_test(more_patterns_than_the_table_cache_holds_still_decode),
	    cmocka_unit_test(sources_prefer_data_chunks),
	    cmocka_unit_test(impossible_codes_are_refused_with_a_text),
	};
	return cmocka_run_group_tests_name("ec.codec", tests, NULL, NULL);
}
