/* An open LUN: opened once for everybody, closed when idle or deposed, never served to a session of an earlier life. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/control.h"

static struct nbd_export *attach(struct blockd *d, const char *spec)
{
	struct nbd_provider p = exports_provider(d);
	struct nbd_export_info info;
	struct nbd_export *x = NULL;
	struct err e = ERR_INIT;

	CHECK(p.open(p.arg, spec, NULL, &x, &info, &e) == 0);
	CHECK(info.multi_conn && info.min_block == 1 && info.max_block == 32u << 20);
	return x;
}

static int write_byte(struct blockd *d, struct nbd_export *x, uint64_t off, uint8_t byte)
{
	struct iovec one = {&byte, 1};

	return exports_provider(d).write(x, off, (struct iov){.v = &one, .n = 1}, false);
}

static int read_byte(struct blockd *d, struct nbd_export *x, uint64_t off)
{
	struct bufs out;
	uint8_t byte = 0;
	int rc;

	bufs_init(&out);
	rc = exports_provider(d).read(x, off, 1, &out);
	if (rc == 0)
		bufs_copy_out(&out, 0, &byte, 1);
	bufs_release(&out);
	return rc < 0 ? rc : byte;
}

struct attacher {
	struct blockd *d;
	struct nbd_export *x;
	int rc;
	bool ended;
	char text[ERR_TEXT_MAX];
};

static void attach_fiber(void *arg)
{
	struct attacher *a = arg;
	struct nbd_provider p = exports_provider(a->d);
	struct nbd_export_info info;
	struct err e = ERR_INIT;

	a->rc = p.open(p.arg, "vol/lun", NULL, &a->x, &info, &e);
	snprintf(a->text, sizeof(a->text), "%s", e.text);
	a->ended = true;
}

static void many_body(void *arg)
{
	struct attacher a[5];
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	CHECK(mem.lun_opens == 0); /* a LUN costs nothing until somebody attaches */
	mem.opens_wait = true;
	for (unsigned i = 0; i < 5; i++) {
		a[i] = (struct attacher){.d = d};
		CHECK(fiber_spawn(d->loop, "attach", attach_fiber, &a[i]) == 0);
	}
	EVENTUALLY(mem.lun_opens == 1 && list_first(&d->luns, struct lun, node)->holds == 5);
	mem.opens_wait = false;
	waitq_wake_all(&mem.gate);
	for (unsigned i = 0; i < 5; i++) {
		EVENTUALLY(a[i].ended);
		CHECK(a[i].rc == 0);
	}
	CHECK(mem.lun_opens == 1);
	CHECK(write_byte(d, a[0].x, 5, 77) == 0);
	CHECK(read_byte(d, a[4].x, 5) == 77);
	for (unsigned i = 0; i < 5; i++)
		exports_provider(d).close(a[i].x);
	blockd_stop(d);
	CHECK(mem.lun_closes == 1);
	fixture_end();
}

static void many_sessions_share_one_open_lun(void **state)
{
	(void)state;
	on_every_backend(many_body);
}

static void failure_body(void *arg)
{
	struct attacher a[4];
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	mem.opens_wait = true;
	mem.open_rc = -MYFS_E_QUORUM;
	for (unsigned i = 0; i < 4; i++) {
		a[i] = (struct attacher){.d = d};
		CHECK(fiber_spawn(d->loop, "attach", attach_fiber, &a[i]) == 0);
	}
	EVENTUALLY(mem.lun_opens == 1 && list_first(&d->luns, struct lun, node)->holds == 4);
	mem.opens_wait = false;
	waitq_wake_all(&mem.gate);
	for (unsigned i = 0; i < 4; i++) {
		EVENTUALLY(a[i].ended);
		CHECK(a[i].rc == -MYFS_E_QUORUM);
		CHECK(strstr(a[i].text, "vol/lun") && strstr(a[i].text, "told to fail"));
	}
	CHECK(mem.lun_opens == 1);
	EVENTUALLY(list_empty(&d->luns));
	mem.open_rc = 0;
	exports_provider(d).close(attach(d, "vol/lun")); /* the next one tries again */
	blockd_stop(d);
	fixture_end();
}

static void everybody_who_waits_hears_why_the_open_failed_and_the_next_one_tries_again(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, failure_body);
}

static void idle_body(void *arg)
{
	struct nbd_export *x;
	struct blockd *d;
	struct reg_lun row;
	struct lun *l;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	row = make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	l = lun_find(d, &row.gfid);
	CHECK(gfid_set_has(&d->attention, &row.gfid));
	luns_tend(d);
	CHECK(l->state == LUN_OPEN);
	exports_provider(d).close(x);
	luns_tend(d);
	CHECK(l->state == LUN_OPEN); /* stays for a while: clients come back */
	l->idle_since_ns -= 61 * NS_PER_S;
	luns_tend(d);
	EVENTUALLY(list_empty(&d->luns));
	CHECK(mem.lun_closes == 1);
	CHECK(!gfid_set_has(&d->attention, &row.gfid)); /* all bricks agreed when it closed */
	blockd_stop(d);
	fixture_end();
}

static void an_idle_lun_is_closed_after_a_while_and_forgotten(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, idle_body);
}

static void loss_body(void *arg)
{
	struct nbd_export *x, *y;
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	CHECK(write_byte(d, x, 0, 1) == 0);
	mem.loss_gen = 1; /* all bricks lost power, and something could not be written again */
	CHECK(read_byte(d, x, 0) == -ESHUTDOWN);
	CHECK(write_byte(d, x, 0, 2) == -ESHUTDOWN);
	y = attach(d, "vol/lun"); /* who comes anew knows what it is in for */
	CHECK(read_byte(d, y, 0) == 1);
	CHECK(write_byte(d, y, 0, 3) == 0);
	CHECK(read_byte(d, x, 0) == -ESHUTDOWN);
	exports_provider(d).close(x);
	exports_provider(d).close(y);
	blockd_stop(d);
	fixture_end();
}

static void a_loss_of_acknowledged_data_ends_the_sessions_of_its_lun(void **state)
{
	(void)state;
	on_every_backend(loss_body);
}

/* Told by the bricks, or by the registry before that. */
static bool deposed(int rc)
{
	return rc == -MYFS_E_FENCED || rc == -ESHUTDOWN;
}

static void deposed_body(void *arg)
{
	struct nbd_export *x, *y, *z;
	struct blockd *d, *other;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	CHECK(write_byte(d, x, 0, 1) == 0);
	/* Its control socket does not answer, so the second gateway takes the LUN. */
	other = gateway_start("other");
	y = attach(other, "vol/lun");
	CHECK(write_byte(other, y, 0, 2) == 0);
	CHECK(deposed(write_byte(d, x, 0, 3)));
	CHECK(write_byte(d, x, 0, 3) == -ESHUTDOWN);
	CHECK(read_byte(d, x, 0) == -ESHUTDOWN);
	/* A new session on the first gateway takes it back; the old one stays dead. */
	z = attach(d, "vol/lun");
	CHECK(read_byte(d, z, 0) == 2);
	CHECK(read_byte(d, x, 0) == -ESHUTDOWN);
	CHECK(deposed(write_byte(other, y, 0, 4)));
	exports_provider(d).close(x);
	exports_provider(d).close(z);
	exports_provider(other).close(y);
	blockd_stop(other);
	blockd_stop(d);
	fixture_end();
}

static void a_deposed_session_ends_for_good_even_when_the_lun_comes_back(void **state)
{
	(void)state;
	on_every_backend(deposed_body);
}

static void polite_body(void *arg)
{
	struct control_server *control = NULL;
	struct nbd_provider p;
	struct nbd_export_info info;
	struct nbd_export *x, *y = NULL;
	struct blockd *d, *other;
	struct address address;
	struct err e = ERR_INIT;
	char text[128];

	(void)arg;
	fixture_new(1);
	snprintf(text, sizeof(text), "unix:%s/gw.sock", fixture_dir);
	CHECK(address_parse(text, &address, &e) == 0);
	d = gateway_start_at("gw", text);
	CHECK(control_server_start(net_kernel(), &address, blockd_methods, d, &control, &e) == 0);
	make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	other = gateway_start("other");
	p = exports_provider(other);
	CHECK(p.open(p.arg, "vol/lun", NULL, &y, &info, &e) == -EBUSY);
	CHECK(strstr(e.text, "attached by 1 client"));
	CHECK(write_byte(d, x, 0, 1) == 0); /* nothing happened to the first one */
	exports_provider(d).close(x);
	e = (struct err)ERR_INIT;
	CHECK(p.open(p.arg, "vol/lun", NULL, &y, &info, &e) == 0);
	CHECK(list_empty(&d->luns)); /* it let go before the other one took it */
	CHECK(read_byte(other, y, 0) == 1);
	p.close(y);
	control_server_stop(control);
	blockd_stop(other);
	blockd_stop(d);
	fixture_end();
}

static void a_gateway_is_asked_before_its_lun_is_taken_and_refuses_while_it_is_used(void **state)
{
	(void)state;
	on_every_backend(polite_body);
}

static void stopped_body(void *arg)
{
	struct reg_volume v;
	struct nbd_export *x;
	struct blockd *d;
	struct err e = ERR_INIT;
	struct nbd_export_info info;
	struct nbd_provider p;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	p = exports_provider(d);
	make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	CHECK(reg_volume_get(d->registry, "vol", &v, &e) == 0);
	v.started = 0;
	CHECK(reg_volume_put(d->registry, &v, &e) == 0);
	reconcile_kick(d);
	EVENTUALLY(list_empty(&d->volumes));
	CHECK(read_byte(d, x, 0) == -ESHUTDOWN);
	p.close(x);
	CHECK(p.open(p.arg, "vol/lun", NULL, &x, &info, &e) == -ENXIO);
	v.started = 1;
	CHECK(reg_volume_put(d->registry, &v, &e) == 0);
	reconcile_kick(d);
	EVENTUALLY(!list_empty(&d->volumes));
	p.close(attach(d, "vol/lun"));
	blockd_stop(d);
	fixture_end();
}

static void stopping_a_volume_ends_its_sessions_and_starting_it_serves_again(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, stopped_body);
}

static void unknown_body(void *arg)
{
	static const char *const bad[] = {"",         "vol",       "vol/",    "/lun",      "vol/none",
					  "none/lun", "vol/lun/x", "Vol/lun", "vol/../lun"};
	struct blockd *d;
	struct nbd_export_info info;
	struct nbd_export *x = NULL;
	struct nbd_provider p;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", MIB(128));
	p = exports_provider(d);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct err e = ERR_INIT;

		CHECK(p.open(p.arg, bad[i], NULL, &x, &info, &e) == -ENOENT);
		CHECK(p.info(p.arg, bad[i], NULL, &info, &e) == -ENOENT);
	}
	CHECK(!x && mem.lun_opens == 0);
	blockd_stop(d);
	fixture_end();
}

static void a_name_that_is_no_lun_is_not_found(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, unknown_body);
}

static void healing_body(void *arg)
{
	struct nbd_export *x;
	struct blockd *d;
	struct reg_lun row;
	unsigned opens;
	bool now;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	row = make_lun(d, "lun", MIB(128));
	x = attach(d, "vol/lun");
	mem.insync = 0x3; /* brick 2 died */
	mem.connected = 0x3;
	CHECK(write_byte(d, x, 0, 1) == 0);
	exports_provider(d).close(x);
	blockd_stop(d);
	/* The gateway is started again: it remembers which LUN to look at, and waits for the brick. */
	d = gateway_start("gw");
	CHECK(gfid_set_has(&d->attention, &row.gfid));
	EVENTUALLY(mem.lun_opens == 2); /* nothing is known of it: it is opened once */
	EVENTUALLY(list_empty(&d->luns));
	opens = mem.lun_opens;
	CHECK(watch_waiting(d, list_first(&d->volumes, struct volume, node), &now) == 1 && !now);
	mem.connected = 0x7; /* it is back, but the LUN's view does not have it */
	list_for_each(v, &d->volumes, struct volume, node)
		CHECK(watch_waiting(d, v, &now) == 1 && now);
	EVENTUALLY(mem.lun_opens == opens + 1);
	CHECK(gfid_set_has(&d->attention, &row.gfid));
	mem.insync = 0x7; /* healed */
	EVENTUALLY(list_empty(&d->luns) && d->heals == 0);
	CHECK(!gfid_set_has(&d->attention, &row.gfid));
	blockd_stop(d);
	fixture_end();
}

static void a_closed_lun_is_opened_and_healed_when_its_brick_returns(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, healing_body);
}

static void thousand_body(void *arg)
{
	struct blockd *d;
	struct reg_lun *rows = NULL;
	struct err e = ERR_INIT;
	size_t n = 0;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	for (unsigned i = 0; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "lun%u", i);
		make_lun(d, name, GIB(1));
	}
	CHECK(reg_lun_list(d->registry, "vol", REG_LUN_READY, &rows, &n, &e) == 0);
	CHECK(n == 200 && list_empty(&d->luns) && mem.lun_opens == 0);
	free(rows);
	blockd_stop(d);
	d = gateway_start("gw");
	luns_tend(d);
	CHECK(list_empty(&d->luns) && mem.lun_opens == 0); /* a restart opens none of them either */
	blockd_stop(d);
	fixture_end();
}

static void luns_nobody_uses_are_only_rows_in_the_registry(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, thousand_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(many_sessions_share_one_open_lun),
	    cmocka_unit_test(everybody_who_waits_hears_why_the_open_failed_and_the_next_one_tries_again),
	    cmocka_unit_test(an_idle_lun_is_closed_after_a_while_and_forgotten),
	    cmocka_unit_test(a_deposed_session_ends_for_good_even_when_the_lun_comes_back),
	    cmocka_unit_test(a_loss_of_acknowledged_data_ends_the_sessions_of_its_lun),
	    cmocka_unit_test(a_gateway_is_asked_before_its_lun_is_taken_and_refuses_while_it_is_used),
	    cmocka_unit_test(stopping_a_volume_ends_its_sessions_and_starting_it_serves_again),
	    cmocka_unit_test(a_name_that_is_no_lun_is_not_found),
	    cmocka_unit_test(a_closed_lun_is_opened_and_healed_when_its_brick_returns),
	    cmocka_unit_test(luns_nobody_uses_are_only_rows_in_the_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
