/* Names over sets: made once, found everywhere, finished when interrupted, never guessed at when damaged. */
#include "tests/unit/loop_fixture.h"

#include "dht/dht.h"
#include "dht/layout.h"
#include "tests/unit/ec_memory.h"

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

static struct gfid gfid_number(unsigned i)
{
	return (struct gfid){{(uint8_t)(i + 1), 0xaa, (uint8_t)(i * 37), [15] = 7}};
}

struct listing {
	unsigned n;
	unsigned mask;
};

static int add_name(void *arg, const char *name, const struct gfid *gfid)
{
	struct listing *l = arg;

	(void)gfid;
	l->n++;
	l->mask |= 1u << atoi(name + 3);
	return 0;
}

static void life_body(void *arg)
{
	(void)arg;
	for (uint32_t sets = 1; sets <= 3; sets++) {
		struct err e = ERR_INIT;
		struct listing l = {0, 0};
		struct dht_volume *v;
		struct gfid found, id;
		uint64_t size;

		mem_reset();
		v = open_volume(sets);
		CHECK(dht_namespace_init(v, &e) == 0);
		for (unsigned i = 0; i < 20; i++) {
			char name[16];

			snprintf(name, sizeof(name), "lun%u", i);
			id = gfid_number(i);
			CHECK(dht_create(v, name, &id, GIB(i + 1), &e) == 0);
			CHECK(dht_create(v, name, &id, GIB(i + 1), &e) == 0); /* again: nothing changes */
			CHECK(dht_lookup(v, name, &found, &size, &e) == 0);
			CHECK(gfid_eq(&found, &id) && size == GIB(i + 1));
		}
		CHECK(dht_list(v, add_name, &l, &e) == 0);
		CHECK(l.n == 20 && l.mask == (1u << 20) - 1);
		id = gfid_number(3);
		CHECK(dht_set_size(v, &id, "lun3", GIB(99), &e) == 0);
		CHECK(dht_lookup(v, "lun3", &found, &size, &e) == 0 && size == GIB(99));
		CHECK(dht_trash(v, "lun3", &id, &e) == 0);
		CHECK(dht_trash(v, "lun3", &id, &e) == 0);
		CHECK(dht_lookup(v, "lun3", &found, &size, &e) == -ENOENT);
		l = (struct listing){0, 0};
		CHECK(dht_list(v, add_name, &l, &e) == 0 && l.n == 19);
		CHECK(dht_restore(v, &id, "lun30", &e) == 0);
		CHECK(dht_lookup(v, "lun30", &found, &size, &e) == 0 && gfid_eq(&found, &id));
		CHECK(dht_trash(v, "lun30", &id, &e) == 0);
		CHECK(dht_unlink_trashed(v, &id, &e) == 0);
		CHECK(dht_unlink_trashed(v, &id, &e) == 0);
		CHECK(dht_restore(v, &id, "lun30", &e) == -ENOENT);
		dht_volume_close(v);
	}
	mem_reset();
}

static void files_are_made_found_renamed_to_the_trash_and_removed_on_any_number_of_sets(void **state)
{
	(void)state;
	on_every_backend(life_body);
}

static void bad_names_body(void *arg)
{
	static const char *const bad[] = {"", ".", "..", "a/b", ".trash.x"};
	struct err e = ERR_INIT;
	struct gfid id = gfid_number(0);
	struct dht_volume *v;
	char longest[300];

	(void)arg;
	mem_reset();
	v = open_volume(1);
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(dht_create(v, bad[i], &id, 4096, &e) == -EINVAL);
	CHECK(dht_create(v, longest, &id, 4096, &e) == -EINVAL);
	CHECK(dht_create(v, "lun", &id, DHT_MAX_FILE_BYTES + 1, &e) == -EINVAL);
	dht_volume_close(v);
	mem_reset();
}

static void names_that_could_escape_or_collide_are_refused(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, bad_names_body);
}

/* The namespace of a 3-set volume takes many steps; cut it off after each and begin again on another gateway. */
static void interrupted_body(void *arg)
{
	unsigned steps;
	(void)arg;
	for (unsigned cut = 0;; cut++) {
		struct err e = ERR_INIT;
		struct dht_volume *v;
		struct gfid id = gfid_number(1), found;
		uint64_t size;
		int rc;

		mem_reset();
		v = open_volume(3);
		mem.ns_left = cut + 1; /* 0 would also mean "nobody connected" */
		rc = dht_namespace_init(v, &e);
		steps = mem.ns_changes;
		dht_volume_close(v);
		mem.ns_left = UINT32_MAX;
		v = open_volume(3);
		mem_stores[2].capacity = GIB(cut + 1); /* the second attempt may compute other ranges */
		CHECK(dht_namespace_init(v, &e) == 0);
		CHECK(dht_create(v, "lun", &id, 4096, &e) == 0);
		CHECK(dht_lookup(v, "lun", &found, &size, &e) == 0);
		dht_volume_close(v);
		if (rc == 0)
			break;
		CHECK(steps == cut + 1);
	}
	CHECK(steps > 15);
	mem_reset();
}

static void an_interrupted_start_of_a_volume_is_finished_whatever_step_it_stopped_at(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, interrupted_body);
}

static struct mem_xattr *shard_dir_range(unsigned set)
{
	struct mem_xattr *x = mem_xattrs(&mem_stores[set], GFID_SHARD_DIR.b);

	while (strcmp(x->name, DHT_XATTR_NAME) != 0)
		x++;
	return x;
}

static void damaged_body(void *arg)
{
	struct err e = ERR_INIT;
	struct gfid id = gfid_number(1);
	struct mem_xattr before;
	struct dht_volume *v;

	(void)arg;
	mem_reset();
	v = open_volume(2);
	CHECK(dht_namespace_init(v, &e) == 0);
	dht_volume_close(v);
	before = *shard_dir_range(1);
	shard_dir_range(1)->value[11] ^= 1; /* start moves: a hole or an overlap */
	v = open_volume(2);
	CHECK(dht_namespace_init(v, &e) == -EUCLEAN);
	CHECK(dht_create(v, "lun", &id, 4096, &e) == -EUCLEAN);
	CHECK(strstr(e.text, "layout"));
	dht_volume_close(v);
	/* Mended by hand it is used again: nothing was rewritten meanwhile. */
	*shard_dir_range(1) = before;
	v = open_volume(2);
	CHECK(dht_namespace_init(v, &e) == 0);
	CHECK(memcmp(shard_dir_range(1), &before, sizeof(before)) == 0);
	dht_volume_close(v);
	mem_reset();
}

static void a_damaged_layout_is_an_error_and_is_never_written_over(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, damaged_body);
}

static void duel_body(void *arg)
{
	struct err e = ERR_INIT;
	struct dht_volume *a, *b;
	struct gfid ida = gfid_number(1), idb = gfid_number(2), found;
	uint64_t size;

	(void)arg;
	mem_reset();
	a = open_volume(1);
	CHECK(dht_namespace_init(a, &e) == 0);
	b = open_volume(1);
	for (int i = 0; i < 3; i++) {
		CHECK(dht_namespace_open(b, &e) == 0);
		CHECK(dht_create(b, "b", &idb, 4096, &e) == 0);
		CHECK(dht_create(a, "a", &ida, 4096, &e) == 0); /* takes the names back by itself */
	}
	CHECK(dht_lookup(b, "a", &found, &size, &e) == 0 && gfid_eq(&found, &ida));
	dht_volume_close(a);
	dht_volume_close(b);
	mem_reset();
}

static void two_gateways_take_the_names_from_each_other_and_both_get_their_work_done(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, duel_body);
}

static void away_body(void *arg)
{
	struct err e = ERR_INIT;
	struct gfid id = gfid_number(1), found;
	struct dht_volume *v;
	uint64_t size;

	(void)arg;
	mem_reset();
	v = open_volume(2);
	CHECK(dht_namespace_init(v, &e) == 0);
	mem.ns_left = 0;
	CHECK(dht_create(v, "lun", &id, 4096, &e) == -MYFS_E_QUORUM);
	CHECK(strstr(e.text, "bricks are away"));
	CHECK(dht_lookup(v, "lun", &found, &size, &e) == -MYFS_E_QUORUM); /* not "no such file" */
	dht_volume_close(v);
	mem_reset();
}

static void without_a_quorum_nothing_is_said_not_to_exist(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, away_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(files_are_made_found_renamed_to_the_trash_and_removed_on_any_number_of_sets),
	    cmocka_unit_test(names_that_could_escape_or_collide_are_refused),
	    cmocka_unit_test(an_interrupted_start_of_a_volume_is_finished_whatever_step_it_stopped_at),
	    cmocka_unit_test(a_damaged_layout_is_an_error_and_is_never_written_over),
	    cmocka_unit_test(two_gateways_take_the_names_from_each_other_and_both_get_their_work_done),
	    cmocka_unit_test(without_a_quorum_nothing_is_said_not_to_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
