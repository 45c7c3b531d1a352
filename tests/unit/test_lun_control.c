/* The control methods: what a CLI may rely on, and that nothing it sends can do more than be refused. */
#include "tests/unit/blockd_fixture.h"

#include "blockd/control.h"

/* Runs one method. Exit code of the error, 0 with *ret_result (owned) when it went well. */
static int call(struct blockd *d, const char *method, const char *params_text, json_t **ret_result)
{
	json_t *params = params_text ? json_loads(params_text, 0, NULL) : NULL, *result = NULL;
	struct control_error error;
	int rc;

	CHECK(!params_text || params);
	for (const struct control_method *m = blockd_methods; m->name; m++) {
		if (strcmp(m->name, method) != 0)
			continue;
		memset(&error, 0, sizeof(error));
		rc = m->run(d, params, &result, &error);
		json_decref(params);
		if (rc == 0) {
			CHECK(error.exit_code == 0);
			if (ret_result)
				*ret_result = result;
			else
				json_decref(result);
			return 0;
		}
		CHECK(rc == -1 && !result && error.code[0] && error.exit_code > 0 && error.message[0]);
		return error.exit_code;
	}
	const bool method_known = false;
	CHECK(method_known);
	return -1;
}

static const struct {
	const char *method, *params;
	int exit_code;
} steps[] = {
    {"ping", NULL, 0},
    {"lun.list", NULL, 0},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"lun\",\"size_bytes\":1073741824,\"block_size\":512}", 0},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"lun\",\"size_bytes\":1073741824}", 3},
    {"lun.create",
     "{\"volume\":\"vol\",\"name\":\"lun\",\"size_bytes\":1073741824,\"block_size\":512,\"if_missing\":true}", 0},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"lun\",\"size_bytes\":4096,\"block_size\":512,\"if_missing\":true}",
     3},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"Lun\",\"size_bytes\":4096}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"a/b\",\"size_bytes\":4096}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\"}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":0}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":-4096}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":4097}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":\"1G\"}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":9223372036854775807}", 64},
    {"lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":4096,\"block_size\":1024}", 64},
    {"lun.create", "{\"volume\":5,\"name\":[],\"size_bytes\":4096}", 64},
    {"lun.create", "{\"volume\":\"none\",\"name\":\"x\",\"size_bytes\":4096}", 5},
    {"lun.create", NULL, 64},
    {"lun.info", "{\"spec\":\"vol/lun\"}", 0},
    {"lun.info", "{\"spec\":\"vol/none\"}", 5},
    {"lun.info", "{\"spec\":\"vol\"}", 64},
    {"lun.info", "{\"spec\":7}", 64},
    {"lun.info", "[1,2]", 64},
    {"lun.list", "{\"volume\":\"vol\"}", 0},
    {"lun.list", "{\"volume\":\"none\"}", 5},
    {"lun.du", NULL, 0},
    {"lun.du", "{\"spec\":\"vol/lun\"}", 0},
    {"lun.resize", "{\"spec\":\"vol/lun\",\"size_bytes\":2147483648}", 0},
    {"lun.resize", "{\"spec\":\"vol/lun\",\"size_bytes\":1073741824}", 9},
    {"lun.resize", "{\"spec\":\"vol/lun\",\"size_bytes\":1073741824,\"allow_shrink\":true}", 0},
    {"lun.resize", "{\"spec\":\"vol/lun\",\"size_bytes\":1}", 64},
    {"lun.resize", "{\"spec\":\"vol/lun\"}", 64},
    {"lun.resize", "{\"spec\":\"vol/none\",\"size_bytes\":4096}", 5},
    {"status", NULL, 0},
    {"status", "{\"fast\":true}", 0},
    {"session.list", NULL, 0},
    {"heal.status", NULL, 0},
    {"heal.status", "{\"volume\":\"none\"}", 5},
    {"heal.pause", "{\"volume\":\"vol\"}", 0},
    {"heal.pause", NULL, 5},
    {"heal.resume", "{\"volume\":\"vol\"}", 0},
    {"heal.throttle", "{\"volume\":\"vol\",\"bytes_per_s\":1000000}", 0},
    {"heal.throttle", "{\"volume\":\"vol\",\"bytes_per_s\":\"fast\"}", 64},
    {"heal.throttle", "{\"volume\":\"none\",\"bytes_per_s\":0}", 5},
    {"lun.release", NULL, 64},
    {"lun.release", "{\"gfid\":\"not an id\"}", 64},
    {"lun.release", "{\"gfid\":\"00000000-0000-4000-8000-00000000abcd\"}", 0},
    {"lun.delete", "{\"spec\":\"vol/none\"}", 5},
    {"lun.delete", "{\"spec\":\"vol/none\",\"if_exists\":true}", 0},
    {"lun.delete", "{\"spec\":\"vol/lun\"}", 0},
    {"lun.info", "{\"spec\":\"vol/lun\"}", 5},
    {"trash.list", NULL, 0},
    {"trash.restore", NULL, 64},
    {"trash.restore", "{\"spec\":\"vol/none\"}", 5},
    {"trash.restore", "{\"gfid\":\"nonsense\"}", 64},
    {"trash.restore", "{\"spec\":\"vol/lun\",\"name\":\"other/lun\"}", 64},
    {"trash.restore", "{\"spec\":\"vol/lun\",\"name\":\"vol/back\"}", 0},
    {"lun.info", "{\"spec\":\"vol/back\"}", 0},
    {"lun.delete", "{\"spec\":\"vol/back\"}", 0},
    {"trash.purge", NULL, 64},
    {"trash.purge", "{\"gfid\":\"00000000-0000-4000-8000-00000000abcd\"}", 5},
    {"trash.purge", "{\"older_s\":86400}", 0},
    {"trash.restore", "{\"spec\":\"vol/back\"}", 0},
    {"lun.delete", "{\"spec\":\"vol/back\",\"now\":true}", 0},
    {"trash.purge", "{\"older_s\":0}", 0},
    {"reload", NULL, 0},
};

static void steps_body(void *arg)
{
	struct blockd *d;

	(void)arg;
	fixture_new(2);
	d = gateway_start("gw");
	for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
		int got = call(d, steps[i].method, steps[i].params, NULL);

		if (got != steps[i].exit_code) {
			fprintf(stderr, "%s %s: exit %d\n", steps[i].method, steps[i].params ? steps[i].params : "",
				got);
			CHECK(got == steps[i].exit_code);
		}
	}
	blockd_stop(d);
	fixture_end();
}

static void every_method_does_its_work_or_refuses_with_the_right_exit_code(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, steps_body);
}

static const char *text_of(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	CHECK(s);
	return s;
}

static void document_body(void *arg)
{
	static const char *const keys[] = {"schema",     "name",    "id",       "size_bytes", "used_bytes",
					   "block_size", "layout",  "survives", "state",      "exports",
					   "sessions",   "created", "owner"};
	json_t *lun = NULL, *list = NULL, *status = NULL, *heal = NULL;
	const json_t *x;
	struct err e = ERR_INIT;
	struct reg_lun row;
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	CHECK(blockd_announce(d, "nbd+unix:///%s?socket=/run/100%25.sock", "nbd://host:10809/%s", &e) == 0);
	row = make_lun(d, "lun", GIB(1));
	CHECK(call(d, "lun.info", "{\"spec\":\"vol/lun\"}", &lun) == 0);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		CHECK(json_object_get(lun, keys[i])); /* unknown is null, never missing */
	CHECK(strcmp(text_of(lun, "schema"), "myfs.lun/1") == 0);
	CHECK(strcmp(text_of(lun, "name"), "vol/lun") == 0);
	CHECK(strcmp(text_of(lun, "state"), "ok") == 0);
	CHECK(json_integer_value(json_object_get(lun, "size_bytes")) == (json_int_t)GIB(1));
	CHECK(json_integer_value(json_object_get(lun, "used_bytes")) == 0 &&
	      json_integer_value(json_object_get(lun, "survives")) == 1);
	CHECK(json_is_null(json_object_get(lun, "owner")));
	x = json_array_get(json_object_get(lun, "exports"), 0);
	CHECK(strcmp(text_of(x, "uri"), "nbd+unix:///vol/lun?socket=/run/100%25.sock") == 0);
	CHECK(json_is_true(json_object_get(x, "active")));
	x = json_array_get(json_object_get(lun, "exports"), 1);
	CHECK(strcmp(text_of(x, "uri"), "nbd://host:10809/vol/lun") == 0);
	CHECK(call(d, "lun.list", NULL, &list) == 0);
	CHECK(json_is_null(json_object_get(json_array_get(json_object_get(list, "items"), 0), "used_bytes")));
	/* A brick out of sync shows in the LUN's state and in the heal, with its name. */
	CHECK(lun_hold(d, &row, &(struct lun *){NULL}, &e) == 0);
	mem.insync = mem.connected = 0x5;
	json_decref(lun);
	CHECK(call(d, "lun.info", "{\"spec\":\"vol/lun\"}", &lun) == 0);
	CHECK(strcmp(text_of(lun, "state"), "degraded") == 0 && strcmp(text_of(lun, "owner"), "gw") == 0);
	CHECK(call(d, "heal.status", "{\"volume\":\"vol\"}", &heal) == 0);
	CHECK(json_array_size(json_object_get(heal, "items")) == 2);
	for (size_t i = 0; i < 2; i++) {
		x = json_array_get(json_object_get(heal, "items"), i);
		CHECK(strcmp(text_of(x, "state"), "waiting") == 0 && strstr(text_of(x, "cause"), "node1:/set0"));
		CHECK(json_array_size(json_object_get(x, "waiting_for")) == 1 &&
		      json_is_null(json_object_get(x, "eta_s")));
	}
	CHECK(call(d, "status", NULL, &status) == 0);
	x = json_array_get(json_object_get(status, "volumes"), 0);
	CHECK(json_integer_value(json_object_get(x, "luns_open")) == 1);
	x = json_array_get(json_object_get(x, "sets"), 0);
	CHECK(json_integer_value(json_object_get(x, "connected")) == 2 && json_is_true(json_object_get(x, "serving")));
	x = json_array_get(json_object_get(x, "bricks"), 1);
	CHECK(json_is_false(json_object_get(x, "connected")) && json_is_false(json_object_get(x, "insync")));
	json_decref(lun);
	json_decref(list);
	json_decref(status);
	json_decref(heal);
	lun_release(lun_find(d, &row.gfid));
	blockd_stop(d);
	fixture_end();
}

static void documents_have_every_key_and_say_what_is_wrong(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, document_body);
}

static void away_body(void *arg)
{
	struct blockd *d;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	make_lun(d, "lun", GIB(1));
	mem.ns_left = 0;
	CHECK(call(d, "lun.create", "{\"volume\":\"vol\",\"name\":\"x\",\"size_bytes\":4096}", NULL) == 2);
	CHECK(call(d, "lun.list", NULL, NULL) == 0);
	CHECK(call(d, "status", NULL, NULL) == 0);
	CHECK(call(d, "heal.status", NULL, NULL) == 0);
	mem.ns_left = UINT32_MAX;
	blockd_stop(d);
	fixture_end();
}

static void without_bricks_changes_are_refused_and_questions_answered(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, away_body);
}

static void remembered_body(void *arg)
{
	struct blockd *d;
	json_t *status = NULL;
	const json_t *v;

	(void)arg;
	fixture_new(1);
	d = gateway_start("gw");
	CHECK(call(d, "heal.throttle", "{\"volume\":\"vol\",\"bytes_per_s\":123456}", NULL) == 0);
	CHECK(call(d, "heal.pause", "{\"volume\":\"vol\"}", NULL) == 0);
	blockd_stop(d);
	d = gateway_start("gw");
	CHECK(call(d, "status", NULL, &status) == 0);
	v = json_array_get(json_object_get(status, "volumes"), 0);
	CHECK(json_integer_value(json_object_get(v, "heal_limit")) == 123456 &&
	      json_is_true(json_object_get(v, "heal_paused")));
	json_decref(status);
	blockd_stop(d);
	fixture_end();
}

static void heal_settings_survive_a_restart(void **state)
{
	(void)state;
	on_backend(LOOP_EPOLL, remembered_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_method_does_its_work_or_refuses_with_the_right_exit_code),
	    cmocka_unit_test(documents_have_every_key_and_say_what_is_wrong),
	    cmocka_unit_test(without_bricks_changes_are_refused_and_questions_answered),
	    cmocka_unit_test(heal_settings_survive_a_restart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
