/* A gateway that is stopped while too few bricks answer: prompt, and nothing acknowledged is lost by it. */
#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN     1
#define BLOCK   4096u
#define TIMEOUT (60 * NS_PER_S)
#define PROMPT  (10 * NS_PER_S) /* far below TIMEOUT, far above what a busy machine takes */

struct waiter {
	struct ec_domain *d;
	unsigned *running;
	struct waitq *ended;
	bool write;
};

static uint8_t block[BLOCK];

static int write_fill(struct ec_domain *d, uint32_t lba, uint8_t fill)
{
	struct iovec v = {block, BLOCK};

	memset(block, fill, BLOCK);
	return ec_write(d, 0, (uint64_t)lba * BLOCK, (struct iov){.v = &v, .n = 1}, false);
}

static int read_fill(struct ec_domain *d, uint32_t lba)
{
	uint8_t got[BLOCK];
	struct bufs out;

	bufs_init(&out);
	int rc = ec_read(d, 0, (uint64_t)lba * BLOCK, BLOCK, &out);
	if (!rc) {
		bufs_copy_out(&out, 0, got, BLOCK);
		rc = got[0];
	}
	bufs_release(&out);
	return rc;
}

static void waiter_run(void *arg)
{
	struct waiter *w = arg;

	CHECK((w->write ? write_fill(w->d, 100, 9) : read_fill(w->d, 1)) == -MYFS_E_QUORUM);
	if (--*w->running == 0)
		waitq_wake_all(w->ended);
}

/* synced: everything was flushed before the bricks went; else the last writes were only committed. */
static void stop_without_quorum(struct loop *l, uint32_t k, uint32_t r, bool synced)
{
	struct waiter w[4];
	struct waitq ended;
	unsigned running = 4;
	struct cluster c;

	cluster_new(&c, l, k, r, 16384);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	struct ec_domain *d = cluster_domain(s, LUN, true);
	for (uint32_t i = 0; i < 20; i++)
		CHECK(write_fill(d, i, (uint8_t)(i + 1)) == 0);
	if (synced)
		CHECK(ec_flush(d) == 0);
	for (uint32_t i = 0; i < c.n - geo_of(d)->w + 1; i++)
		cluster_stop(&c, i, false);
	while (d->state == EC_SERVING)
		fiber_sleep_until(loop_now_ns() + 5 * NS_PER_MS);
	waitq_init(&ended);
	for (unsigned i = 0; i < 4; i++) {
		w[i] = (struct waiter){d, &running, &ended, i & 1};
		CHECK(fiber_spawn(l, "waiter", waiter_run, &w[i]) == 0);
	}
	fiber_sleep_until(loop_now_ns() + 20 * NS_PER_MS);
	CHECK(running == 4);
	uint64_t begun = loop_now_ns();
	ec_set_give_up(s);
	while (running)
		waitq_wait(&ended);
	ec_domain_close(d);
	ec_set_close(s);
	CHECK(loop_now_ns() - begun < PROMPT);
	for (uint32_t i = 0; i < c.n; i++) { /* the others die too, and all come back */
		if (c.b[i].brick)
			cluster_stop(&c, i, false);
		cluster_start(&c, i);
	}
	s = cluster_set(&c, 2, TIMEOUT);
	d = cluster_domain(s, LUN, false);
	for (uint32_t i = 0; i < 20; i++)
		CHECK(read_fill(d, i) == (int)(i + 1));
	CHECK(write_fill(d, 100, 7) == 0 && ec_flush(d) == 0);
	ec_domain_close(d);
	ec_set_close(s);
	cluster_free(&c);
}

/* Nor does anybody wait for a domain that cannot be opened. */
static void open_without_quorum(struct loop *l)
{
	struct ec_domain_options o = {.gfid = cluster_gfid(9, LUN), .create = true};
	struct ec_domain *d = NULL;
	struct err e = ERR_INIT;
	struct cluster c;

	cluster_new(&c, l, 4, 2, 16384);
	for (uint32_t i = 0; i < 3; i++)
		cluster_stop(&c, i, false);
	struct ec_set *s = cluster_set(&c, 1, TIMEOUT);
	ec_set_give_up(s);
	uint64_t begun = loop_now_ns();
	CHECK(ec_domain_open(s, &o, &d, &e) == -MYFS_E_QUORUM);
	CHECK(loop_now_ns() - begun < PROMPT);
	ec_set_close(s);
	cluster_free(&c);
}

static void body(void *arg)
{
	for (unsigned synced = 0; synced < 2; synced++) {
		stop_without_quorum(arg, 4, 2, synced);
		stop_without_quorum(arg, 2, 1, synced);
		stop_without_quorum(arg, 1, 2, synced);
	}
	open_without_quorum(arg);
}

static void a_gateway_without_quorum_stops_at_once(void **state)
{
	(void)state;
	on_every_backend(body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_gateway_without_quorum_stops_at_once)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
