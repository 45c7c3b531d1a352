/* test_lio_tree.c - the writer of the kernel's target tree: what it makes, that it repairs and removes, that it leaves
 * what is not its own alone, and that it ends right whenever it was cut off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "blockd/lio_host.h"
#include "blockd/lio_sessions.h"
#include "tests/unit/lio_kernel.h"

#define PREFIX "iqn.2026-11.internal.myfs:5f1c02aa:"
#define IQN    PREFIX "vol.lun"

static struct lio_kernel *kernel;
static struct lio_target target;
static struct lio_want want;
static struct lio_tree tree;
static char initiators[2][REG_IQN] = {"iqn.1993-08.org.debian:01:abc", "iqn.1993-08.org.debian:01:def"};

static struct lio_target sample(void)
{
	return (struct lio_target){.iqn = IQN,
				   .backstore = "vol.lun",
				   .config = "myfs/vol/lun",
				   .size_bytes = 10737418240,
				   .block_size = 4096,
				   .serial = "6b60c53c-8ce0-4d8d-a42c-5b546bca3d09",
				   .product = "LUN 6b60c53c8ce0",
				   .may_create = true,
				   .auth = REG_AUTH_CHAP,
				   .chap_user = "vol.lun",
				   .chap_secret = "correct-horse",
				   .mutual_user = "myfs",
				   .mutual_secret = "battery-staple",
				   .initiators = initiators,
				   .initiators_n = 1};
}

static int setup(void **state)
{
	(void)state;
	kernel = lio_kernel_new();
	target = sample();
	want = (struct lio_want){.prefix = PREFIX,
				 .hba = 1048577,
				 .portals = {"192.0.2.11:3260"},
				 .portals_n = 1,
				 .complete = true,
				 .targets = &target,
				 .targets_n = 1};
	tree = (struct lio_tree){.fs = &kernel->fs, .want = &want, .runner = true};
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	lio_kernel_free(kernel);
	return 0;
}

static void apply(void)
{
	struct err e = ERR_INIT;

	if (lio_target_apply(&tree, &target, &e) != 0)
		fail_msg("apply: %s", e.text);
}

static void expect_tree(const char *expected)
{
	char *text = lio_kernel_dump(kernel);

	assert_string_equal(text, expected);
	free(text);
}

static void check_value(const char *path, const char *value)
{
	char now[LIO_VALUE] = "";

	assert_int_equal(kernel->plain.read(&kernel->plain, path, now), 0);
	assert_string_equal(now, value);
}

static bool present(const char *path)
{
	char full[LIO_PATH];
	struct stat st;

	snprintf(full, sizeof(full), "%s/%s", kernel->root, path);
	return lstat(full, &st) == 0;
}

#define TPG "iscsi/" IQN "/tpgt_1"
#define ACL TPG "/acls/iqn.1993-08.org.debian:01:abc"
#define DEV "core/user_1048577/vol.lun"

static const char expected_tree[] =
    "core/user_1048577/hba_info = HBA Index: 1 plugin: user\n" DEV "/alua/default_tg_pt_gp/\n" DEV
    "/attrib/cmd_time_out = 0\n" DEV "/attrib/dev_config = myfs/vol/lun\n" DEV "/attrib/dev_size = 10737418240\n" DEV
    "/attrib/hw_block_size = 4096\n" DEV "/attrib/hw_max_sectors = 256\n" DEV "/attrib/max_data_area_mb = 64\n" DEV
    "/enable = 1\n" DEV "/wwn/product_id = LUN 6b60c53c8ce0\n" DEV "/wwn/vendor_id = MYFS\n" DEV
    "/wwn/vpd_unit_serial = T10 VPD Unit Serial Number: 6b60c53c-8ce0-4d8d-a42c-5b546bca3d09\n"
    "iscsi/discovery_auth/userid = \n"
    "iscsi/" IQN "/fabric_statistics/\n" ACL "/auth/password = correct-horse\n" ACL "/auth/password_mutual = \n" ACL
    "/auth/userid = vol.lun\n" ACL "/auth/userid_mutual = \n" ACL "/fabric_statistics/\n" ACL
    "/info = No active iSCSI Session for Initiator Endpoint\n" ACL "/lun_0/myfs -> " TPG "/lun/lun_0\n" ACL
    "/lun_0/statistics/\n" ACL "/lun_0/write_protect = 0\n" TPG "/attrib/authentication = 1\n" TPG
    "/attrib/cache_dynamic_acls = 0\n" TPG "/attrib/default_cmdsn_depth = 128\n" TPG
    "/attrib/demo_mode_write_protect = 1\n" TPG "/attrib/generate_node_acls = 0\n" TPG
    "/auth/password = correct-horse\n" TPG "/auth/password_mutual = \n" TPG "/auth/userid = vol.lun\n" TPG
    "/auth/userid_mutual = \n" TPG "/dynamic_sessions = \n" TPG "/enable = 1\n" TPG "/lun/lun_0/alua_tg_pt_gp = \n" TPG
    "/lun/lun_0/myfs -> " DEV "\n" TPG "/lun/lun_0/statistics/\n" TPG "/np/192.0.2.11:3260/\n" TPG
    "/param/FirstBurstLength = 262144\n" TPG "/param/MaxBurstLength = 1048576\n" TPG
    "/param/MaxRecvDataSegmentLength = 262144\n";

static const char empty_tree[] = "core/\niscsi/discovery_auth/userid = \n";

static void a_target_is_made_as_the_kernel_wants_it(void **state)
{
	(void)state;
	apply();
	expect_tree(expected_tree);
}

static void a_second_pass_writes_nothing(void **state)
{
	unsigned before;

	(void)state;
	apply();
	before = kernel->changes;
	apply();
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	assert_int_equal(kernel->changes, before);
}

static void removing_leaves_nothing_and_can_be_repeated(void **state)
{
	(void)state;
	apply();
	assert_int_equal(lio_target_remove(&tree, IQN, NULL), 0);
	expect_tree(empty_tree);
	assert_int_equal(lio_target_remove(&tree, IQN, NULL), 0);
}

/* T2: whoever can log in has to prove who he is. */
static void check_enabled_is_whole(struct lio_kernel *k)
{
	char now[LIO_VALUE];

	if (k->plain.read(&k->plain, TPG "/enable", now) < 0 || strcmp(now, "1") != 0)
		return;
	assert_int_equal(k->plain.read(&k->plain, TPG "/attrib/authentication", now), 0);
	assert_string_equal(now, "1");
	assert_int_equal(k->plain.read(&k->plain, TPG "/auth/password", now), 0);
	assert_string_equal(now, "correct-horse");
}

static void a_create_cut_off_anywhere_is_finished_by_the_next_pass(void **state)
{
	unsigned steps;

	(void)state;
	apply();
	steps = kernel->changes;
	assert_true(steps > 20);
	for (unsigned n = 0; n < steps; n++) {
		lio_kernel_free(kernel);
		kernel = lio_kernel_new();
		tree.fs = &kernel->fs;
		kernel->after = check_enabled_is_whole;
		kernel->crash_after = n;
		assert_true(lio_target_apply(&tree, &target, NULL) < 0);
		kernel->crash_after = UINT32_MAX;
		assert_int_equal(lio_strays_remove(&tree, NULL), 0);
		apply();
		expect_tree(expected_tree);
	}
}

static void what_a_create_left_behind_anywhere_goes_when_the_lun_is_gone(void **state)
{
	unsigned steps;

	(void)state;
	apply();
	steps = kernel->changes;
	for (unsigned n = 1; n <= steps; n++) {
		lio_kernel_free(kernel);
		kernel = lio_kernel_new();
		tree.fs = &kernel->fs;
		kernel->crash_after = n;
		lio_target_apply(&tree, &target, NULL);
		kernel->crash_after = UINT32_MAX;
		want.targets_n = 0;
		assert_int_equal(lio_strays_remove(&tree, NULL), 0);
		want.targets_n = 1;
		assert_false(present("iscsi/" IQN));
		assert_false(present("core/user_1048577"));
	}
}

static void a_removal_cut_off_anywhere_is_finished_by_the_next_pass(void **state)
{
	unsigned made, steps;

	(void)state;
	apply();
	made = kernel->changes;
	assert_int_equal(lio_target_remove(&tree, IQN, NULL), 0);
	steps = kernel->changes - made;
	want.targets_n = 0;
	for (unsigned n = 0; n < steps; n++) {
		apply();
		kernel->crash_after = kernel->changes + n;
		lio_target_remove(&tree, IQN, NULL);
		kernel->crash_after = UINT32_MAX;
		assert_int_equal(lio_strays_remove(&tree, NULL), 0);
		expect_tree(empty_tree);
	}
}

/* What an administrator made with other tools. */
static void put_foreign(void)
{
	struct lio_fs *fs = &kernel->fs;

	assert_int_equal(fs->mkdir(fs, "core/user_0"), 0);
	assert_int_equal(fs->mkdir(fs, "core/user_0/other"), 0);
	lio_mkdir(&tree, "iscsi", NULL);
	assert_int_equal(fs->mkdir(fs, "iscsi/iqn.2003-01.org.linux-iscsi.host:1"), 0);
	assert_int_equal(fs->mkdir(fs, "iscsi/iqn.2003-01.org.linux-iscsi.host:1/tpgt_1"), 0);
	assert_int_equal(fs->mkdir(fs, "iscsi/iqn.2026-11.internal.myfs:00000000:vol.lun"), 0); /* another cluster */
}

static void foreign_targets_and_backstores_are_never_touched(void **state)
{
	char *before, *after;

	(void)state;
	put_foreign();
	before = lio_kernel_dump(kernel);
	apply();
	want.targets_n = 0;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	after = lio_kernel_dump(kernel);
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void a_target_of_another_gateway_of_this_host_is_left_to_it(void **state)
{
	char *before, *after;
	struct err e = ERR_INIT;

	(void)state;
	apply();
	before = lio_kernel_dump(kernel);
	want.hba = 2000000; /* we are the other one now */
	assert_int_equal(lio_target_apply(&tree, &target, &e), -EBUSY);
	want.targets_n = 0;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	assert_int_equal(lio_target_remove(&tree, IQN, NULL), 0);
	after = lio_kernel_dump(kernel);
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void what_a_gateway_that_is_gone_left_on_this_host_is_taken_over(void **state)
{
	(void)state;
	apply();
	want.hba = 2000000;
	want.gone[want.gone_n++] = 1048577;
	apply();
	assert_false(present("core/user_1048577"));
	assert_true(present("core/user_2000000/vol.lun") && present(TPG "/lun/lun_0/myfs"));
	want.hba = 3000000; /* and again, now as leftovers nobody wants */
	want.gone[0] = 2000000;
	want.targets_n = 0;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	expect_tree(empty_tree);
}

static void a_half_made_target_that_another_gateway_wants_is_left_to_it(void **state)
{
	(void)state;
	assert_int_equal(kernel->fs.mkdir(&kernel->fs, "iscsi"), 0);
	assert_int_equal(kernel->fs.mkdir(&kernel->fs, "iscsi/" IQN), 0);
	want.targets_n = 0;
	want.others = &target.iqn;
	want.others_n = 1;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	assert_true(present("iscsi/" IQN));
	want.others_n = 0;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	assert_false(present("iscsi/" IQN));
}

static void wrong_values_are_repaired(void **state)
{
	(void)state;
	apply();
	kernel_put(kernel, TPG "/attrib", "authentication", "0");
	kernel_put(kernel, TPG "/attrib", "generate_node_acls", "1");
	kernel_put(kernel, ACL "/auth", "password", "guess");
	kernel_put(kernel, ACL "/auth", "userid_mutual", "somebody");
	kernel_put(kernel, ACL "/auth", "password_mutual", "something");
	kernel_put(kernel, TPG, "enable", "0");
	assert_int_equal(kernel->fs.mkdir(&kernel->fs, TPG "/acls/iqn.2000-01.com.example:intruder"), 0);
	assert_int_equal(kernel->fs.mkdir(&kernel->fs, TPG "/np/0.0.0.0:3260"), 0);
	apply();
	check_value(ACL "/auth/userid_mutual", "NULL");
	check_value(ACL "/auth/password_mutual", "NULL");
	kernel_put(kernel, ACL "/auth", "userid_mutual", "");
	kernel_put(kernel, ACL "/auth", "password_mutual", "");
	expect_tree(expected_tree);
}

static void who_may_log_in_follows_the_list(void **state)
{
	(void)state;
	apply();
	target.initiators_n = 2;
	apply();
	check_value(TPG "/acls/iqn.1993-08.org.debian:01:def/auth/password", "correct-horse");
	target.initiators = &initiators[1];
	target.initiators_n = 1;
	apply();
	assert_false(present(ACL));
	assert_true(present(TPG "/acls/iqn.1993-08.org.debian:01:def/lun_0/myfs"));
}

static void an_open_target_admits_anybody_and_mutual_chap_names_the_target(void **state)
{
	(void)state;
	target.open = true;
	target.auth = REG_AUTH_MUTUAL;
	target.initiators_n = 0;
	apply();
	check_value(TPG "/attrib/generate_node_acls", "1");
	check_value(TPG "/attrib/cache_dynamic_acls", "1");
	check_value(TPG "/attrib/demo_mode_write_protect", "0");
	check_value(TPG "/auth/userid_mutual", "myfs");
	check_value(TPG "/auth/password_mutual", "battery-staple");
	target.auth = REG_AUTH_NONE;
	apply();
	check_value(TPG "/attrib/authentication", "0");
	check_value(TPG "/auth/password", "NULL");
	check_value(TPG "/auth/password_mutual", "NULL");
}

static void growing_changes_the_size_of_the_device_in_place(void **state)
{
	unsigned before;

	(void)state;
	apply();
	before = kernel->changes;
	target.size_bytes *= 2;
	apply();
	assert_int_equal(kernel->changes, before + 1);
	check_value(DEV "/attrib/dev_size", "21474836480");
}

static void a_disk_that_is_another_one_is_taken_down_and_made_anew(void **state)
{
	(void)state;
	apply();
	snprintf(target.serial, sizeof(target.serial), "00000000-0000-4000-8000-000000000001");
	apply();
	check_value(DEV "/wwn/vpd_unit_serial", "T10 VPD Unit Serial Number: 00000000-0000-4000-8000-000000000001");
	snprintf(target.config, sizeof(target.config), "myfs/vol/lun;socket=/run/x.sock");
	apply();
	check_value(DEV "/attrib/dev_config", "myfs/vol/lun;socket=/run/x.sock");
	target = sample();
	apply();
	expect_tree(expected_tree);
}

static void without_tcmu_runner_nothing_that_waits_for_it_is_begun(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	tree.runner = false;
	assert_int_equal(lio_target_apply(&tree, &target, &e), -EHOSTDOWN);
	assert_int_equal(kernel->changes, 0);
	tree.runner = true;
	apply();
	tree.runner = false;
	apply(); /* what exists stays as it is */
	expect_tree(expected_tree);
	target.size_bytes *= 2;
	assert_int_equal(lio_target_apply(&tree, &target, &e), -EHOSTDOWN);
	assert_int_equal(lio_target_remove(&tree, IQN, &e), -EHOSTDOWN);
	assert_false(present("iscsi/" IQN)); /* nobody can log in any more */
	assert_true(present(DEV));
	tree.runner = true;
	want.targets_n = 0;
	assert_int_equal(lio_strays_remove(&tree, NULL), 0);
	assert_false(present(DEV));
}

static void a_device_is_not_made_while_bricks_are_missing_but_stays(void **state)
{
	(void)state;
	target.may_create = false;
	assert_int_equal(lio_target_apply(&tree, &target, NULL), -EAGAIN);
	assert_int_equal(kernel->changes, 0);
	target.may_create = true;
	apply();
	target.may_create = false;
	apply();
	expect_tree(expected_tree);
}

static void a_handler_that_refuses_is_told_and_asked_again(void **state)
{
	struct err e = ERR_INIT;

	(void)state;
	kernel->refuse_enable = -EINVAL;
	assert_int_equal(lio_target_apply(&tree, &target, &e), -EINVAL);
	assert_non_null(strstr(e.text, "handler_myfs.so"));
	assert_false(present("iscsi"));
	kernel->refuse_enable = 0;
	apply();
	expect_tree(expected_tree);
}

static void sessions_are_read_from_the_kernels_words(void **state)
{
	static const char info[] =
	    "InitiatorName: iqn.1993-08.org.debian:01:abc\nInitiatorAlias: \nLIO Session ID: 1   ISID: 0x00 02 3d 01 "
	    "00 00 "
	    " TSIH: 1  SessionType: Normal\nSession State: TARG_SESS_STATE_LOGGED_IN\n"
	    "---------------------[iSCSI Session Values]-----------------------\n"
	    "----------------------[iSCSI Connections]-------------------------\n"
	    "CID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN\n   Address 192.0.2.50 TCP  StatSN: 0x1d000000\n";
	json_t *sessions = NULL;

	(void)state;
	put_foreign();
	apply();
	assert_int_equal(lio_sessions_read(&tree, &sessions, NULL), 0);
	assert_int_equal(json_array_size(sessions), 0);
	json_decref(sessions);
	kernel_put(kernel, ACL, "info", info);
	kernel_put(kernel, TPG, "dynamic_sessions", "iqn.1993-08.org.debian:01:abc\niqn.1991-05.com.microsoft:pc\n");
	assert_int_equal(lio_sessions_read(&tree, &sessions, NULL), 0);
	char *text = json_dumps(sessions, JSON_COMPACT);
	assert_string_equal(text, "[{\"iqn\":\"" IQN "\",\"initiator\":\"iqn.1993-08.org.debian:01:abc\",\"addresses\":"
				  "[\"192.0.2.50\"]},{\"iqn\":\"" IQN
				  "\",\"initiator\":\"iqn.1991-05.com.microsoft:pc\",\"addresses\":[]}]");
	free(text);
	json_decref(sessions);
}

static void tcmu_runner_is_found_by_its_name(void **state)
{
	(void)state;
	kernel_put(kernel, "1", "comm", "systemd\n");
	kernel_put(kernel, "self", "comm", "tcmu-runner\n");
	assert_false(lio_host_runner(kernel->root));
	kernel_put(kernel, "812", "comm", "tcmu-runner\n");
	assert_true(lio_host_runner(kernel->root));
}

static void what_the_host_lacks_is_said_with_its_cure(void **state)
{
	struct lio_lack lack;
	char path[LIO_PATH];

	(void)state;
	lio_host_prepare(kernel->root, &lack);
	assert_null(lack.code);
	snprintf(path, sizeof(path), "%s/nowhere", kernel->root);
	lio_host_prepare(path, &lack);
	assert_string_equal(lack.code, "configfs");
	assert_non_null(strstr(lack.next, "mount -t configfs"));
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(a_target_is_made_as_the_kernel_wants_it),
	    T(a_second_pass_writes_nothing),
	    T(removing_leaves_nothing_and_can_be_repeated),
	    T(a_create_cut_off_anywhere_is_finished_by_the_next_pass),
	    T(what_a_create_left_behind_anywhere_goes_when_the_lun_is_gone),
	    T(a_removal_cut_off_anywhere_is_finished_by_the_next_pass),
	    T(foreign_targets_and_backstores_are_never_touched),
	    T(a_target_of_another_gateway_of_this_host_is_left_to_it),
	    T(what_a_gateway_that_is_gone_left_on_this_host_is_taken_over),
	    T(a_half_made_target_that_another_gateway_wants_is_left_to_it),
	    T(wrong_values_are_repaired),
	    T(who_may_log_in_follows_the_list),
	    T(an_open_target_admits_anybody_and_mutual_chap_names_the_target),
	    T(growing_changes_the_size_of_the_device_in_place),
	    T(a_disk_that_is_another_one_is_taken_down_and_made_anew),
	    T(without_tcmu_runner_nothing_that_waits_for_it_is_begun),
	    T(a_device_is_not_made_while_bricks_are_missing_but_stays),
	    T(a_handler_that_refuses_is_told_and_asked_again),
	    T(sessions_are_read_from_the_kernels_words),
	    T(tcmu_runner_is_found_by_its_name),
	    T(what_the_host_lacks_is_said_with_its_cure),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
