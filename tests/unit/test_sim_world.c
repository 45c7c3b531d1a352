/* The simulator's own world: what it promises to those who look for bugs in it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "loop_fixture.h"
#include "tests/sim/world.h"

struct scene {
	struct world *w;
	struct host *a, *b;
	struct disk *d;
	uint8_t got[64];
	size_t got_n;
	int end;                 /* what ended the receiver */
	unsigned alive;
};

static uint64_t play(uint64_t seed, fiber_fn *body)
{
	struct scene s = {.w = world_new(seed)};

	s.a = host_new(s.w, "a");
	s.b = host_new(s.w, "b");
	s.d = disk_new(s.a, "a-disk", MIB(1));
	assert_int_equal(loop_run_fiber(world_loop(s.w), "test", body, &s), 0);
	uint64_t hash = world_trace_hash(s.w);
	world_free(s.w);
	return hash;
}

static void later(uint64_t ns)
{
	fiber_sleep_until(loop_now_ns() + ns);
}

static struct address address_b(void)
{
	return (struct address){.kind = ADDRESS_UNIX, .host = "b"};
}

/* ---- net ---- */

static void receive(void *arg)
{
	struct scene *s = arg;
	struct address at = address_b();
	struct listener *l;
	struct stream *x;

	CHECK(net_listen(host_net(s->b), &at, &l, NULL) == 0);
	CHECK(listener_accept(l, &x) == 0);
	for (;;) {
		ssize_t n = stream_recv(x, s->got + s->got_n, sizeof(s->got) - s->got_n);
		if (n <= 0) {
			s->end = (int)n;
			return;
		}
		s->got_n += (size_t)n;
	}
}

static void send_one(struct stream *x, uint8_t byte)
{
	struct iovec v = {&byte, 1};

	CHECK(stream_send(x, &v, 1) == 0);
}

static struct stream *connect_b(struct scene *s)
{
	struct address at = address_b();
	struct stream *x;

	later(NS_PER_MS);
	CHECK(net_connect(host_net(s->a), &at, loop_now_ns() + NS_PER_S, &x, NULL) == 0);
	return x;
}

static void sender(void *arg)
{
	struct scene *s = arg;
	struct stream *x = connect_b(s);

	for (uint8_t i = 0; i < 10; i++) {
		send_one(x, i);
		later(300000); /* so that each looks at the blocked link at a time of its own */
	}
	later(3600 * NS_PER_S);
	s->alive++;
}

static void body_blocked(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->b, "receive", receive, s);
	host_spawn(s->a, "send", sender, s);
	later(2 * NS_PER_MS);
	link_block(s->w, s->a, s->b, true);
	size_t before = s->got_n;
	later(10 * NS_PER_MS);
	CHECK(s->got_n <= before + 1);
	link_block(s->w, s->a, s->b, false);
	later(10 * NS_PER_MS);
	CHECK(s->got_n == 10);
	for (uint8_t i = 0; i < 10; i++)
		CHECK(s->got[i] == i);
}

static void body_cut(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->b, "receive", receive, s);
	host_spawn(s->a, "send", sender, s);
	later(5 * NS_PER_MS);
	link_cut(s->a, s->b);
	later(NS_PER_MS);
	CHECK(s->end == -ECONNRESET);
}

static void body_kill(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->b, "receive", receive, s);
	host_spawn(s->a, "send", sender, s);
	later(5 * NS_PER_MS);
	host_kill(s->a);
	later(NS_PER_MS);
	CHECK(s->end == -ECONNRESET);
	later(7200 * NS_PER_S);
	CHECK(s->alive == 0);
}

static void body_power(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->b, "receive", receive, s);
	host_spawn(s->a, "send", sender, s);
	later(5 * NS_PER_MS);
	struct gfid boot = host_boot_id(s->a);
	host_power_loss(s->a);
	later(3600 * NS_PER_S);
	CHECK(s->end == 0); /* nobody told it */
	host_up(s->a);
	later(NS_PER_MS);
	struct gfid now = host_boot_id(s->a);
	CHECK(s->end == -ECONNRESET && !gfid_eq(&boot, &now));
}

static void bytes_never_overtake_each_other_when_a_blocked_link_opens(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 30; seed++)
		play(seed, body_blocked);
}

static void a_cut_ends_both_ends_with_a_reset(void **state)
{
	(void)state;
	play(1, body_cut);
}

static void a_killed_host_resets_its_peers_and_its_fibers_never_run_again(void **state)
{
	(void)state;
	play(1, body_kill);
}

static void peers_learn_of_a_power_loss_when_the_host_is_up_again(void **state)
{
	(void)state;
	play(1, body_power);
}

/* ---- disk ---- */

static void put(struct file *f, uint8_t byte, uint64_t off)
{
	uint8_t page[MYFS_BLOCK];

	memset(page, byte, sizeof(page));
	CHECK(file_pwrite(f, page, sizeof(page), off) == 0);
}

static struct file *open_it(struct scene *s, const char *name, int flags)
{
	struct store *st;
	struct file *f;

	CHECK(disk_store(s->d, &st) == 0);
	CHECK(store_open(st, name, flags, 0600, &f) == 0);
	if (flags & O_CREAT)
		CHECK(store_sync_dir(st, "") == 0);
	return f;
}

static void write_pages(void *arg)
{
	struct scene *s = arg;
	struct file *f = open_it(s, "x", O_RDWR | O_CREAT);

	put(f, 1, 0);
	put(f, 1, MYFS_BLOCK);
	CHECK(file_datasync(f) == 0);
	put(f, 2, MYFS_BLOCK);
	put(f, 3, MYFS_BLOCK);
	put(f, 3, 2 * MYFS_BLOCK);
	s->alive = 1;
}

static unsigned seen_old, seen_new, seen_torn;

static void read_pages(void *arg)
{
	struct scene *s = arg;
	uint8_t page[2 * MYFS_BLOCK];
	struct file *f = open_it(s, "x", O_RDONLY);

	CHECK(file_pread(f, page, sizeof(page), 0) == (ssize_t)sizeof(page));
	for (unsigned i = 0; i < MYFS_BLOCK; i++)
		CHECK(page[i] == 1);
	const uint8_t *second = page + MYFS_BLOCK;
	for (unsigned i = 0; i < MYFS_BLOCK; i++) {
		CHECK(second[i] >= 1 && second[i] <= 3);
		CHECK(second[i] == second[i - i % 512]);
	}
	bool torn = false;
	for (unsigned i = 1; i < MYFS_BLOCK; i++)
		torn |= second[i] != second[0];
	seen_torn += torn;
	seen_old += !torn && second[0] == 1;
	seen_new += !torn && second[0] == 3;
	s->alive = 2;
}

static void body_disk_power(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->a, "write", write_pages, s);
	while (s->alive != 1)
		later(NS_PER_MS);
	host_power_loss(s->a);
	host_up(s->a);
	host_spawn(s->a, "read", read_pages, s);
	while (s->alive != 2)
		later(NS_PER_MS);
}

static void read_killed(void *arg)
{
	struct scene *s = arg;
	uint8_t page[MYFS_BLOCK];
	struct file *f = open_it(s, "x", O_RDONLY);

	CHECK(file_pread(f, page, sizeof(page), 2 * MYFS_BLOCK) == (ssize_t)sizeof(page));
	CHECK(page[0] == 3 && page[MYFS_BLOCK - 1] == 3);
	s->alive = 2;
}

static void body_disk_kill(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->a, "write", write_pages, s);
	while (s->alive != 1)
		later(NS_PER_MS);
	host_kill(s->a);
	host_up(s->a);
	host_spawn(s->a, "read", read_killed, s);
	while (s->alive != 2)
		later(NS_PER_MS);
}

static void what_was_synced_survives_power_loss_and_the_rest_may_be_old_new_or_torn_by_sectors(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 200; seed++)
		play(seed, body_disk_power);
	assert_true(seen_old > 0 && seen_new > 0 && seen_torn > 0);
}

static void a_kill_loses_nothing_that_was_written(void **state)
{
	(void)state;
	play(1, body_disk_kill);
}

static void make_names(void *arg)
{
	struct scene *s = arg;
	struct store *st;
	struct file *f;

	CHECK(disk_store(s->d, &st) == 0);
	CHECK(store_open(st, "new", O_RDWR | O_CREAT, 0600, &f) == 0);
	CHECK(store_open(st, "present", O_RDWR | O_CREAT, 0600, &f) == 0);
	CHECK(store_sync_dir(st, "") == 0);
	CHECK(store_rename(st, "new", "present") == 0);
	CHECK(store_open(st, "unsynced", O_RDWR | O_CREAT, 0600, &f) == 0);
	s->alive = 1;
}

static unsigned seen_renamed, seen_not_renamed, seen_unsynced;

static void look_at_names(void *arg)
{
	struct scene *s = arg;
	struct store *st;
	struct file_info info;

	CHECK(disk_store(s->d, &st) == 0);
	CHECK(store_stat(st, "present", &info) == 0); /* never in between */
	if (store_stat(st, "new", &info) == 0)
		seen_not_renamed++;
	else
		seen_renamed++;
	seen_unsynced += store_stat(st, "unsynced", &info) == 0;
	s->alive = 2;
}

static void body_names(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->a, "names", make_names, s);
	while (s->alive != 1)
		later(NS_PER_MS);
	host_power_loss(s->a);
	host_up(s->a);
	host_spawn(s->a, "look", look_at_names, s);
	while (s->alive != 2)
		later(NS_PER_MS);
}

static void a_rename_is_whole_or_not_at_all_after_power_loss(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed < 100; seed++)
		play(seed, body_names);
	assert_true(seen_renamed > 0 && seen_not_renamed > 0);
	assert_true(seen_unsynced > 0 && seen_unsynced < 99);
}

static void misuse_disk(void *arg)
{
	struct scene *s = arg;
	uint8_t page[MYFS_BLOCK] = {9};
	struct file *f = open_it(s, "x", O_RDWR | O_CREAT);

	disk_fail(s->d, DISK_FAIL_WRITE, 1);
	CHECK(file_pwrite(f, page, sizeof(page), 0) == -EIO);
	CHECK(file_pwrite(f, page, sizeof(page), 0) == 0);
	disk_fail(s->d, DISK_FAIL_SYNC, 1);
	CHECK(file_datasync(f) == -EIO && file_datasync(f) == 0);
	disk_set_capacity(s->d, MYFS_BLOCK);
	CHECK(file_pwrite(f, page, sizeof(page), MYFS_BLOCK) == -ENOSPC);
	CHECK(file_pwrite(f, page, sizeof(page), 0) == 0);
	disk_set_capacity(s->d, MIB(1));
	disk_lie_once(s->d, DISK_LOSE_WRITE, "x");
	put(f, 7, 0);
	CHECK(file_pread(f, page, sizeof(page), 0) == MYFS_BLOCK && page[0] == 9);
	disk_lie_once(s->d, DISK_MISDIRECT_WRITE, "x");
	put(f, 7, 0);
	CHECK(file_pread(f, page, sizeof(page), 0) == MYFS_BLOCK && page[0] == 9);
	CHECK(file_pread(f, page, sizeof(page), MYFS_BLOCK) == MYFS_BLOCK && page[0] == 7);
	CHECK(disk_bit_rot(s->d, "x") && !disk_bit_rot(s->d, "no such file"));
	s->alive = 1;
}

static void body_misuse(void *arg)
{
	struct scene *s = arg;

	host_spawn(s->a, "misuse", misuse_disk, s);
	while (s->alive != 1)
		later(NS_PER_MS);
}

static void injected_errors_and_lies_happen_once(void **state)
{
	(void)state;
	play(1, body_misuse);
}

static void body_mixed(void *arg)
{
	body_blocked(arg);
	((struct scene *)arg)->alive = 0;
	body_disk_power(arg);
}

static void the_same_seed_is_the_same_history(void **state)
{
	(void)state;
	uint64_t first = play(5, body_mixed);
	assert_true(play(5, body_mixed) == first);
	assert_true(play(6, body_mixed) != first);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bytes_never_overtake_each_other_when_a_blocked_link_opens),
		cmocka_unit_test(a_cut_ends_both_ends_with_a_reset),
		cmocka_unit_test(a_killed_host_resets_its_peers_and_its_fibers_never_run_again),
		cmocka_unit_test(peers_learn_of_a_power_loss_when_the_host_is_up_again),
		cmocka_unit_test(what_was_synced_survives_power_loss_and_the_rest_may_be_old_new_or_torn_by_sectors),
		cmocka_unit_test(a_kill_loses_nothing_that_was_written),
		cmocka_unit_test(a_rename_is_whole_or_not_at_all_after_power_loss),
		cmocka_unit_test(injected_errors_and_lies_happen_once),
		cmocka_unit_test(the_same_seed_is_the_same_history),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
