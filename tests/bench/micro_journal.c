/* micro_journal.c - appends to a brick's journal: how many records of a 4 KiB write get into the file, and onto stable storage, when
 * QD writers wait for theirs. Appends of one loop iteration leave in one write, syncs are shared: both show as QD grows.
 *
 *   micro_journal DIR               a file of 64 MiB is made there and removed */
#include <fcntl.h>
#include <stdio.h>

#include "brick/journal.h"
#include "core/base/crc32c.h"

#define RING_BYTES MIB(64)
#define RUN_NS	   NS_PER_S
#define NAME	   "micro_journal.tmp"
#define QD_MAX	   64u

static const char *dir;

struct bench {
	struct journal *j;
	struct buf *block;
	uint64_t end_ns, records;
	bool sync;
	unsigned running;
	struct waitq over;
};

static int on_record(void *arg, struct record *r)
{
	(void)arg;
	(void)r;
	return 0;
}

static void on_error(void *arg, int rc, const char *what)
{
	(void)arg;
	fprintf(stderr, "journal: %s: %s\n", what, err_name(rc));
	exit(1);
}

/* One write of a block, as a brick journals it. */
static uint64_t append(struct bench *b)
{
	uint32_t crc = crc32c(b->block->data, MYFS_BLOCK);
	struct rec_prep p = {.tx = {1, b->records + 1}, .kind = BP_ABS, .nrows = 1, .ncrc = 1};
	struct slice s = {b->block, b->block->data, MYFS_BLOCK};
	uint64_t lsn;

	while (!journal_has_room(b->j, RECORD_PREP_BODY(1), MYFS_BLOCK, MIB(1))) {
		uint64_t end = journal_end(b->j);
		journal_wait_written(b->j, end);
		if (end > journal_trim_pos(b->j)) /* another writer may have been here meanwhile */
			journal_set_trim(b->j, end);
	}
	uint8_t *body = journal_body(b->j, RECORD_PREP_BODY(1));
	struct wcur c = wcur_of(body, RECORD_PREP_BODY(1));
	record_put_prep(&c, &p, &crc);
	if (!body || journal_append(b->j, REC_PREP, RECORD_PREP_BODY(1), &s, &lsn) != 0)
		exit(1);
	return journal_end(b->j);
}

static void writer(void *arg)
{
	struct bench *b = arg;

	while (loop_now_ns() < b->end_ns) {
		uint64_t upto = append(b);
		if ((b->sync ? journal_sync(b->j, upto) : journal_wait_written(b->j, upto)) != 0)
			exit(1);
		b->records++;
	}
	if (--b->running == 0)
		waitq_wake_all(&b->over);
}

static void measure(struct bench *b, unsigned qd, bool sync) YIELDS
{
	uint64_t start = loop_precise_ns(), syncs = journal_syncs(b->j);

	b->end_ns = start + RUN_NS;
	b->records = 0;
	b->sync = sync;
	for (unsigned i = 0; i < qd; i++)
		if (fiber_spawn(loop_self(), "writer", writer, b) == 0)
			b->running++;
	while (b->running > 0)
		waitq_wait(&b->over);
	double took_s = (double)(loop_precise_ns() - start) / 1e9, n = (double)b->records;
	printf("4 KiB record %-8s QD%-3u %10.0f /s %8.2f us each", sync ? "durable" : "in file", qd, n / took_s, took_s * 1e6 / n);
	if (sync)
		printf("  %.1f records a sync", n / (double)max_u64(1, journal_syncs(b->j) - syncs));
	putchar('\n');
}

static void bench_main(void *arg)
{
	struct bench b = {.block = buf_alloc(MYFS_BLOCK)};
	struct store *st;
	struct file *f;
	struct err e = ERR_INIT;

	waitq_init(&b.over);
	if (!b.block || store_open_posix(dir, &st, &e) < 0 || store_open(st, NAME, O_RDWR | O_CREAT | O_TRUNC, 0600, &f) < 0 || file_allocate(f, FILE_PREALLOCATE, 0, RING_BYTES) < 0) {
		fprintf(stderr, "%s: %s\n", dir, e.text[0] ? e.text : "cannot make a file of 64 MiB");
		exit(1);
	}
	memset(b.block->data, 7, MYFS_BLOCK);
	struct journal_config cfg = {.loop = arg, .file = f, .size_bytes = RING_BYTES, .salt = 1, .on_error = on_error};
	if (journal_open(&cfg, on_record, NULL, &b.j, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	for (unsigned sync = 0; sync < 2; sync++)
		for (unsigned qd = 1; qd <= QD_MAX; qd *= 8)
			measure(&b, qd, sync != 0);
	journal_close(b.j, true);
	store_unlink(st, NAME);
	store_close(st);
	buf_unref(b.block);
}

int main(int argc, char **argv)
{
	struct loop *l;
	struct err e = ERR_INIT;

	if (argc != 2) {
		fprintf(stderr, "usage: micro_journal DIR\n");
		return 2;
	}
	dir = argv[1];
	if (loop_new(NULL, &l, &e) < 0 || loop_run_fiber(l, "main", bench_main, l) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	loop_free(l);
	return 0;
}
