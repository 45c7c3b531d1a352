/* test_nbd_intake.c - where received bytes land: nothing lost, nothing lent is written over, large payloads are not
 * copied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/base/prng.h"
#include "handlers/nbd/intake.h"

#define HEAD 28u

/* A message carries its length and number, and a payload made from both. */
static uint8_t payload_byte(uint32_t number, uint32_t at)
{
	return (uint8_t)(number * 31 + at * 7 + (at >> 8));
}

struct pump { /* writes messages into the intake as a socket would: any cut, never more than asked for */
	struct intake in;
	struct prng prng;
	uint8_t *stream; /* whole byte stream */
	size_t len, at;
};

static void receive(struct pump *p, size_t head, size_t payload, size_t most)
{
	while (intake_have(&p->in) < head + payload) {
		uint8_t *dst = NULL;
		size_t cap = 0;
		assert_int_equal(intake_room(&p->in, head, payload, &dst, &cap), 0);
		size_t n = min_u64(min_u64(cap, p->len - p->at), 1 + prng_below(&p->prng, most));
		assert_true(n > 0);
		memcpy(dst, p->stream + p->at, n);
		p->at += n;
		intake_received(&p->in, n);
	}
}

static void any_mix_of_messages_in_any_cut_arrives_whole_and_stays_whole_while_lent(void **state)
{
	static const uint32_t sizes[] = {0,     0,     1,     512,    4096,    4096,   16384,
					 32767, 32768, 65536, 262144, 1048576, 1500000};
	enum { MESSAGES = 300, LENT = 7 };

	(void)state;
	for (uint64_t seed = 1; seed <= 8; seed++) {
		struct pump p = {0};
		uint32_t lens[MESSAGES];
		struct {
			struct buf *buf;
			const uint8_t *at;
			uint32_t number, len;
		} lent[LENT] = {{0}};

		prng_seed(&p.prng, seed);
		for (unsigned i = 0; i < MESSAGES; i++) {
			lens[i] = sizes[prng_below(&p.prng, seed % 2 ? 7 : ARRAY_LEN(sizes))];
			p.len += HEAD + lens[i];
		}
		p.stream = malloc(p.len);
		size_t at = 0;
		for (uint32_t i = 0; i < MESSAGES; i++) {
			memset(p.stream + at, (int)i, HEAD);
			at += HEAD;
			for (uint32_t j = 0; j < lens[i]; j++)
				p.stream[at++] = payload_byte(i, j);
		}
		for (uint32_t i = 0; i < MESSAGES; i++) {
			size_t most = seed % 3 == 0 ? 100 : MIB(2);
			receive(&p, HEAD, 0, most);
			assert_int_equal(intake_bytes(&p.in)[HEAD - 1], (uint8_t)i);
			p.in.large = lens[i] >= INTAKE_LARGE;
			if (lens[i] > 0)
				receive(&p, HEAD, lens[i], most);
			unsigned slot = i % LENT;
			for (uint32_t j = 0; j < lent[slot].len; j++)
				assert_int_equal(lent[slot].at[j], payload_byte(lent[slot].number, j));
			buf_unref(lent[slot].buf);
			lent[slot].buf = buf_ref(p.in.buf);
			lent[slot].at = intake_bytes(&p.in) + HEAD;
			lent[slot].number = i;
			lent[slot].len = lens[i];
			intake_consume(&p.in, HEAD + lens[i]);
		}
		assert_int_equal(p.at, p.len);
		for (unsigned i = 0; i < LENT; i++)
			buf_unref(lent[i].buf);
		intake_release(&p.in);
		free(p.stream);
	}
}

static void in_a_run_of_large_payloads_each_is_received_on_a_page_and_where_it_stays(void **state)
{
	struct intake in = {.large = true};

	(void)state;
	for (unsigned i = 0; i < 5; i++) {
		uint8_t *dst = NULL;
		size_t cap = 0;
		if (intake_have(&in) < HEAD) {
			assert_int_equal(intake_room(&in, HEAD, 0, &dst, &cap), 0);
			assert_int_equal(cap, HEAD); /* the head alone */
			intake_received(&in, cap);
		}
		assert_int_equal(intake_room(&in, HEAD, MIB(1), &dst, &cap), 0);
		assert_int_equal(cap, MIB(1) + HEAD); /* all of it and the next head */
		assert_int_equal((uintptr_t)dst % MYFS_BLOCK, 0);
		intake_received(&in, i % 2 ? cap : cap - HEAD);
		struct buf *lent = buf_ref(in.buf);
		intake_consume(&in, HEAD + MIB(1));
		buf_unref(lent);
	}
	intake_release(&in);
}

static void several_medium_payloads_share_a_buffer(void **state)
{
	struct intake in = {.large = true};
	struct buf *lent[3];
	uint8_t *dst = NULL;
	size_t cap = 0;

	(void)state;
	assert_int_equal(intake_room(&in, HEAD, 0, &dst, &cap), 0);
	intake_received(&in, HEAD);
	/* The first makes room for itself alone or for more; from then on heads arrive behind payloads. */
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(intake_room(&in, HEAD, KIB(64), &dst, &cap), 0);
		assert_int_equal((uintptr_t)dst % MYFS_BLOCK, 0);
		intake_received(&in, KIB(64) + HEAD);
		lent[i] = buf_ref(in.buf);
		intake_consume(&in, HEAD + KIB(64));
	}
	assert_ptr_equal(lent[0], lent[2]);
	for (unsigned i = 0; i < 3; i++)
		buf_unref(lent[i]);
	intake_release(&in);
}

static void an_idle_connection_does_not_keep_a_large_buffer(void **state)
{
	struct intake in = {.large = true};
	uint8_t *dst = NULL;
	size_t cap = 0;

	(void)state;
	assert_int_equal(intake_room(&in, HEAD, 0, &dst, &cap), 0);
	intake_received(&in, HEAD);
	assert_int_equal(intake_room(&in, HEAD, MIB(8), &dst, &cap), 0);
	intake_received(&in, MIB(8));
	intake_consume(&in, HEAD + MIB(8));
	assert_int_equal(intake_room(&in, HEAD, 0, &dst, &cap), 0);
	assert_true(in.buf->size <= INTAKE_SMALL);
	intake_release(&in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(any_mix_of_messages_in_any_cut_arrives_whole_and_stays_whole_while_lent),
	    cmocka_unit_test(in_a_run_of_large_payloads_each_is_received_on_a_page_and_where_it_stays),
	    cmocka_unit_test(several_medium_payloads_share_a_buffer),
	    cmocka_unit_test(an_idle_connection_does_not_keep_a_large_buffer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
