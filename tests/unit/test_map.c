/* test_map.c - the pure parts of map: netlink attributes, node records, the file of a mapping, names of devices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <linux/nbd-netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>

#include "cli/iscsi_login.h"
#include "cli/mapping.h"
#include "cli/nbd_link.h"
#include "cli/nbd_netlink.h"

#define FAMILY 27

static struct nl_msg *message(uint8_t cmd)
{
	struct nl_msg *m = nlmsg_alloc();
	assert_non_null(m);
	assert_non_null(genlmsg_put(m, 1, 2, FAMILY, 0, 0, cmd, NBD_GENL_VERSION));
	return m;
}

static void a_connect_carries_every_attribute_as_the_kernel_reads_it(void **state)
{
	(void)state;
	const int fds[] = {7, 9};
	const struct nbd_setup s = {.index = 3, .size_bytes = GIB(10), .block_bytes = 4096, .timeout_s = 30, .dead_conn_timeout_s = 300, .server_flags = 0x10d,
	                            .backend = "myfs:vol/lun", .fds = fds, .n_fds = 2};
	struct nl_msg *m = message(NBD_CMD_CONNECT);
	struct nlattr *a[NBD_ATTR_MAX + 1], *item;
	assert_int_equal(nbd_setup_put(m, &s), 0);
	assert_int_equal(genlmsg_parse(nlmsg_hdr(m), 0, a, NBD_ATTR_MAX, NULL), 0);
	assert_int_equal(nla_get_u32(a[NBD_ATTR_INDEX]), 3);
	assert_int_equal(nla_get_u64(a[NBD_ATTR_SIZE_BYTES]), GIB(10));
	assert_int_equal(nla_get_u64(a[NBD_ATTR_BLOCK_SIZE_BYTES]), 4096);
	assert_int_equal(nla_get_u64(a[NBD_ATTR_TIMEOUT]), 30);
	assert_int_equal(nla_get_u64(a[NBD_ATTR_DEAD_CONN_TIMEOUT]), 300);
	assert_int_equal(nla_get_u64(a[NBD_ATTR_SERVER_FLAGS]), 0x10d);
	assert_null(a[NBD_ATTR_CLIENT_FLAGS]);
	assert_string_equal(nla_get_string(a[NBD_ATTR_BACKEND_IDENTIFIER]), "myfs:vol/lun");
	int rest, n = 0;
	nla_for_each_nested(item, a[NBD_ATTR_SOCKETS], rest)
	{
		struct nlattr *sock[NBD_SOCK_MAX + 1];
		assert_int_equal(nla_type(item), NBD_SOCK_ITEM);
		assert_int_equal(nla_parse_nested(sock, NBD_SOCK_MAX, item, NULL), 0);
		assert_int_equal(nla_get_u32(sock[NBD_SOCK_FD]), fds[n++]);
	}
	assert_int_equal(n, 2);
	nlmsg_free(m);
}

static void what_is_not_given_is_left_out(void **state)
{
	(void)state;
	struct nl_msg *m = message(NBD_CMD_CONNECT);
	struct nlattr *a[NBD_ATTR_MAX + 1];
	assert_int_equal(nbd_setup_put(m, &(struct nbd_setup){.index = NBD_ANY_DEVICE, .size_bytes = 4096}), 0);
	assert_int_equal(genlmsg_parse(nlmsg_hdr(m), 0, a, NBD_ATTR_MAX, NULL), 0);
	for (int i = 0; i <= NBD_ATTR_MAX; i++)
		assert_true((a[i] != NULL) == (i == NBD_ATTR_SIZE_BYTES));
	nlmsg_free(m);
}

static void the_device_of_an_answer_is_found_and_nonsense_refused(void **state)
{
	(void)state;
	int index = -7;
	struct nl_msg *m = message(NBD_CMD_LINK_DEAD);
	assert_int_equal(nbd_index_get(nlmsg_hdr(m), &index), -EBADMSG);
	nla_put_u32(m, NBD_ATTR_INDEX, 12);
	assert_int_equal(nbd_index_get(nlmsg_hdr(m), &index), 0);
	assert_int_equal(index, 12);
	nlmsg_free(m);
	m = message(NBD_CMD_LINK_DEAD);
	nla_put_u32(m, NBD_ATTR_INDEX, UINT32_MAX);
	assert_int_equal(nbd_index_get(nlmsg_hdr(m), &index), -EBADMSG);
	nlmsg_free(m);
	m = message(NBD_CMD_LINK_DEAD);
	nla_put_u16(m, NBD_ATTR_INDEX, 1);
	assert_int_equal(nbd_index_get(nlmsg_hdr(m), &index), -EBADMSG);
	nlmsg_free(m);
	assert_int_equal(index, 12);
}

static void a_node_record_gets_its_secret_in_place_or_before_its_end(void **state)
{
	(void)state;
	static const struct {
		const char *before, *after;
	} cases[] = {
		{"# BEGIN RECORD 2.1.8\na = 1\n# END RECORD\n", "# BEGIN RECORD 2.1.8\na = 1\nkey = v\n# END RECORD\n"},
		{"key = old\na = 1\n# END RECORD\n", "key = v\na = 1\n# END RECORD\n"},
		{"keys = 2\nkey=old\nkey = older\n", "keys = 2\nkey = v\n"},
		{"a = 1", "a = 1\nkey = v\n"},
		{"", "key = v\n"},
	};
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		char *got = iscsi_record_set(cases[i].before, "key", "v");
		assert_string_equal(got, cases[i].after);
		free(got);
	}
}

static void a_mapping_survives_its_file(void **state)
{
	(void)state;
	char dir[] = "/tmp/myfs-map-XXXXXX", path[MAPPING_TEXT];
	assert_non_null(mkdtemp(dir));
	setenv("MYFS_RUN_DIR", dir, 1);
	struct mapping m = {.spec = "vol/a.b-c", .proto = "nbd", .device = "/dev/nbd3", .index = 3, .n_uris = 2, .size_bytes = GIB(1), .block_bytes = 512,
	                    .io_timeout_s = 30, .reattach_timeout_s = 300, .connections = 4, .read_only = true, .state = "connected", .since_ns = 77, .reattached = 2},
	               back, all[4];
	strcpy(m.uris[0], "nbd+unix:///vol/a.b-c?socket=/run/s");
	strcpy(m.uris[1], "nbd://192.0.2.1/vol/a.b-c");
	assert_int_equal(mapping_save(&m, NULL), 0);
	assert_int_equal(mapping_load("vol/a.b-c", &back), 0);
	json_t *a = mapping_to_json(&m), *b = mapping_to_json(&back);
	assert_true(json_equal(a, b));
	json_decref(a);
	json_decref(b);
	assert_int_equal(mapping_load("vol/other", &back), -ENOENT);
	assert_int_equal(mapping_list(all, 4), 1);
	assert_string_equal(all[0].spec, "vol/a.b-c");
	assert_true(strstr(mapping_path("vol/a.b-c", MAPPING_JSON, path), "/map/vol:a.b-c.json") != NULL);
	FILE *f = fopen(path, "w");
	fputs("{\"spec\": \"vol/a.b-c\"}", f);
	fclose(f);
	assert_int_equal(mapping_load("vol/a.b-c", &back), -EBADMSG);
	assert_int_equal(mapping_list(all, 4), 0);
	mapping_forget("vol/a.b-c");
	assert_int_equal(mapping_load("vol/a.b-c", &back), -ENOENT);
	snprintf(path, sizeof(path), "%s/map", dir);
	rmdir(path);
	rmdir(dir);
	unsetenv("MYFS_RUN_DIR");
}

static void device_names_and_addresses_are_told_apart(void **state)
{
	(void)state;
	static const struct {
		const char *device;
		int index;
	} names[] = {{"/dev/nbd0", 0}, {"/dev/nbd15", 15}, {"/dev/nbd", -1}, {"/dev/nbd1p1", -1}, {"/dev/sda", -1}, {"nbd0", -1}, {"", -1}, {"/dev/nbd123456", -1}};
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(nbd_device_index(names[i].device), names[i].index);
	assert_true(nbd_uri_is_tls("nbds://h/x") && nbd_uri_is_tls("nbds+unix:///x?socket=/s"));
	assert_false(nbd_uri_is_tls("nbd://h/x") || nbd_uri_is_tls("nbd+unix:///x?socket=/s"));
	struct nbd_link l = {.fd = 99};
	struct err e = ERR_INIT;
	assert_int_equal(nbd_link_open("nbds://127.0.0.1:1/x", 100, &l, &e), -EPROTONOSUPPORT);
	assert_int_equal(l.fd, 99);
	assert_non_null(strstr(e.text, "TLS"));
	assert_int_equal(nbd_link_open("nbd+unix:///x?socket=/nonexistent/s", 1000, &l, &e), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_connect_carries_every_attribute_as_the_kernel_reads_it), cmocka_unit_test(what_is_not_given_is_left_out),
		cmocka_unit_test(the_device_of_an_answer_is_found_and_nonsense_refused),    cmocka_unit_test(a_node_record_gets_its_secret_in_place_or_before_its_end),
		cmocka_unit_test(a_mapping_survives_its_file),                              cmocka_unit_test(device_names_and_addresses_are_told_apart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
