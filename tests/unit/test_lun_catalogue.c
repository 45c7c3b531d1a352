/* Which LUNs exist: what was begun is finished or taken back, whatever moment it was cut off at. */
#include "tests/unit/blockd_fixture.h"

static bool name_exists(const char *name)
{
	for (unsigned s = 0; s < MEM_SETS; s++)
		if (mem_by_name(&mem_stores[s], GFID_BLOCK_DIR.b, name))
			return true;
	return false;
}

static bool trash_exists(const struct gfid *gfid)
{
	char text[GFID_TEXT], name[80];

	snprintf(name, sizeof(name), ".trash.%s", gfid_text(gfid, text));
	return name_exists(name);
}

static bool data_exists(const struct gfid *gfid)
{
	for (unsigned s = 0; s < MEM_SETS; s++) {
		const struct mem_file *f = mem_file(&mem_stores[s], gfid, false);

		for (unsigned i = 0; f && i < MEM_SHARDS; i++)
			if (f->shard[i])
				return true;
	}
	return false;
}

static void fill(struct blockd *d, const struct reg_lun *row, uint64_t off, uint8_t byte)
{
	struct iovec one = {&byte, 1};
	struct err e = ERR_INIT;
	struct lun *l;

	CHECK(lun_hold(d, row, &l, &e) == 0);
	CHECK(dht_write(l->file, off, (struct iov){.v = &one, .n = 1}, true) == 0);
	lun_release(l);
}

static uint8_t byte_at(struct blockd *d, const struct reg_lun *row, uint64_t off)
{
	struct err e = ERR_INIT;
	struct bufs out;
	uint8_t byte = 0xee;
	struct lun *l;

	bufs_init(&out);
	CHECK(lun_hold(d, row, &l, &e) == 0);
	CHECK(dht_read(l->file, off, 1, &out) == 0);
	bufs_copy_out(&out, 0, &byte, 1);
	bufs_release(&out);
	lun_release(l);
	return byte;
}

static void create_body(void *arg)
{
	struct lun_wish wish = {.volume = "vol", .name = "lun", .size_bytes = GIB(10), .block_size = 4096};
	struct err e = ERR_INIT;
	struct reg_lun row;
	struct blockd *d;
	bool existed;

	(void)arg;
	fixture_new(2);
	d = gateway_start("gw");
	make_lun(d, "lun", GIB(10));
	CHECK(name_exists("lun"));
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -EEXIST);
	wish.if_missing = true;
	CHECK(lun_create(d, &wish, &row, &existed, &e) == 0 && existed);
	wish.size_bytes = GIB(11);
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -EEXIST && row.size_bytes == GIB(10));
	wish = (struct lun_wish){.volume = "vol", .name = "odd", .size_bytes = 4097, .block_size = 512};
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -EINVAL);
	wish.size_bytes = 0;
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -EINVAL);
	wish.size_bytes = DHT_MAX_FILE_BYTES + 512;
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -EINVAL);
	wish = (struct lun_wish){.volume = "nowhere", .name = "lun", .size_bytes = 4096, .block_size = 512};
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -ENOENT);
	blockd_stop(d);
	fixture_end();
}

static void a_lun_is_made_once_and_bad_wishes_are_refused(void **state)
{
	(void)state;
	on_every_backend(create_body);
}

static void create_away_body(void *arg)
{
	struct lun_wish wish = {.volume = "vol", .name = "lun", .size_bytes = GIB(10), .block_size = 4096};
	struct err e = ERR_INIT;
	struct reg_lun row;
	struct blockd *d;
	bool existed;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "other", GIB(1));
	mem.ns_left = 0;
	CHECK(lun_create(d, &wish, &row, &existed, &e) == -MYFS_E_QUORUM);
	CHECK(reg_lun_get(d->registry, "vol", "lun", &row, NULL) ==
	      -ENOENT); /* the caller was told "no": it must not appear later */
	mem.ns_left = UINT32_MAX;
	CHECK(lun_create(d, &wish, &row, &existed, &e) == 0 && !existed);
	blockd_stop(d);
	fixture_end();
}

static void a_create_that_failed_leaves_nothing_behind(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, create_away_body);
}

/* A gateway that died between the row and the bricks. */
static void create_killed_body(void *arg)
{
	struct reg_lun row = {.volume = "vol",
			      .name = "lun",
			      .gfid = {{7}},
			      .size_bytes = GIB(1),
			      .block_size = 512,
			      .owner = "gw",
			      .created_ns = 1};
	struct err e = ERR_INIT;
	struct registry *r = NULL;
	struct blockd *d;

	(void)arg;
	fixture_new(2);
	CHECK(registry_open(fixture_registry, false, &r, &e) == 0);
	CHECK(reg_lun_put(r, &row, &e) == 0); /* CREATING */
	registry_close(r);
	d = gateway_start("gw");
	EVENTUALLY(row_state_is(d, &row.gfid, REG_LUN_READY));
	CHECK(name_exists("lun"));
	CHECK(byte_at(d, &row, 0) == 0);
	blockd_stop(d);
	fixture_end();
}

static void a_create_cut_off_by_a_kill_is_finished_at_the_next_start(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, create_killed_body);
}

static void trash_body(void *arg)
{
	struct err e = ERR_INIT;
	struct reg_lun row, back;
	struct blockd *d;

	(void)arg;
	fixture_new(2);
	d = gateway_start("gw");
	row = make_lun(d, "lun", GIB(1));
	fill(d, &row, MIB(100), 42);
	CHECK(lun_delete(d, &row, false, &e) == 0);
	CHECK(!name_exists("lun") && trash_exists(&row.gfid) && data_exists(&row.gfid));
	CHECK(reg_lun_get(d->registry, "vol", "lun", &back, NULL) == -ENOENT);
	make_lun(d, "lun", GIB(2)); /* the name is free at once */
	CHECK(lun_restore(d, &row, "lun", &back, &e) == -EEXIST);
	CHECK(lun_restore(d, &row, "lun2", &back, &e) == 0);
	CHECK(name_exists("lun2") && !trash_exists(&row.gfid));
	CHECK(byte_at(d, &back, MIB(100)) == 42);
	CHECK(lun_delete(d, &back, true, &e) == 0);
	CHECK(!name_exists("lun2") && !trash_exists(&row.gfid) && !data_exists(&row.gfid));
	CHECK(row_state_is(d, &row.gfid, -1));
	CHECK(!gfid_set_has(&d->attention, &row.gfid));
	blockd_stop(d);
	fixture_end();
}

static void a_deleted_lun_comes_back_with_its_data_until_it_is_purged(void **state)
{
	(void)state;
	on_every_backend(trash_body);
}

static void busy_body(void *arg)
{
	struct nbd_provider p;
	struct nbd_export_info info;
	struct err e = ERR_INIT;
	struct nbd_export *x;
	struct reg_lun row;
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	p = exports_provider(d);
	row = make_lun(d, "lun", GIB(1));
	CHECK(p.open(p.arg, "vol/lun", NULL, &x, &info, &e) == 0);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0 && strcmp(row.owner, "gw") == 0);
	CHECK(lun_delete(d, &row, false, &e) == -EBUSY);
	CHECK(lun_delete(d, &row, true, &e) == -EBUSY);
	CHECK(name_exists("lun") && row_state_is(d, &row.gfid, REG_LUN_READY));
	p.close(x);
	CHECK(lun_delete(d, &row, false, &e) == 0); /* open, but nobody uses it */
	blockd_stop(d);
	fixture_end();
}

static void a_lun_with_sessions_is_not_deleted(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, busy_body);
}

/* Deleting at once takes several steps on the bricks of three sets: stop them after each, then bring the bricks back.
 */
static void delete_cut_body(void *arg)
{
	(void)arg;
	for (unsigned cut = 0; cut < 5; cut++) {
		struct err e = ERR_INIT;
		struct reg_lun row;
		struct blockd *d;

		fixture_new(3);
		d = gateway_start("gw");
		row = make_lun(d, "lun", GIB(1));
		fill(d, &row, 0, 1);
		fill(d, &row, MIB(900), 1);
		mem.ns_left = cut;
		CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
		CHECK(lun_delete(d, &row, true, &e) == 0); /* recorded: it will happen */
		CHECK(cut >= 4 ? row_state_is(d, &row.gfid, -1) : row_state_is(d, &row.gfid, REG_LUN_PURGING));
		blockd_stop(d);
		mem.ns_left = UINT32_MAX;
		d = gateway_start("gw");
		EVENTUALLY(row_state_is(d, &row.gfid, -1));
		CHECK(!name_exists("lun") && !trash_exists(&row.gfid) && !data_exists(&row.gfid));
		blockd_stop(d);
		fixture_end();
	}
}

static void a_delete_cut_off_at_any_step_is_finished_at_the_next_start(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, delete_cut_body);
}

static void old_trash_body(void *arg)
{
	struct err e = ERR_INIT;
	struct reg_lun row, young;
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	row = make_lun(d, "lun", GIB(1));
	young = make_lun(d, "young", GIB(1));
	CHECK(lun_delete(d, &row, false, &e) == 0);
	CHECK(lun_delete(d, &young, false, &e) == 0);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
	row.deleted_ns = loop_wall_ns() - TRASH_KEEP_NS - NS_PER_S;
	CHECK(reg_lun_put(d->registry, &row, &e) == 0);
	reconcile_kick(d);
	EVENTUALLY(row_state_is(d, &row.gfid, -1));
	CHECK(!trash_exists(&row.gfid));
	CHECK(row_state_is(d, &young.gfid, REG_LUN_TRASH) && trash_exists(&young.gfid));
	blockd_stop(d);
	fixture_end();
}

static void what_lay_in_the_trash_for_seven_days_goes_for_good(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, old_trash_body);
}

static uint64_t size_on_bricks(struct blockd *d, const char *name)
{
	struct volume *v = volume_get(d, "vol");
	struct err e = ERR_INIT;
	struct gfid gfid;
	uint64_t size = 0;

	CHECK(dht_lookup(v->dht, name, &gfid, &size, &e) == 0);
	volume_put(v);
	return size;
}

static void resize_body(void *arg)
{
	struct nbd_provider p;
	struct nbd_export_info info;
	struct err e = ERR_INIT;
	struct nbd_export *x;
	struct reg_lun row;
	struct blockd *d;

	(void)arg;
	fixture_new(2);
	d = gateway_start("gw");
	p = exports_provider(d);
	row = make_lun(d, "lun", MIB(100));
	CHECK(p.open(p.arg, "vol/lun", NULL, &x, &info, &e) == 0);
	/* Grown while attached: new sessions see it. */
	CHECK(lun_resize(d, &row, MIB(200), false, false, &e) == 0);
	CHECK(p.info(p.arg, "vol/lun", NULL, &info, &e) == 0 && info.size_bytes == MIB(200));
	CHECK(size_on_bricks(d, "lun") == MIB(200));
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
	fill(d, &row, MIB(150), 9);
	CHECK(lun_resize(d, &row, MIB(100), false, false, &e) == -EPERM);
	CHECK(lun_resize(d, &row, MIB(100), true, true, &e) == -EBUSY);
	p.close(x);
	CHECK(lun_resize(d, &row, MIB(100), true, false, &e) == -EPERM); /* data beyond the new end */
	CHECK(lun_resize(d, &row, MIB(160), true, false, &e) == 0);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0 && row.size_bytes == MIB(160));
	CHECK(byte_at(d, &row, MIB(150)) == 9);
	CHECK(lun_resize(d, &row, MIB(100), true, true, &e) == 0);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0 && row.size_bytes == MIB(100));
	CHECK(lun_resize(d, &row, MIB(200), false, false, &e) == 0);
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
	CHECK(byte_at(d, &row, MIB(150)) == 0); /* what was cut off does not come back */
	CHECK(lun_resize(d, &row, MIB(200) + 1, false, false, &e) == -EINVAL);
	CHECK(lun_resize(d, &row, 0, true, true, &e) == -EINVAL);
	blockd_stop(d);
	fixture_end();
}

static void a_lun_grows_while_attached_and_shrinks_only_when_nothing_is_lost_unasked(void **state)
{
	(void)state;
	on_every_backend(resize_body);
}

static void resize_away_body(void *arg)
{
	struct err e = ERR_INIT;
	struct reg_lun row;
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	row = make_lun(d, "lun", MIB(100));
	fill(d, &row, 0, 1); /* open */
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0);
	mem.ns_left = 0;
	CHECK(lun_resize(d, &row, MIB(200), false, false, &e) == 0); /* clients have it; the bricks' note follows */
	CHECK(gfid_set_has(&d->resizing, &row.gfid));
	blockd_stop(d);
	mem.ns_left = UINT32_MAX;
	d = gateway_start("gw");
	CHECK(gfid_set_has(&d->resizing, &row.gfid));
	EVENTUALLY(!gfid_set_has(&d->resizing, &row.gfid));
	CHECK(size_on_bricks(d, "lun") == MIB(200));
	CHECK(reg_lun_get_gfid(d->registry, &row.gfid, &row, &e) == 0 && row.size_bytes == MIB(200));
	blockd_stop(d);
	fixture_end();
}

static void a_resize_cut_off_half_way_is_noted_on_the_bricks_later(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, resize_away_body);
}

static void new_volume_body(void *arg)
{
	struct lun_wish wish = {.volume = "late", .name = "lun", .size_bytes = GIB(1), .block_size = 4096};
	struct err e = ERR_INIT;
	struct registry *r = NULL;
	struct reg_lun row;
	struct blockd *d;
	bool existed;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	CHECK(registry_open(fixture_registry, false, &r, &e) == 0);
	fixture_volume(r, "late", 1); /* another process makes it */
	registry_close(r);
	EVENTUALLY(lun_create(d, &wish, &row, &existed, &e) == 0);
	blockd_stop(d);
	fixture_end();
}

static void a_volume_made_by_somebody_else_is_served_without_being_told(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, new_volume_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_lun_is_made_once_and_bad_wishes_are_refused),
	    cmocka_unit_test(a_create_that_failed_leaves_nothing_behind),
	    cmocka_unit_test(a_create_cut_off_by_a_kill_is_finished_at_the_next_start),
	    cmocka_unit_test(a_deleted_lun_comes_back_with_its_data_until_it_is_purged),
	    cmocka_unit_test(a_lun_with_sessions_is_not_deleted),
	    cmocka_unit_test(a_delete_cut_off_at_any_step_is_finished_at_the_next_start),
	    cmocka_unit_test(what_lay_in_the_trash_for_seven_days_goes_for_good),
	    cmocka_unit_test(a_lun_grows_while_attached_and_shrinks_only_when_nothing_is_lost_unasked),
	    cmocka_unit_test(a_resize_cut_off_half_way_is_noted_on_the_bricks_later),
	    cmocka_unit_test(a_volume_made_by_somebody_else_is_served_without_being_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
