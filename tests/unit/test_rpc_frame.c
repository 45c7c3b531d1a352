/* Reassembly of frames: where bytes are received, and that large payloads stay there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/rpc/frame.h"

#define FRAMES 5u
#define BODY   16u

struct sent {
	uint8_t *bytes;
	size_t len, at;
};

/* FRAMES frames with a body and `payload` bytes each, different in every frame. */
static struct sent stream_of(uint32_t payload)
{
	size_t each = RPC_HEADER_BYTES + BODY + payload;
	struct sent s = {.bytes = malloc(FRAMES * each), .len = FRAMES * each};

	assert_non_null(s.bytes);
	for (unsigned i = 0; i < FRAMES; i++) {
		uint8_t *p = s.bytes + i * each;
		struct frame_header h = {.type = 1, .seq = i, .body_len = BODY, .payload_len = payload};
		memset(p + RPC_HEADER_BYTES, (int)i, BODY);
		for (uint32_t k = 0; k < payload; k++)
			p[RPC_HEADER_BYTES + BODY + k] = (uint8_t)(k * 31 + i);
		frame_header_write(p, &h);
	}
	return s;
}

/* One receive: what the reassembler makes room for, at most `most` bytes. */
static void receive(struct frame_rx *rx, struct sent *s, size_t most)
{
	size_t cap;
	uint8_t *space = frame_rx_space(rx, &cap);

	assert_non_null(space);
	assert_true(cap > 0);
	size_t n = min_u64(min_u64(cap, most), s->len - s->at);
	memcpy(space, s->bytes + s->at, n);
	s->at += n;
	frame_rx_filled(rx, n);
}

/* Takes all frames and keeps their payloads, as a brick does. Returns how many begin where their buf begins. */
static unsigned take_all(uint32_t payload, size_t most)
{
	struct sent s = stream_of(payload);
	struct frame_rx rx;
	struct frame f;
	struct buf *kept[FRAMES];
	unsigned n = 0, in_front = 0;

	frame_rx_init(&rx);
	while (n < FRAMES) {
		receive(&rx, &s, most);
		int rc;
		while ((rc = frame_rx_next(&rx, &f)) == 1) {
			assert_int_equal(f.h.seq, n);
			assert_int_equal(f.payload.len, payload);
			for (uint32_t k = 0; k < payload; k++)
				assert_true(f.payload.ptr[k] == (uint8_t)(k * 31 + n));
			in_front += f.body == f.owner->data + RPC_HEADER_BYTES;
			kept[n++] = buf_ref(f.owner);
		}
		assert_int_equal(rc, 0);
	}
	assert_int_equal(s.at, s.len);
	for (unsigned i = 0; i < FRAMES; i++)
		buf_unref(kept[i]);
	frame_rx_release(&rx);
	free(s.bytes);
	return in_front;
}

/* A frame that begins a buf it fits in was not moved after it had been received. */
static void large_frames_one_behind_the_other_are_received_in_place(void **state)
{
	(void)state;
	assert_int_equal(take_all(256 * 1024, SIZE_MAX), FRAMES);
	assert_int_equal(take_all(256 * 1024, 100000), FRAMES);
	assert_int_equal(take_all(256 * 1024, 65536), FRAMES);
	assert_int_equal(take_all(160 * 1024, 50000), FRAMES);
}

static void small_frames_share_a_buffer(void **state)
{
	(void)state;
	assert_int_equal(take_all(4096, SIZE_MAX), 1);
	assert_int_equal(take_all(4096, 5000), 1);
}

static void any_size_in_any_portions_arrives_whole(void **state)
{
	static const uint32_t sizes[] = {0, 1, 4096, 65536 - 64, 65536, 270000, 300000, RPC_PAYLOAD_MAX};
	static const size_t portions[] = {1009, 4096, 65536, 278528, SIZE_MAX};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
		for (size_t k = 0; k < ARRAY_LEN(portions); k++)
			take_all(sizes[i], portions[k]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(large_frames_one_behind_the_other_are_received_in_place),
	    cmocka_unit_test(small_frames_share_a_buffer),
	    cmocka_unit_test(any_size_in_any_portions_arrives_whole),
	};
	return cmocka_run_group_tests_name("rpc_frame", tests, NULL, NULL);
}
