/* Two gateways of one cluster: who answers, what a dead one leaves, moving a LUN, and nobody fighting. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/control.h"
#include "blockd/gateways.h"

struct gateway {
	struct blockd *d;
	struct control_server *control;
};

static struct gateway start(const char *name)
{
	struct address address;
	struct gateway g = {NULL, NULL};
	struct err e = ERR_INIT;
	char text[128];

	snprintf(text, sizeof(text), "unix:%s/%s.sock", fixture_dir, name);
	CHECK(address_parse(text, &address, &e) == 0);
	g.d = gateway_start_at(name, text);
	CHECK(blockd_announce(g.d, "nbd+unix:///%s?socket=/run/x", "nbd://192.0.2.1:10809/%s", &e) == 0);
	CHECK(control_server_start(net_kernel(), &address, blockd_methods, g.d, &g.control, &e) == 0);
	return g;
}

static void stop(struct gateway *g)
{
	reconcile_kick(g->d);
	control_server_stop(g->control);
	blockd_stop(g->d);
	*g = (struct gateway){NULL, NULL};
}

static bool sees(const struct gateway *g, const char *other, enum gateway_state state)
{
	return gateways_state(g->d, other) == state;
}

static struct nbd_export *attach(struct gateway *g, int want, struct err *e)
{
	struct nbd_provider p = exports_provider(g->d);
	struct nbd_export_info info;
	struct nbd_export *x = NULL;

	*e = (struct err)ERR_INIT;
	CHECK(p.open(p.arg, "vol/lun", NULL, &x, &info, e) == want);
	return x;
}

static int write_byte(struct gateway *g, struct nbd_export *x, uint8_t byte)
{
	struct iovec one = {&byte, 1};

	return exports_provider(g->d).write(x, 0, (struct iov){.v = &one, .n = 1}, false);
}

static bool owned_by(struct gateway *g, const struct gfid *gfid, const char *name)
{
	struct reg_lun row;

	return reg_lun_get_gfid(g->d->registry, gfid, &row, NULL) == 0 && strcmp(row.owner, name) == 0;
}

static int call(struct gateway *g, method_fn *fn, json_t *params, json_t **ret, struct control_error *error)
{
	int rc;

	*ret = NULL;
	memset(error, 0, sizeof(*error));
	rc = fn(g->d, params, ret, error);
	json_decref(params);
	return rc;
}

static void dead_body(void *arg)
{
	struct gateway a, b;
	struct nbd_export *x;
	struct reg_lun used, idle[20];
	struct err e;
	unsigned opens;

	(void)arg;
	fixture_new(1);
	a = start("a");
	b = start("b");
	EVENTUALLY(sees(&a, "b", GATEWAY_ALIVE) && sees(&b, "a", GATEWAY_ALIVE));
	CHECK(gateways_first(a.d) && !gateways_first(b.d));
	used = make_lun(a.d, "lun", MIB(64));
	for (unsigned i = 0; i < ARRAY_LEN(idle); i++) {
		char name[16];

		snprintf(name, sizeof(name), "idle%u", i);
		idle[i] = make_lun(a.d, name, MIB(64));
		snprintf(idle[i].owner, sizeof(idle[i].owner), "a");
		CHECK(reg_lun_put(a.d->registry, &idle[i], &e) == 0);
	}
	x = attach(&a, 0, &e);
	CHECK(write_byte(&a, x, 7) == 0);
	opens = mem.lun_opens;
	/* It goes away without a word: what it had open is opened by the other, the rest only changes its row. */
	control_server_stop(a.control);
	EVENTUALLY(sees(&b, "a", GATEWAY_GONE));
	EVENTUALLY(owned_by(&b, &used.gfid, "b"));
	for (unsigned i = 0; i < ARRAY_LEN(idle); i++)
		CHECK(owned_by(&b, &idle[i].gfid, "b"));
	CHECK(gateways_first(b.d));
	EVENTUALLY(mem.lun_opens == opens + 1);
	/* It was only deaf: its session is over at the next word, and it does not take the LUN back. */
	CHECK(write_byte(&a, x, 8) == -MYFS_E_FENCED || write_byte(&a, x, 8) == -ESHUTDOWN);
	EVENTUALLY(!lun_find(a.d, &used.gfid) || lun_find(a.d, &used.gfid)->state == LUN_CLOSED);
	exports_provider(a.d).close(x);
	blockd_stop(a.d);
	stop(&b);
	fixture_end();
}

static void luns_of_a_dead_gateway_change_hands_and_only_those_in_use_are_opened(void **state)
{
	(void)state;
	on_every_backend(dead_body);
}

static void move_body(void *arg)
{
	struct gateway a, b;
	struct nbd_export *x, *y;
	struct control_error error;
	struct reg_lun row;
	struct err e;
	json_t *ret;

	(void)arg;
	fixture_new(1);
	a = start("a");
	b = start("b");
	EVENTUALLY(sees(&a, "b", GATEWAY_ALIVE) && sees(&b, "a", GATEWAY_ALIVE));
	row = make_lun(a.d, "lun", MIB(64));
	x = attach(&a, 0, &e);
	CHECK(write_byte(&a, x, 7) == 0);
	/* In use: a mere attach elsewhere is refused, with the address; a move is not. Either gateway may be asked. */
	attach(&b, -EBUSY, &e);
	CHECK(strstr(e.text, "gateway a serves it") && strstr(e.text, "nbd://192.0.2.1"));
	CHECK(call(&a, method_lun_move, json_pack("{s:s,s:s}", "spec", "vol/lun", "to", "b"), &ret, &error) == 0);
	CHECK(strcmp(json_string_value(json_object_get(ret, "moved_from")), "a") == 0);
	CHECK(strcmp(json_string_value(json_object_get(ret, "owner")), "b") == 0);
	json_decref(ret);
	CHECK(owned_by(&a, &row.gfid, "b"));
	CHECK(write_byte(&a, x, 8) == -ESHUTDOWN);
	/* Nobody uses it there yet, but it was moved on purpose. */
	attach(&a, -EBUSY, &e);
	CHECK(strstr(e.text, "moved here a moment ago"));
	y = attach(&b, 0, &e);
	CHECK(write_byte(&b, y, 9) == 0);
	exports_provider(a.d).close(x); /* the old session does not count for the new life */
	CHECK(call(&a, method_lun_info, json_pack("{s:s}", "spec", "vol/lun"), &ret, &error) == 0);
	CHECK(json_integer_value(json_object_get(ret, "sessions")) == 1); /* asked of the owner */
	json_decref(ret);
	CHECK(call(&a, cluster_lun_list, NULL, &ret, &error) == 0);
	CHECK(json_integer_value(json_object_get(json_array_get(json_object_get(ret, "items"), 0), "sessions")) == 1);
	json_decref(ret);
	CHECK(call(&a, method_lun_move, json_pack("{s:s,s:s}", "spec", "vol/lun", "to", "c"), &ret, &error) == -1);
	CHECK(error.exit_code == 5 && strstr(error.why, "a, b"));
	exports_provider(b.d).close(y);
	stop(&a);
	stop(&b);
	fixture_end();
}

static void a_lun_moves_while_it_is_used_and_stays_where_it_was_moved(void **state)
{
	(void)state;
	on_every_backend(move_body);
}

static void resize_body(void *arg)
{
	struct gateway a, b;
	struct nbd_export *x;
	struct control_error error;
	struct reg_lun row;
	struct err e;
	json_t *ret;

	(void)arg;
	fixture_new(1);
	a = start("a");
	b = start("b");
	EVENTUALLY(sees(&a, "b", GATEWAY_ALIVE) && sees(&b, "a", GATEWAY_ALIVE));
	row = make_lun(a.d, "lun", MIB(64));
	x = attach(&b, 0, &e);
	CHECK(call(&a, method_lun_resize, json_pack("{s:s,s:I}", "spec", "vol/lun", "size_bytes", (json_int_t)MIB(128)), &ret,
		   &error) == 0);
	CHECK(json_integer_value(json_object_get(ret, "size_bytes")) == MIB(128));
	json_decref(ret);
	CHECK(owned_by(&a, &row.gfid, "b") && write_byte(&b, x, 1) == 0); /* and nobody lost it */
	CHECK(call(&a, method_lun_delete, json_pack("{s:s}", "spec", "vol/lun"), &ret, &error) == -1 && error.exit_code == 6);
	exports_provider(b.d).close(x);
	CHECK(call(&a, method_lun_delete, json_pack("{s:s}", "spec", "vol/lun"), &ret, &error) == 0);
	json_decref(ret);
	EVENTUALLY(row_state_is(a.d, &row.gfid, REG_LUN_TRASH));
	stop(&b);
	stop(&a);
	fixture_end();
}

static void changes_of_a_lun_reach_the_gateway_that_serves_it(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, resize_body);
}

static void registry_body(void *arg)
{
	struct gateway a, b;
	struct nbd_export *x, *y;
	struct reg_lun row;
	struct err e;

	(void)arg;
	fixture_new(1);
	a = start("a");
	b = start("b");
	EVENTUALLY(sees(&a, "b", GATEWAY_ALIVE));
	row = make_lun(a.d, "lun", MIB(64));
	x = attach(&a, 0, &e);
	CHECK(reg_lun_get_gfid(a.d->registry, &row.gfid, &row, &e) == 0);
	snprintf(row.owner, sizeof(row.owner), "b");
	CHECK(reg_lun_put(b.d->registry, &row, &e) == 0);
	EVENTUALLY(write_byte(&a, x, 1) == -ESHUTDOWN);
	exports_provider(a.d).close(x);
	y = attach(&b, 0, &e);
	CHECK(write_byte(&b, y, 2) == 0);
	exports_provider(b.d).close(y);
	stop(&b);
	stop(&a);
	fixture_end();
}

static void ownership_follows_the_registry(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, registry_body);
}

/* A socket that takes connections and never answers, as a stopped process's does. */
static void silent_body(void *arg)
{
	struct reg_gateway g = {.name = "mute", .uuid = {{9}}};
	struct listener *mute;
	struct address address;
	struct gateway b;
	struct nbd_export *x;
	struct reg_lun row;
	struct err e = ERR_INIT;

	(void)arg;
	fixture_new(1);
	snprintf(g.control, sizeof(g.control), "unix:%s/mute.sock", fixture_dir);
	CHECK(address_parse(g.control, &address, &e) == 0);
	CHECK(net_listen(net_kernel(), &address, &mute, &e) == 0);
	b = start("z");
	CHECK(reg_gateway_put(b.d->registry, &g, &e) == 0);
	row = make_lun(b.d, "lun", MIB(64));
	exports_provider(b.d).close(attach(&b, 0, &e));
	CHECK(reg_lun_get_gfid(b.d->registry, &row.gfid, &row, &e) == 0);
	snprintf(row.owner, sizeof(row.owner), "mute");
	CHECK(reg_lun_put(b.d->registry, &row, &e) == 0);
	EVENTUALLY(sees(&b, "mute", GATEWAY_SILENT));
	CHECK(owned_by(&b, &row.gfid, "mute")); /* it may go on in a moment */
	uint64_t began = loop_precise_ns();
	x = attach(&b, 0, &e); /* somebody wants it: it is not asked any more */
	CHECK(loop_precise_ns() - began < NS_PER_S);
	CHECK(owned_by(&b, &row.gfid, "z"));
	exports_provider(b.d).close(x);
	listener_stop(mute);
	listener_close(mute);
	stop(&b);
	fixture_end();
}

static void a_silent_gateways_lun_goes_to_whoever_is_asked_for_it(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, silent_body);
}

struct opening {
	struct gateway *g;
	struct nbd_export *x;
	bool done;
};

static void opening_run(void *arg)
{
	struct opening *o = arg;
	struct err e;

	o->x = attach(o->g, 0, &e);
	o->done = true;
}

/* Another gateway asked for the LUN before we began to open it, and writes itself into the row before we are done: whoever attaches here
 * meanwhile must not be served by what that gateway has fenced. */
static void overtaken_body(void *arg)
{
	struct opening o = {0};
	struct gateway a;
	struct reg_lun row;
	struct err e;

	(void)arg;
	fixture_new(1);
	a = start("a");
	row = make_lun(a.d, "lun", MIB(64));
	exports_provider(a.d).close(attach(&a, 0, &e));
	CHECK(lun_expel(a.d, &row.gfid, true, &e) == 0 && owned_by(&a, &row.gfid, "a"));
	unsigned opens = mem.lun_opens;
	mem.opens_wait = true;
	o.g = &a;
	CHECK(fiber_spawn(loop_self(), "attach", opening_run, &o) == 0);
	EVENTUALLY(mem.lun_opens == opens + 1);
	snprintf(row.owner, sizeof(row.owner), "b");
	CHECK(reg_lun_put(a.d->registry, &row, &e) == 0);
	mem.opens_wait = false;
	waitq_wake_all(&mem.gate);
	EVENTUALLY(o.done);
	CHECK(mem.lun_opens == opens + 2 && owned_by(&a, &row.gfid, "a")); /* asked for: nobody is called b */
	CHECK(write_byte(&a, o.x, 1) == 0);
	exports_provider(a.d).close(o.x);
	stop(&a);
	fixture_end();
}

static void a_lun_that_became_anothers_while_it_was_opened_is_asked_for_again(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, overtaken_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(luns_of_a_dead_gateway_change_hands_and_only_those_in_use_are_opened),
	    cmocka_unit_test(a_lun_moves_while_it_is_used_and_stays_where_it_was_moved),
	    cmocka_unit_test(changes_of_a_lun_reach_the_gateway_that_serves_it),
	    cmocka_unit_test(ownership_follows_the_registry),
	    cmocka_unit_test(a_silent_gateways_lun_goes_to_whoever_is_asked_for_it),
	    cmocka_unit_test(a_lun_that_became_anothers_while_it_was_opened_is_asked_for_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
