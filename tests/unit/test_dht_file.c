/* Files over shards and sets: every byte must be where a plain array would have it. */
#include "tests/unit/loop_fixture.h"

#include "core/base/prng.h"
#include "dht/dht.h"
#include "dht/hash.h"
#include "dht/layout.h"
#include "tests/unit/ec_memory.h"

#define SHARD MIB(64)
static const struct gfid file_id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}};

static struct dht_volume *open_volume(uint32_t sets)
{
	struct ec_brick_addr *bricks = calloc((size_t)sets * 3, sizeof(*bricks));
	struct dht_volume_config cfg = {.loop = loop_self(),
					.name = "vol",
					.uuid = {{9}},
					.k = 2,
					.r = 1,
					.chunk_bytes = 16384,
					.sets = sets,
					.bricks = bricks};
	struct dht_volume *v = NULL;
	struct err e = ERR_INIT;

	CHECK(dht_volume_open(&cfg, &v, &e) == 0);
	free(bricks);
	return v;
}

static struct dht_file *open_file(struct dht_volume *v, uint64_t size)
{
	struct dht_file *f = NULL;
	struct err e = ERR_INIT;

	CHECK(dht_namespace_init(v, &e) == 0);
	CHECK(dht_create(v, "lun", &file_id, size, &e) == 0);
	CHECK(dht_open(v, "lun", &file_id, size, true, &f, &e) == 0);
	return f;
}

static void read_equals(struct dht_file *f, const uint8_t *model, uint64_t off, uint32_t len)
{
	uint8_t *got = malloc(len);
	struct bufs out;

	bufs_init(&out);
	CHECK(dht_read(f, off, len, &out) == 0);
	CHECK(out.bytes == len);
	bufs_copy_out(&out, 0, got, len);
	CHECK(memcmp(got, model, len) == 0);
	bufs_release(&out);
	free(got);
}

/* Around shard boundaries the model is kept for a window of 2 MiB on either side; requests stay inside the windows. */
#define WINDOW MIB(2)
static void boundary_model(struct dht_file *f, uint64_t boundary, uint64_t seed)
{
	uint8_t *model = calloc(1, 2 * WINDOW), *data = malloc(WINDOW);
	struct prng p;

	prng_seed(&p, seed);
	for (int i = 0; i < 120; i++) {
		uint64_t at = prng_below(&p, 2 * WINDOW - 1),
			 len = 1 + prng_below(&p, min_u64(WINDOW, 2 * WINDOW - at));
		uint64_t off = boundary - WINDOW + at;

		switch (prng_below(&p, 3)) {
		case 0: {
			struct iovec v[3] = {
			    {data, len / 3}, {data + len / 3, len / 3}, {data + 2 * (len / 3), len - 2 * (len / 3)}};

			prng_bytes(&p, data, len);
			CHECK(dht_write(f, off, (struct iov){.v = v, .n = 3}, i % 7 == 0) == 0);
			memcpy(model + at, data, len);
			break;
		}
		case 1:
			CHECK(dht_zero(f, off, len, false) == 0);
			memset(model + at, 0, len);
			break;
		default:
			read_equals(f, model + at, off, (uint32_t)len);
		}
	}
	read_equals(f, model, boundary - WINDOW, 2 * WINDOW);
	free(model);
	free(data);
}

static void boundaries_body(void *arg)
{
	(void)arg;
	for (uint32_t sets = 1; sets <= 3; sets++) {
		struct dht_volume *v;
		struct dht_file *f;

		mem_reset();
		v = open_volume(sets);
		f = open_file(v, 5 * SHARD);
		for (uint64_t b = 1; b < 5; b++)
			boundary_model(f, b * SHARD, sets * 100 + b);
		CHECK(dht_flush(f) == 0);
		dht_close(f);
		dht_volume_close(v);
	}
	mem_reset();
}

static void requests_across_shards_read_back_what_a_plain_array_would(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, boundaries_body);
}

static void absent_body(void *arg)
{
	static const uint8_t zeros[8192];
	struct dht_volume *v;
	struct dht_file *f;

	(void)arg;
	mem_reset();
	v = open_volume(1);
	f = open_file(v, 3 * SHARD);
	mem.brick_calls = 0;
	read_equals(f, zeros, SHARD - 4096, 8192);
	CHECK(dht_zero(f, 0, 3 * SHARD, false) == 0);
	CHECK(mem.brick_calls == 0);
	dht_close(f);
	dht_volume_close(v);
	mem_reset();
}

static void a_shard_that_does_not_exist_is_zeros_without_asking_a_brick(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, absent_body);
}

static void range_body(void *arg)
{
	uint8_t byte = 1;
	struct iovec one = {&byte, 1};
	struct iov data = {.v = &one, .n = 1};
	struct dht_volume *v;
	struct dht_file *f;
	struct bufs out;

	(void)arg;
	mem_reset();
	v = open_volume(2);
	f = open_file(v, SHARD + 512);
	bufs_init(&out);
	CHECK(dht_read(f, SHARD + 512, 1, &out) == -EINVAL);
	CHECK(dht_read(f, UINT64_MAX, 2, &out) == -EINVAL);
	CHECK(dht_write(f, SHARD + 512, data, false) == -EINVAL);
	CHECK(dht_zero(f, SHARD, 513, false) == -EINVAL);
	CHECK(dht_write(f, SHARD + 511, data, false) == 0);
	CHECK(dht_read(f, SHARD + 512, 0, &out) == 0);
	CHECK(dht_file_resized(f, 2 * SHARD) == 0);
	CHECK(dht_write(f, 2 * SHARD - 1, data, false) == 0);
	bufs_release(&out);
	dht_close(f);
	dht_volume_close(v);
	mem_reset();
}

static void requests_past_the_end_are_refused_until_the_file_is_resized(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, range_body);
}

struct seen {
	unsigned n;
	uint64_t len[16];
	bool data[16];
	unsigned stop_after;
};

static int see(void *arg, uint64_t len, bool data)
{
	struct seen *s = arg;

	CHECK(s->n < ARRAY_LEN(s->len));
	s->len[s->n] = len;
	s->data[s->n++] = data;
	return s->stop_after && s->n == s->stop_after;
}

static void extents_body(void *arg)
{
	uint8_t byte = 1;
	struct iovec one = {&byte, 1};
	struct iov data = {.v = &one, .n = 1};
	struct seen s = {0};
	struct dht_volume *v;
	struct dht_file *f;

	(void)arg;
	mem_reset();
	v = open_volume(2);
	f = open_file(v, 4 * SHARD);
	/* Data: the last block of shard 0, the first of shard 1, and one in the middle of shard 3. Shard 2 is absent.
	 */
	CHECK(dht_write(f, SHARD - 1, data, false) == 0);
	CHECK(dht_write(f, SHARD, data, false) == 0);
	CHECK(dht_write(f, 3 * SHARD + MIB(40), data, false) == 0);
	CHECK(dht_extents(f, 0, 4 * SHARD, see, &s) == 0);
	CHECK(s.n == 5);
	CHECK(!s.data[0] && s.len[0] == SHARD - 4096);
	CHECK(s.data[1] && s.len[1] == 8192);
	CHECK(!s.data[2] && s.len[2] == 2 * SHARD - 4096 + MIB(40));
	CHECK(s.data[3] && s.len[3] == 4096);
	CHECK(!s.data[4] && s.len[4] == SHARD - MIB(40) - 4096);
	/* Unaligned ends are cut to the range. */
	s = (struct seen){0};
	CHECK(dht_extents(f, SHARD - 5000, 1000, see, &s) == 0);
	CHECK(s.n == 2 && !s.data[0] && s.len[0] == 904 && s.data[1] && s.len[1] == 96);
	s = (struct seen){.stop_after = 1};
	CHECK(dht_extents(f, 0, 4 * SHARD, see, &s) == 0);
	CHECK(s.n == 1 && s.len[0] == SHARD - 4096);
	CHECK(dht_extents(f, SHARD, 4 * SHARD, see, &s) == -EINVAL);
	dht_close(f);
	dht_volume_close(v);
	mem_reset();
}

static void extents_join_over_shards_and_stop_when_told(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, extents_body);
}

static void placement_body(void *arg)
{
	static uint8_t block[4096] = {1};
	struct iovec one = {block, sizeof(block)};
	struct iov data = {.v = &one, .n = 1};
	char text[GFID_TEXT], name[80];
	struct dht_layout l;
	struct dht_volume *v;
	struct dht_file *f;

	(void)arg;
	mem_reset();
	mem_stores[0].capacity = GIB(10);
	mem_stores[1].capacity = GIB(30);
	v = open_volume(2);
	f = open_file(v, 40 * SHARD);
	CHECK(dht_layout_build(&l, (uint64_t[]){GIB(20), GIB(60)}, 2, dht_hash_name("/.shard"), 0) == 0);
	for (uint32_t i = 0; i < 40; i++) {
		uint32_t want;

		snprintf(name, sizeof(name), "%s.%u", gfid_text(&file_id, text), i);
		want = dht_layout_find(&l, dht_hash_name(name));
		CHECK(dht_write(f, i * SHARD, data, false) == 0);
		for (uint32_t set = 0; set < 2; set++)
			for (unsigned n = 0; n < MEM_FILES; n++)
				if (mem_stores[set].files[n].used && gfid_eq(&mem_stores[set].files[n].gfid, &file_id))
					CHECK((mem_stores[set].files[n].shard[i] != NULL) == (set == want));
	}
	dht_layout_free(&l);
	dht_close(f);
	dht_volume_close(v);
	mem_reset();
}

static void shards_lie_where_the_hash_of_their_names_points_weighted_by_size(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, placement_body);
}

static void fenced_body(void *arg)
{
	uint8_t byte = 1;
	struct iovec one = {&byte, 1};
	struct iov data = {.v = &one, .n = 1};
	struct dht_volume *v, *other;
	struct dht_file *f, *g = NULL;
	struct err e = ERR_INIT;

	(void)arg;
	mem_reset();
	v = open_volume(2);
	other = open_volume(2);
	f = open_file(v, 4 * SHARD);
	CHECK(dht_open(other, "lun", &file_id, 4 * SHARD, false, &g, &e) == 0);
	CHECK(dht_write(f, 0, data, false) == -MYFS_E_FENCED);
	CHECK(dht_write(g, 0, data, false) == 0);
	CHECK(dht_zero(f, 0, 4 * SHARD, false) == -MYFS_E_FENCED);
	CHECK(dht_flush(f) == -MYFS_E_FENCED);
	dht_close(f);
	dht_close(g);
	dht_volume_close(v);
	dht_volume_close(other);
	mem_reset();
}

static void a_deposed_owner_hears_it_on_every_kind_of_request(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, fenced_body);
}

static void open_fails_body(void *arg)
{
	struct dht_volume *v;
	struct dht_file *f = NULL;
	struct err e = ERR_INIT;

	(void)arg;
	mem_reset();
	v = open_volume(3);
	CHECK(dht_namespace_init(v, &e) == 0);
	mem.open_rc = -MYFS_E_QUORUM;
	CHECK(dht_open(v, "lun", &file_id, SHARD, true, &f, &e) == -MYFS_E_QUORUM);
	CHECK(strstr(e.text, "set 0") && strstr(e.text, "told to fail"));
	CHECK(f == NULL);
	mem.open_rc = 0;
	CHECK(dht_open(v, "lun", &file_id, SHARD, false, &f, &e) == -MYFS_E_UNSEEDED);
	dht_volume_close(v);
	mem_reset();
}

static void an_open_that_fails_says_on_which_set_and_why(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, open_fails_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(requests_across_shards_read_back_what_a_plain_array_would),
	    cmocka_unit_test(a_shard_that_does_not_exist_is_zeros_without_asking_a_brick),
	    cmocka_unit_test(requests_past_the_end_are_refused_until_the_file_is_resized),
	    cmocka_unit_test(extents_join_over_shards_and_stop_when_told),
	    cmocka_unit_test(shards_lie_where_the_hash_of_their_names_points_weighted_by_size),
	    cmocka_unit_test(a_deposed_owner_hears_it_on_every_kind_of_request),
	    cmocka_unit_test(an_open_that_fails_says_on_which_set_and_why),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
