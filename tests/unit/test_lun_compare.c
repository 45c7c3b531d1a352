/* Compare and write: nobody gets in between, whoever writes and however it came in; and spans, which see to that. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/control.h"
#include "blockd/span.h"
#include "core/base/prng.h"

#define SECTOR  512u
#define ADDERS  6u
#define ROUNDS  40u
#define WRITERS 4u

/* ---- spans ---- */

struct walker {
	struct span_table *t;
	struct span s;
	unsigned order, *clock;
	bool in;
};

static void walker_fiber(void *arg)
{
	struct walker *w = arg;

	span_enter(w->t, &w->s);
	w->in = true;
	w->order = ++*w->clock;
}

static void start(struct walker *w, uint64_t off, uint64_t len, bool alone)
{
	w->s = (struct span){.off = off, .len = len, .alone = alone};
	CHECK(fiber_spawn(loop_self(), "walker", walker_fiber, w) == 0);
	fiber_yield();
	fiber_yield();
}

static void fair_body(void *arg)
{
	struct span_table t;
	unsigned clock = 0;
	struct walker w[7];

	(void)arg;
	span_table_init(&t);
	for (unsigned i = 0; i < ARRAY_LEN(w); i++)
		w[i] = (struct walker){.t = &t, .clock = &clock};
	start(&w[0], 0, 100, false);
	start(&w[1], 50, 100, false); /* ordinary ones overlap freely */
	CHECK(w[0].in && w[1].in);
	start(&w[2], 90, 20, true);
	CHECK(!w[2].in);
	start(&w[3], 109, 1, false); /* behind the waiting one, although nobody holds that byte alone */
	start(&w[4], 110, 10, false);
	start(&w[5], 200, 10, true); /* elsewhere */
	CHECK(!w[3].in && w[4].in && w[5].in);
	span_leave(&t, &w[0].s);
	fiber_yield();
	CHECK(!w[2].in);
	span_leave(&t, &w[1].s);
	EVENTUALLY(w[2].in);
	CHECK(!w[3].in);
	start(&w[6], 90, 1, true);
	CHECK(!w[6].in);
	span_leave(&t, &w[2].s);
	EVENTUALLY(w[3].in && w[6].in);
	for (unsigned i = 3; i < 7; i++)
		span_leave(&t, &w[i].s);
	CHECK(list_empty(&t.spans) && t.alone == 0);
}

static void a_span_that_is_alone_waits_for_earlier_ones_and_holds_up_later_ones(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, fair_body);
}

/* ---- a counter that many add to ---- */

struct world {
	struct blockd *d;
	struct lun *lun;
	unsigned running;
	uint64_t missed, added;
	bool stop;
};

static void read_at(struct lun *l, uint64_t off, void *dst, uint32_t len)
{
	struct span span = {.off = off, .len = len};
	struct bufs out;
	int rc;

	bufs_init(&out);
	CHECK(lun_enter_span(l, l->generation, &span) == 0);
	rc = dht_read(l->file, off, len, &out);
	lun_leave_span(l, &span, rc);
	CHECK(rc == 0);
	bufs_copy_out(&out, 0, dst, len);
	bufs_release(&out);
}

static void write_at(struct lun *l, uint64_t off, const void *src, uint32_t len)
{
	struct iovec one = {.iov_base = (void *)(uintptr_t)src, .iov_len = len};
	struct span span = {.off = off, .len = len};
	int rc;

	CHECK(lun_enter_span(l, l->generation, &span) == 0);
	rc = dht_write(l->file, off, (struct iov){.v = &one, .n = 1}, false);
	lun_leave_span(l, &span, rc);
	CHECK(rc == 0);
}

#define COUNTER (MIB(64) - SECTOR) /* two sectors, in two shards */

static void adder_fiber(void *arg)
{
	struct world *w = arg;

	for (unsigned done = 0; done < ROUNDS;) {
		uint8_t before[2 * SECTOR], after[2 * SECTOR];
		struct lun_compare c = {.off = COUNTER, .len = sizeof(before), .expected = before, .data = after};
		uint64_t low, high;
		struct err e = ERR_INIT;

		read_at(w->lun, COUNTER, before, sizeof(before));
		memcpy(&low, before, sizeof(low));
		memcpy(&high, before + SECTOR, sizeof(high));
		CHECK(low == high); /* both halves change together: never half of a compare and write */
		memcpy(after, before, sizeof(after));
		low++;
		memcpy(after, &low, sizeof(low));
		memcpy(after + SECTOR, &low, sizeof(low));
		CHECK(lun_compare_and_write(w->lun, &c, &e) == 0);
		w->added += c.written;
		w->missed += !c.written;
		done += c.written;
		CHECK(c.written || c.differs_at >= COUNTER);
	}
	w->running--;
}

/* Writes bytes of its own in the same sectors, as another client without any agreement does. */
struct scribbler {
	struct world *w;
	unsigned index;
	uint64_t writes;
};

static void scribbler_fiber(void *arg)
{
	struct scribbler *s = arg;
	struct world *w = s->w;
	uint64_t off = COUNTER + 16 + s->index * 8, i = 0, back;

	while (!w->stop) {
		i++;
		write_at(w->lun, off, &i, sizeof(i));
		read_at(w->lun, off, &back, sizeof(back));
		CHECK(back == i); /* no compare and write put an older value back */
		s->writes++;
		if (i % 3 == 0)
			fiber_sleep_until(loop_now_ns() + NS_PER_MS / 4);
	}
	w->running--;
}

static void counter_body(void *arg)
{
	struct world w = {0};
	struct scribbler s[WRITERS];
	struct reg_lun row;
	struct err e = ERR_INIT;
	uint64_t counted;

	(void)arg;
	fixture_new(2);
	w.d = gateway_start("gw");
	row = make_lun(w.d, "lun", MIB(256));
	CHECK(lun_hold(w.d, &row, &w.lun, &e) == 0);
	for (unsigned i = 0; i < WRITERS; i++) {
		s[i] = (struct scribbler){.w = &w, .index = i};
		CHECK(fiber_spawn(w.d->loop, "scribbler", scribbler_fiber, &s[i]) == 0);
		w.running++;
	}
	for (unsigned i = 0; i < ADDERS; i++) {
		CHECK(fiber_spawn(w.d->loop, "adder", adder_fiber, &w) == 0);
		w.running++;
	}
	EVENTUALLY(w.running == WRITERS);
	w.stop = true;
	EVENTUALLY(w.running == 0);
	read_at(w.lun, COUNTER, &counted, sizeof(counted));
	CHECK(counted == ADDERS * ROUNDS && w.added == counted);
	CHECK(w.missed > 0); /* they did get in each other's way */
	for (unsigned i = 0; i < WRITERS; i++)
		CHECK(s[i].writes > 0);
	lun_release(w.lun);
	blockd_stop(w.d);
	fixture_end();
}

static void concurrent_adders_lose_no_addition_and_no_byte_of_others(void **state)
{
	(void)state;
	on_every_backend(counter_body);
}

/* ---- the method ---- */

static json_t *ask(struct blockd *d, const char *params_text, int want_exit)
{
	json_t *params = json_loads(params_text, 0, NULL), *result = NULL;
	struct control_error error;
	int rc;

	CHECK(params);
	memset(&error, 0, sizeof(error));
	rc = method_lun_compare_and_write(d, params, &result, &error);
	json_decref(params);
	if (error.exit_code != want_exit)
		fprintf(stderr, "%s: %s, %s\n", params_text, error.message, error.why);
	CHECK(error.exit_code == want_exit && (rc == 0) == (want_exit == 0) && (rc == 0 || !result));
	return result;
}

static void method_body(void *arg)
{
	/* "AAAA" is three zero bytes, "AQID" is 1 2 3, "AQIE" is 1 2 4. */
	static const char *const bad[] = {
	    "{\"spec\":\"vol/lun\",\"offset\":0,\"expected\":\"AAAA\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":0,\"expected\":\"AAAA\",\"data\":7}",
	    "{\"spec\":\"vol/lun\",\"offset\":0,\"expected\":\"AAAA\",\"data\":\"AAA=\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":0,\"expected\":\"\",\"data\":\"\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":0,\"expected\":\"A*AA\",\"data\":\"AAAA\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":-1,\"expected\":\"AAAA\",\"data\":\"AQID\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":134217726,\"expected\":\"AAAA\",\"data\":\"AQID\"}",
	    "{\"spec\":\"vol/lun\",\"offset\":9223372036854775807,\"expected\":\"AAAA\",\"data\":\"AQID\"}",
	    "{\"spec\":\"lun\",\"offset\":0,\"expected\":\"AAAA\",\"data\":\"AQID\"}",
	};
	struct blockd *d;
	json_t *r;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		CHECK(!ask(d, bad[i], 64));
	CHECK(!ask(d, "{\"spec\":\"vol/none\",\"offset\":0,\"expected\":\"AAAA\",\"data\":\"AQID\"}", 5));
	r = ask(d, "{\"spec\":\"vol/lun\",\"offset\":4095,\"expected\":\"AAAA\",\"data\":\"AQID\"}", 0);
	CHECK(json_is_true(json_object_get(r, "written")) && !json_object_get(r, "differs_at"));
	json_decref(r);
	r = ask(d, "{\"spec\":\"vol/lun\",\"offset\":4095,\"expected\":\"AQIE\",\"data\":\"AAAA\"}", 0);
	CHECK(json_is_false(json_object_get(r, "written")));
	CHECK(json_integer_value(json_object_get(r, "differs_at")) == 4097);
	json_decref(r);
	r = ask(d, "{\"spec\":\"vol/lun\",\"offset\":4095,\"expected\":\"AQID\",\"data\":\"AAAA\",\"fua\":true}", 0);
	CHECK(json_is_true(json_object_get(r, "written")));
	json_decref(r);
	blockd_stop(d);
	fixture_end();
}

static void the_method_compares_writes_and_refuses(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, method_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_span_that_is_alone_waits_for_earlier_ones_and_holds_up_later_ones),
	    cmocka_unit_test(concurrent_adders_lose_no_addition_and_no_byte_of_others),
	    cmocka_unit_test(the_method_compares_writes_and_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
