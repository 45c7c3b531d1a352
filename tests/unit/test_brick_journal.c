/* test_brick_journal.c - the ring file: order, wrap, torn tails, group sync. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include "brick/journal.h"
#include "brick_fixture.h"
#include "core/base/crc32c.h"

#define SIZE MIB(4)
#define PATH "ring"

struct seen {
	uint64_t first, next; /* rounds of DONE records, in a row */
	unsigned n, preps;
};

struct ring {
	struct brick_dir dir;
	struct loop *loop;
	struct journal *j;
	struct seen seen;
	uint64_t trim, salt, round;
	int failed;
};

static int on_record(void *arg, struct record *r)
{
	struct seen *s = arg;
	if (r->type == REC_PREP)
		s->preps++;
	if (r->type != REC_DONE)
		return 0;
	if (!s->n)
		s->first = s->next = r->done.round;
	CHECK(r->done.round == s->next);
	s->next++;
	s->n++;
	return 0;
}

static void on_error(void *arg, int rc, const char *what)
{
	CHECK(what);
	*(int *)arg = rc;
}

static void ring_open(struct ring *g) YIELDS
{
	struct file *f;
	struct err e = ERR_INIT;
	CHECK(store_open(g->dir.s, PATH, O_RDWR, 0, &f) == 0);
	struct journal_config cfg = {.loop = g->loop,
				     .file = f,
				     .size_bytes = SIZE,
				     .trim = g->trim,
				     .salt = ++g->salt,
				     .on_error = on_error,
				     .arg = &g->failed};
	g->seen = (struct seen){0};
	CHECK(journal_open(&cfg, on_record, &g->seen, &g->j, &e) == 0);
}

static void ring_make(struct ring *g, struct loop *l) YIELDS
{
	struct file *f;
	memset(g, 0, sizeof(*g));
	g->loop = l;
	brick_dir_make(&g->dir);
	CHECK(store_open(g->dir.s, PATH, O_RDWR | O_CREAT, 0600, &f) == 0);
	CHECK(file_truncate(f, SIZE) == 0);
	file_close(f);
	ring_open(g);
}

static void ring_restart(struct ring *g, bool write_out) YIELDS
{
	journal_close(g->j, write_out);
	ring_open(g);
}

static void ring_remove(struct ring *g) YIELDS
{
	journal_close(g->j, true);
	brick_dir_remove(&g->dir);
}

static int put_done(struct ring *g)
{
	uint64_t lsn;
	uint8_t *p = journal_body(g->j, 8);
	if (!p)
		return -EIO;
	struct wcur c = wcur_of(p, 8);
	record_put_done(&c, g->round);
	int rc = journal_append(g->j, REC_DONE, 8, NULL, &lsn);
	if (rc == 0)
		g->round++;
	return rc;
}

static int put_prep(struct ring *g, uint32_t rows, uint64_t *ret_lsn)
{
	uint32_t crc[BP_MAX_ROWS_PAYLOAD];
	struct buf *b = buf_alloc(rows * MYFS_BLOCK);
	memset(b->data, (int)rows, rows * MYFS_BLOCK);
	for (uint32_t i = 0; i < rows; i++)
		crc[i] = crc32c(b->data, MYFS_BLOCK);
	struct rec_prep p = {.tx = {1, 1}, .kind = BP_ABS, .nrows = rows, .ncrc = rows};
	uint8_t *body = journal_body(g->j, RECORD_PREP_BODY(rows));
	CHECK(body);
	struct wcur c = wcur_of(body, RECORD_PREP_BODY(rows));
	record_put_prep(&c, &p, crc);
	struct slice s = {b, b->data, rows * MYFS_BLOCK};
	int rc = journal_append(g->j, REC_PREP, RECORD_PREP_BODY(rows), &s, ret_lsn);
	buf_unref(b); /* the journal holds its own reference */
	return rc;
}

#define RING_TEST(name)                                                                                                \
	static void name##_body(struct ring *g);                                                                       \
	static void name##_fiber(void *loop)                                                                           \
	{                                                                                                              \
		struct ring g;                                                                                         \
		ring_make(&g, loop);                                                                                   \
		name##_body(&g);                                                                                       \
		ring_remove(&g);                                                                                       \
	}                                                                                                              \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		on_every_backend(name##_fiber);                                                                        \
	}                                                                                                              \
	static void name##_body(struct ring *g)

RING_TEST(what_was_written_is_found_again_in_order)
{
	uint64_t lsn;
	for (int i = 0; i < 50; i++) {
		CHECK(put_done(g) == 0);
		CHECK(put_prep(g, 1 + (uint32_t)i % 5, &lsn) == 0);
		if (i % 7 == 0)
			CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	}
	uint8_t block[MYFS_BLOCK];
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	CHECK(journal_read_payload(g->j, lsn, record_total(RECORD_PREP_BODY(5), 0), block, MYFS_BLOCK) == 0);
	CHECK(block[0] == 5 && block[MYFS_BLOCK - 1] == 5);
	ring_restart(g, true);
	CHECK(g->seen.n == 50 && g->seen.preps == 50 && g->seen.first == 0);
}

RING_TEST(what_was_only_queued_is_lost_with_the_process)
{
	CHECK(put_done(g) == 0);
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	CHECK(put_done(g) == 0);
	ring_restart(g, false);
	CHECK(g->seen.n == 1);
}

RING_TEST(the_ring_wraps_and_never_overwrites_what_is_needed)
{
	uint64_t lsn, marks[64];
	unsigned n = 0;
	for (int i = 0; i < 400; i++) { /* 25 MiB through 4 */
		uint32_t rows = 1 + (uint32_t)(i * 37) % 32;
		while (!journal_has_room(g->j, RECORD_PREP_BODY(rows), rows * MYFS_BLOCK, 4096)) {
			CHECK(n > 0);
			g->trim = marks[0];
			memmove(marks, marks + 1, --n * sizeof(*marks));
			journal_set_trim(g->j, g->trim);
		}
		CHECK(put_prep(g, rows, &lsn) == 0);
		if (i % 8 == 0 && n < 64)
			marks[n++] = journal_end(g->j);
		CHECK(put_done(g) == 0);
		CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
		CHECK(journal_used(g->j) <= SIZE);
	}
	CHECK(journal_end(g->j) > 5 * SIZE);
	uint64_t end = journal_end(g->j);
	ring_restart(g, true);
	CHECK(journal_end(g->j) == end && g->seen.next == g->round && g->seen.n > 10);
	struct seen again = {0};
	CHECK(journal_scan(g->j, journal_trim_pos(g->j), journal_end(g->j), on_record, &again) == 0 &&
	      again.n == g->seen.n);
}

RING_TEST(a_full_ring_refuses_records_until_it_is_trimmed)
{
	uint64_t lsn;
	int rc = 0;
	while (rc == 0)
		rc = put_prep(g, 200, &lsn);
	CHECK(rc == -ENOSPC);
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	journal_set_trim(g->j, journal_end(g->j));
	g->trim = journal_end(g->j);
	CHECK(put_prep(g, 200, &lsn) == 0);
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	ring_restart(g, true);
	CHECK(g->seen.preps == 1);
}

static void damage(struct ring *g, uint64_t at, const void *bytes, size_t len) YIELDS
{
	struct file *f;
	CHECK(store_open(g->dir.s, PATH, O_RDWR, 0, &f) == 0);
	CHECK(file_pwrite(f, bytes, len, at) == 0);
	file_close(f);
}

RING_TEST(a_torn_record_ends_the_log_before_it)
{
	uint64_t at = 0, lsn;
	for (int i = 0; i < 10; i++) {
		CHECK(put_done(g) == 0);
		if (i == 6)
			at = journal_end(g->j);
		CHECK(put_prep(g, 1, &lsn) == 0);
	}
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	journal_close(g->j, true);
	damage(g, at + 2000, "torn", 4);
	ring_open(g);
	CHECK(g->seen.n == 7 && g->seen.preps == 6 && journal_end(g->j) == at);
}

/* A lost record is written again; the one that stood behind it must stay dead even where the new one has the same
 * length. */
RING_TEST(a_record_behind_a_lost_one_never_comes_back)
{
	uint8_t zero[128] = {0};
	uint64_t at;
	CHECK(put_done(g) == 0);
	at = journal_end(g->j);
	CHECK(put_done(g) == 0);
	CHECK(put_done(g) == 0);
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	journal_close(g->j, true);
	damage(g, at, zero, sizeof(zero));
	ring_open(g);
	CHECK(g->seen.n == 1);
	g->round = 1;
	CHECK(put_done(g) == 0); /* the very same contents */
	CHECK(journal_wait_written(g->j, journal_end(g->j)) == 0);
	ring_restart(g, true);
	CHECK(g->seen.n == 2);
}

struct syncer {
	struct ring *g;
	unsigned *done;
};

static void sync_fiber(void *arg)
{
	struct syncer *s = arg;
	CHECK(put_done(s->g) == 0);
	CHECK(journal_sync(s->g->j, journal_end(s->g->j)) == 0);
	++*s->done;
}

RING_TEST(many_syncs_share_a_few)
{
	unsigned done = 0;
	struct syncer s = {g, &done};
	for (int i = 0; i < 100; i++)
		CHECK(fiber_spawn(g->loop, "sync", sync_fiber, &s) == 0);
	while (done < 100)
		fiber_yield();
	CHECK(journal_syncs(g->j) <= 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_was_written_is_found_again_in_order),
	    cmocka_unit_test(what_was_only_queued_is_lost_with_the_process),
	    cmocka_unit_test(the_ring_wraps_and_never_overwrites_what_is_needed),
	    cmocka_unit_test(a_full_ring_refuses_records_until_it_is_trimmed),
	    cmocka_unit_test(a_torn_record_ends_the_log_before_it),
	    cmocka_unit_test(a_record_behind_a_lost_one_never_comes_back),
	    cmocka_unit_test(many_syncs_share_a_few),
	};
	return cmocka_run_group_tests_name("brick journal", tests, NULL, NULL);
}
