/* The command line of myfs-blockd, and the small pure parts of blockd. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "blockd/exports.h"
#include "blockd/gfidset.h"
#include "blockd/options.h"

static const struct {
	const char *argv[12];
	int rc;
} lines[] = {
    {{"blockd", "--registry", "r", "--name", "gw"}, 0},
    {{"blockd", "--registry=r", "--name=gw", "--nbd", "unix:/a", "--nbd=tcp:127.0.0.1:10809"}, 0},
    {{"blockd", "--registry", "r", "--name", "gw", "--io-timeout", "90s", "--log", "debug"}, 0},
    {{"blockd", "--registry", "r", "--name", "gw", "--tls", "require", "--tls-certs", "/c"}, 0},
    {{"blockd", "--help"}, 0},
    {{"blockd", "--version"}, 0},
    {{"blockd"}, -EINVAL},
    {{"blockd", "--registry", "r"}, -EINVAL},
    {{"blockd", "--name", "gw"}, -EINVAL},
    {{"blockd", "--registry"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "extra"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--what"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--tls", "require"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--tls", "maybe"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--nbd", "carrier:pigeon"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--control", "tcp:127.0.0.1:1"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--io-timeout", "soon"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "gw", "--log", "loud"}, -EINVAL},
    {{"blockd", "--registry", "r", "--name", "a-name-that-is-longer-than-any-name-in-the-registry-may-ever-become-1"},
     -EINVAL},
};

static void command_lines_are_accepted_or_refused_with_a_reason(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		struct options o = {.io_timeout_ns = 1};
		struct err e = ERR_INIT;
		int argc = 0;

		while (lines[i].argv[argc])
			argc++;
		if (options_parse(argc, (char **)(uintptr_t)lines[i].argv, &o, &e) != lines[i].rc)
			fail_msg("line %zu: %s", i, e.text);
		if (lines[i].rc < 0)
			assert_true(e.text[0] != '\0' && o.io_timeout_ns == 1);
	}
}

static void defaults_are_what_the_help_says(void **state)
{
	const char *argv[] = {"blockd", "--registry", "r", "--name", "gw", "--tls-certs", "/c", NULL};
	struct options o;
	struct err e = ERR_INIT;

	(void)state;
	assert_int_equal(options_parse(7, (char **)(uintptr_t)argv, &o, &e), 0);
	assert_int_equal(o.io_timeout_ns, 120 * NS_PER_S);
	assert_int_equal(o.tls, TLS_MODE_ALLOW);
	assert_int_equal(o.log, LOG_L_NOTE);
	assert_string_equal(o.control.host, "/run/myfs/blockd-gw.sock");
	assert_int_equal(o.nbd_n, 0);
}

static const struct {
	const char *text;
	uint64_t ns;
} times[] = {
    {"90", 90 * NS_PER_S},
    {"90s", 90 * NS_PER_S},
    {"500ms", NS_PER_S / 2},
    {"2m", 120 * NS_PER_S},
    {"1h", 3600 * NS_PER_S},
    {"1d", 86400 * NS_PER_S},
    {"0", 0},
    {"", 0},
    {"s", 0},
    {"-1s", 0},
    {"2d", 0},
    {"99999999999999s", 0},
    {"1w", 0},
    {"1 s", 0},
    {"0x10", 0},
};

static void times_are_read_with_their_units(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		uint64_t ns = 7;
		int rc = duration_ns_parse(times[i].text, &ns, NULL);

		assert_int_equal(rc, times[i].ns ? 0 : -EINVAL);
		assert_int_equal(ns, times[i].ns ? times[i].ns : 7);
	}
}

static const struct {
	const char *spec, *volume, *name;
} specs[] = {
    {"vol/lun", "vol", "lun"},
    {"a/b", "a", "b"},
    {"vol-1/db.2_x", "vol-1", "db.2_x"},
    {"vol", NULL, NULL},
    {"/lun", NULL, NULL},
    {"vol/", NULL, NULL},
    {"", NULL, NULL},
    {"vol/lun/x", NULL, NULL},
    {"Vol/lun", NULL, NULL},
    {"vol/.lun", NULL, NULL},
    {"vol/l\xc3\xa9", NULL, NULL},
    {"vol/l n", NULL, NULL},
    {"-v/lun", NULL, NULL},
    {"vol/%s", NULL, NULL},
};

static void lun_names_are_taken_apart_or_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(specs); i++) {
		char volume[REG_NAME] = "-", name[REG_NAME] = "-";
		struct err e = ERR_INIT;
		int rc = lun_spec_parse(specs[i].spec, volume, name, &e);

		assert_int_equal(rc, specs[i].volume ? 0 : -EINVAL);
		assert_string_equal(volume, specs[i].volume ? specs[i].volume : "-");
		assert_string_equal(name, specs[i].volume ? specs[i].name : "-");
	}
}

static void a_set_of_ids_is_remembered_by_the_registry(void **state)
{
	char path[] = "/tmp/myfs-gfidset.XXXXXX", file[64];
	struct gfid a = {{1}}, b = {{2}}, c = {{3}};
	struct registry *r = NULL;
	struct gfid_set s, again;
	struct err e = ERR_INIT;

	(void)state;
	assert_non_null(mkdtemp(path));
	snprintf(file, sizeof(file), "%s/registry.db", path);
	assert_int_equal(registry_open(file, true, &r, &e), 0);
	assert_int_equal(gfid_set_open(&s, r, "some.set", &e), 0);
	assert_int_equal(s.n, 0);
	assert_int_equal(gfid_set_add(&s, &a, &e), 0);
	assert_int_equal(gfid_set_add(&s, &b, &e), 0);
	assert_int_equal(gfid_set_add(&s, &b, &e), 0);
	assert_int_equal(gfid_set_add(&s, &c, &e), 0);
	assert_int_equal(gfid_set_remove(&s, &a, &e), 0);
	assert_int_equal(gfid_set_remove(&s, &a, &e), 0);
	assert_int_equal(gfid_set_open(&again, r, "some.set", &e), 0);
	assert_int_equal(again.n, 2);
	assert_true(gfid_set_has(&again, &b) && gfid_set_has(&again, &c) && !gfid_set_has(&again, &a));
	gfid_set_close(&again);
	assert_int_equal(gfid_set_remove(&s, &b, &e), 0);
	assert_int_equal(gfid_set_remove(&s, &c, &e), 0);
	assert_int_equal(gfid_set_open(&again, r, "some.set", &e), 0);
	assert_int_equal(again.n, 0);
	assert_int_equal(reg_cluster_set(r, "some.set", "not an id", &e), 0);
	assert_int_equal(gfid_set_open(&again, r, "some.set", &e), -EUCLEAN);
	gfid_set_close(&again);
	gfid_set_close(&s);
	registry_close(r);
	unlink(file);
	rmdir(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(command_lines_are_accepted_or_refused_with_a_reason),
	    cmocka_unit_test(defaults_are_what_the_help_says),
	    cmocka_unit_test(times_are_read_with_their_units),
	    cmocka_unit_test(lun_names_are_taken_apart_or_refused),
	    cmocka_unit_test(a_set_of_ids_is_remembered_by_the_registry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
