/* All brick hosts lose power (WRITE-PROTOCOL case 43): a gateway that survives it writes again what it had acknowledged; when it
 * cannot, the loss generation says so. A loss of power is played by bringing the brick directories back to an earlier copy, under new
 * boot ids; SYNCs are held back in between, so that nothing durable is undone. */
#include <spawn.h>
#include <sys/wait.h>

#include "ec_cluster.h"
#include "ec/ec_priv.h"

#define LUN     1
#define AREA    MIB(2)
#define TIMEOUT (60 * NS_PER_S)

extern char **environ;

struct world {
	struct cluster c;
	struct ec_set *set;
	struct ec_domain *d;
	uint8_t *model; /* AREA bytes of shard 0 */
};

static void copy_tree(const char *from, const char *to)
{
	char *argv[] = {(char *)(uintptr_t) "cp", (char *)(uintptr_t) "-a", (char *)(uintptr_t) "--sparse=always", (char *)(uintptr_t)from,
			(char *)(uintptr_t)to, NULL};
	pid_t pid;
	int status;

	CHECK(posix_spawnp(&pid, "cp", NULL, NULL, argv, environ) == 0);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void keep_copies(struct world *w)
{
	char to[128];

	for (uint32_t i = 0; i < w->c.n; i++) {
		snprintf(to, sizeof(to), "%s.copy", w->c.b[i].dir);
		copy_tree(w->c.b[i].dir, to);
	}
}

/* Every brick host is as it was when the copies were made, and has booted since. */
static void power_all(struct world *w, uint8_t boots)
{
	char from[128];

	for (uint32_t i = 0; i < w->c.n; i++)
		w->c.b[i].stalled_type = 0;
	for (uint32_t i = 0; i < w->c.n; i++) {
		waitq_wake_all(&w->c.b[i].unstalled);
		cluster_stop(&w->c, i, false);
	}
	for (uint32_t i = 0; i < w->c.n; i++) {
		snprintf(from, sizeof(from), "%s.copy", w->c.b[i].dir);
		CHECK(nftw(w->c.b[i].dir, cluster_remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
		CHECK(rename(from, w->c.b[i].dir) == 0);
		w->c.b[i].boot = cluster_gfid(boots, (uint8_t)i);
	}
	for (uint32_t i = 0; i < w->c.n; i++)
		cluster_start(&w->c, i);
}

/* Every second one may be kept by reference. Otherwise the memory says something else as soon as the write has returned. */
static void put(struct world *w, uint64_t off, size_t len, uint8_t fill)
{
	struct buf *b = buf_alloc(len);
	CHECK(b && off + len <= AREA);
	struct iovec v = {b->data, len};
	bool ours = fill % 2;

	memset(b->data, fill, len);
	CHECK(ec_write(w->d, 0, off, (struct iov){.v = &v, .n = 1, .owner = ours ? NULL : b}, false) == 0);
	memset(w->model + off, fill, len);
	if (ours)
		memset(b->data, ~fill, len);
	buf_unref(b);
}

static void put_zeros(struct world *w, uint64_t off, size_t len)
{
	CHECK(ec_zero(w->d, 0, off, len, false) == 0);
	memset(w->model + off, 0, len);
}

static void compare(struct world *w)
{
	uint8_t *got = malloc(AREA);
	struct bufs out;

	bufs_init(&out);
	int rc = ec_read(w->d, 0, 0, AREA, &out);
	if (rc)
		fprintf(stderr, "%u+%u read: %s; state %d replays %d epoch %llu: %s\n", w->c.k, w->c.r, err_name(rc), w->d->state, ec_replays(w->d), (unsigned long long)w->d->epoch, w->d->last_error.text);
	CHECK(got && rc == 0 && out.bytes == AREA);
	bufs_copy_out(&out, 0, got, AREA);
	for (uint32_t i = 0; i < AREA; i++)
		if (got[i] != w->model[i]) {
			fprintf(stderr, "%u+%u byte %u: %02x instead of %02x\n", w->c.k, w->c.r, i, got[i], w->model[i]);
			abort();
		}
	bufs_release(&out);
	free(got);
}

static struct ec_domain_status status(const struct world *w)
{
	struct ec_domain_status st;

	ec_domain_status(w->d, &st);
	return st;
}

static void gateway_open(struct world *w, uint8_t gateway, bool create)
{
	w->set = cluster_set(&w->c, gateway, TIMEOUT);
	w->d = cluster_domain(w->set, LUN, create);
}

static void gateway_close(struct world *w)
{
	ec_domain_close(w->d);
	ec_set_close(w->set);
}

/* Something flushed, and on top of it every kind of write, unflushed. */
static void begin(struct world *w, struct loop *l, uint32_t k, uint32_t r)
{
	memset(w, 0, sizeof(*w));
	CHECK((w->model = calloc(1, AREA)));
	cluster_new(&w->c, l, k, r, 16384);
	gateway_open(w, 1, true);
	put(w, 0, AREA / 2, 0x11);
	CHECK(ec_flush(w->d) == 0);
	keep_copies(w);
	cluster_stall_type(&w->c, BP_SYNC);
}

static void unflushed(struct world *w)
{
	put(w, 4096, 4096, 0x21);
	put(w, 4096, 8192, 0x22);             /* over it */
	put(w, 20000, 100, 0x23);             /* inside a block */
	put(w, KIB(256), KIB(300), 0x24);     /* whole stripes and edges */
	put_zeros(w, KIB(400), KIB(128) + 77);
	put(w, KIB(448), 4096, 0x25);         /* back into the zeros */
	put(w, AREA - 5000, 5000, 0x26);      /* where nothing was */
}

static void end(struct world *w)
{
	gateway_close(w);
	cluster_free(&w->c);
	free(w->model);
}

struct writer {
	struct world *w;
	bool done;
	struct waitq ended;
};

/* Orders itself behind an acknowledged write of the same block: it must stay behind it when that one is written again. */
static void late_writer(void *arg)
{
	struct writer *x = arg;

	put(x->w, 4096, 4096, 0x31);
	x->done = true;
	waitq_wake_all(&x->ended);
}

static void survives(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;
	struct writer late = {.w = &w};

	begin(&w, l, k, r);
	unflushed(&w);
	CHECK(w.d->stable_n < w.d->next_n && w.set->kept_bytes > 0);
	waitq_init(&late.ended);
	cluster_stall_type(&w.c, BP_PREP); /* in flight when the power goes */
	CHECK(fiber_spawn(l, "late", late_writer, &late) == 0);
	fiber_sleep_until(loop_now_ns() + 20 * NS_PER_MS);
	CHECK(!late.done);
	cluster_stall_type(&w.c, BP_SYNC);
	power_all(&w, 7);
	while (!late.done)
		waitq_wait(&late.ended);
	compare(&w);
	CHECK(ec_flush(w.d) == 0);
	CHECK(status(&w).replays == 1 && status(&w).loss_gen == 0 && w.d->view.loss_gen == 0);
	CHECK(w.set->kept_bytes == 0);
	for (uint32_t i = 0; i < w.c.n; i++) /* all of it is on the bricks */
		cluster_stop(&w.c, i, false);
	for (uint32_t i = 0; i < w.c.n; i++)
		cluster_start(&w.c, i);
	gateway_close(&w);
	gateway_open(&w, 2, false);
	compare(&w);
	CHECK(status(&w).loss_gen == 0);
	end(&w);
}

/* The gateway died with the bricks: what it had acknowledged since the last flush is gone, and its successor says so, once. */
static void gateway_dies_too(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;
	struct ec_domain *dead;
	struct ec_set *dead_set;

	begin(&w, l, k, r);
	memset(w.model, 0, AREA);
	memset(w.model, 0x11, AREA / 2);
	uint8_t *flushed = w.model;
	w.model = calloc(1, AREA);
	CHECK(w.model);
	unflushed(&w);
	free(w.model);
	w.model = flushed;
	dead = w.d;
	dead_set = w.set;
	for (uint32_t i = 0; i < w.c.n; i++)
		w.c.b[i].stalled_type = 0;
	for (uint32_t i = 0; i < w.c.n; i++) {
		cluster_cut(&w.c, i);
		cluster_connect(&w.c, i); /* its own way back is cut by the stop of power_all */
	}
	ec_domain_depose(dead); /* it is never heard of again */
	power_all(&w, 7);
	gateway_open(&w, 2, false);
	CHECK(status(&w).loss_gen == 1);
	compare(&w);
	CHECK(ec_flush(w.d) == -EIO && ec_flush(w.d) == 0); /* a device says it once */
	gateway_close(&w);
	gateway_open(&w, 3, false);
	CHECK(status(&w).loss_gen == 1); /* for good, and not again */
	ec_domain_close(dead);
	ec_set_close(dead_set);
	end(&w);
}

/* It was closed in order: nothing that was acknowledged is volatile, whatever the bricks forget. */
static void closed_before(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;

	begin(&w, l, k, r);
	cluster_stall_type(&w.c, 0);
	put(&w, 4096, 4096, 0x21);
	gateway_close(&w);
	for (uint32_t i = 0; i < w.c.n; i++) {
		cluster_stop(&w.c, i, false);
		w.c.b[i].boot = cluster_gfid(8, (uint8_t)i);
	}
	for (uint32_t i = 0; i < w.c.n; i++)
		cluster_start(&w.c, i);
	gateway_open(&w, 2, false);
	CHECK(status(&w).loss_gen == 0 && w.d->rollbacks == 1);
	compare(&w);
	end(&w);
}

/* The gateway goes while it writes again: the view has said before that something is missing. */
static void dies_while_replaying(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;

	begin(&w, l, k, r);
	put(&w, 4096, 4096, 0x21);
	for (uint32_t i = 0; i < w.c.n; i++)
		w.c.b[i].stalled_type = 0;
	power_all(&w, 7);
	cluster_stall_type(&w.c, BP_PREP);
	while (!(w.d->state == EC_SERVING && ec_replays(w.d)))
		fiber_sleep_until(loop_now_ns() + 5 * NS_PER_MS);
	CHECK(!status(&w).serving && status(&w).replaying && status(&w).loss_gen == 0 && w.d->view.loss_gen == 1);
	ec_domain_depose(w.d);
	cluster_stall_type(&w.c, 0);
	gateway_close(&w);
	gateway_open(&w, 2, false);
	CHECK(status(&w).loss_gen == 1);
	gateway_close(&w);
	gateway_open(&w, 3, false);
	CHECK(status(&w).loss_gen == 1);
	end(&w);
}

/* More is acknowledged than may be kept: a SYNC makes room. */
static void budget(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;

	begin(&w, l, k, r);
	cluster_stall_type(&w.c, 0);
	for (unsigned i = 0; i < 100; i++) {
		put(&w, 0, MIB(1), (uint8_t)i);
		CHECK(w.set->kept_bytes <= EC_KEEP_MAX + MIB(2));
	}
	CHECK(ec_flush(w.d) == 0);
	CHECK(w.set->kept_bytes == 0);
	compare(&w);
	end(&w);
}

/* ---- nobody writes ---- */

#define IDLE_NS (50 * NS_PER_MS)

static void idle_begin(struct world *w, struct loop *l, uint32_t k, uint32_t r)
{
	memset(w, 0, sizeof(*w));
	CHECK((w->model = calloc(1, AREA)));
	cluster_new(&w->c, l, k, r, 16384);
	gateway_open(w, 1, true);
	w->set->cfg.idle_clean_ns = IDLE_NS;
	put(w, 0, AREA / 2, 0x11);
	CHECK(!w->d->view.clean && ec_flush(w->d) == 0);
}

static void wait_clean(const struct world *w)
{
	while (!w->d->view.clean)
		fiber_sleep_until(loop_now_ns() + 5 * NS_PER_MS);
}

/* Everything loses power, the gateway too; what the bricks held when they were copied is there again. */
static void power_everything(struct world *w)
{
	static uint8_t boots = 20;
	struct ec_domain *dead = w->d;
	struct ec_set *dead_set = w->set;

	ec_domain_depose(dead);
	power_all(w, ++boots);
	ec_domain_close(dead);
	ec_set_close(dead_set);
	gateway_open(w, 2, false);
	CHECK(w->d->rollbacks == 1);
}

/* Open, but idle: nothing is volatile, whatever goes. And again, without a write in between, under the next owner. */
static void idle_loses_nothing(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;

	idle_begin(&w, l, k, r);
	wait_clean(&w);
	keep_copies(&w);
	power_everything(&w);
	CHECK(status(&w).loss_gen == 0);
	compare(&w);
	w.set->cfg.idle_clean_ns = IDLE_NS;
	put(&w, 4096, 4096, 0x12); /* arms it with the shorter time */
	CHECK(ec_flush(w.d) == 0);
	wait_clean(&w);
	put(&w, 8192, 4096, 0x13);
	CHECK(!w.d->view.clean);
	wait_clean(&w); /* by itself: a background SYNC, then nothing */
	keep_copies(&w);
	power_everything(&w);
	CHECK(status(&w).loss_gen == 0);
	compare(&w);
	end(&w);
}

/* The mark is gone, durably, before a write can be acknowledged: all bricks lose that write and nobody takes them for clean. */
static void first_write_after(struct loop *l, uint32_t k, uint32_t r)
{
	struct world w;
	struct writer x = {.w = &w};

	idle_begin(&w, l, k, r);
	wait_clean(&w);
	waitq_init(&x.ended);
	uint64_t n = w.d->next_n;
	cluster_stall_type(&w.c, BP_VIEW);
	CHECK(fiber_spawn(l, "late", late_writer, &x) == 0);
	while (list_empty(&w.c.b[0].unstalled.waiters))
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	CHECK(w.d->next_n == n && !x.done); /* nothing has begun */
	cluster_stall_type(&w.c, BP_PREP); /* the view is written now */
	while (w.d->next_n == n)
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	keep_copies(&w);
	CHECK(!w.d->view.clean && !x.done);
	cluster_stall_type(&w.c, BP_SYNC);
	while (!x.done)
		waitq_wait(&x.ended);
	memset(w.model + 4096, 0x11, 4096); /* what the bricks had before it */
	for (uint32_t i = 0; i < w.c.n; i++)
		w.c.b[i].stalled_type = 0;
	power_everything(&w);
	CHECK(status(&w).loss_gen == 1);
	compare(&w);
	end(&w);
}

static void body_idle(void *arg)
{
	idle_loses_nothing(arg, 4, 2);
	idle_loses_nothing(arg, 1, 2);
	first_write_after(arg, 4, 2);
	first_write_after(arg, 2, 1);
}

static void an_idle_domain_is_clean_until_somebody_writes(void **state)
{
	(void)state;
	on_every_backend(body_idle);
}

static void body_survives(void *arg)
{
	survives(arg, 4, 2);
	survives(arg, 2, 1);
	survives(arg, 3, 3);
	survives(arg, 1, 2);
}

static void body_losses(void *arg)
{
	gateway_dies_too(arg, 4, 2);
	gateway_dies_too(arg, 2, 1);
	closed_before(arg, 4, 2);
	dies_while_replaying(arg, 4, 2);
	budget(arg, 2, 1);
}

static void acknowledged_writes_survive_the_power_of_all_bricks(void **state)
{
	(void)state;
	on_every_backend(body_survives);
}

static void what_is_lost_is_said(void **state)
{
	(void)state;
	on_every_backend(body_losses);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(acknowledged_writes_survive_the_power_of_all_bricks),
					   cmocka_unit_test(what_is_lost_is_said),
					   cmocka_unit_test(an_idle_domain_is_clean_until_somebody_writes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
