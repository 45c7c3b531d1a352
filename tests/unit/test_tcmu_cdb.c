/* SCSI commands judged: what is done, what is refused and with which sense; the pages that describe the device; the
 * configuration string. */
#include "tests/unit/loop_fixture.h"

#include "handlers/tcmu/cdb.h"
#include "handlers/tcmu/config.h"
#include "handlers/tcmu/page.h"

#define BLOCKS UINT64_C(0x200000000)

static const struct cdb_limits limits = {
    .block_bytes = 512, .blocks = BLOCKS, .max_blocks = 2048, .compare_blocks = 255};

static const struct {
	const char *what;
	uint8_t cdb[16];
	uint32_t sense;
	enum cdb_action action;
	uint64_t off, len, data_len; /* in blocks */
	bool fua;
} cases[] = {
    {"READ (6), 256 blocks", {0x08, 0x1f, 0xff, 0xff, 0}, 0, CDB_READ, 0x1fffff, 256, 256, false},
    {"READ (10)", {0x28, 0, 0, 0, 1, 2, 0, 0, 8, 0}, 0, CDB_READ, 0x102, 8, 8, false},
    {"READ (10), DPO and FUA", {0x28, 0x18, 0, 0, 1, 2, 0, 0, 8, 0}, 0, CDB_READ, 0x102, 8, 8, false},
    {"READ (10), RDPROTECT", {0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0}, SENSE_CDB_BYTE(1), CDB_RUNNER, 0, 0, 0, false},
    {"READ (12), too long", {0xa8, 0, 0, 0, 0, 0, 0, 0, 8, 1}, SENSE_CDB_BYTE(6), CDB_RUNNER, 0, 0, 0, false},
    {"READ (16), last block",
     {0x88, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
     0,
     CDB_READ,
     BLOCKS - 1,
     1,
     1,
     false},
    {"READ (16), over the end",
     {0x88, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2},
     SENSE_LBA_OUT_OF_RANGE,
     CDB_RUNNER,
     0,
     0,
     0,
     false},
    {"READ (16), wrapping",
     {0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2},
     SENSE_LBA_OUT_OF_RANGE,
     CDB_RUNNER,
     0,
     0,
     0,
     false},
    {"READ (16), nothing", {0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0}, 0, CDB_READ, 9, 0, 0, false},
    {"WRITE (6)", {0x0a, 0, 0, 5, 1}, 0, CDB_WRITE, 5, 1, 1, false},
    {"WRITE (10), FUA", {0x2a, 0x08, 0, 0, 0, 7, 0, 0, 2, 0}, 0, CDB_WRITE, 7, 2, 2, true},
    {"WRITE (12), WRPROTECT", {0xaa, 0x60, 0, 0, 0, 7, 0, 0, 0, 2}, SENSE_CDB_BYTE(1), CDB_RUNNER, 0, 0, 0, false},
    {"WRITE AND VERIFY (10)", {0x2e, 0x02, 0, 0, 0, 7, 0, 0, 2, 0}, 0, CDB_WRITE_VERIFY, 7, 2, 2, true},
    {"VERIFY (10), medium", {0x2f, 0, 0, 0, 0, 7, 0, 0xff, 0xff, 0}, 0, CDB_VERIFY, 7, 0xffff, 0, false},
    {"VERIFY (10), BYTCHK", {0x2f, 2, 0, 0, 0, 7, 0, 0, 3, 0}, 0, CDB_VERIFY, 7, 3, 3, false},
    {"VERIFY (10), BYTCHK 11b", {0x2f, 6, 0, 0, 0, 7, 0, 0, 3, 0}, SENSE_CDB_BYTE(1), CDB_RUNNER, 0, 0, 0, false},
    {"SYNCHRONIZE CACHE", {0x35}, 0, CDB_FLUSH, 0, 0, 0, false},
    {"WRITE SAME (10), no blocks", {0x41, 0, 0, 0, 0, 1, 0, 0, 0, 0}, SENSE_CDB_BYTE(7), CDB_RUNNER, 0, 0, 0, false},
    {"WRITE SAME (10), UNMAP", {0x41, 8, 0, 0, 0, 1, 0, 0, 9, 0}, 0, CDB_WRITE_SAME, 1, 9, 1, false},
    {"WRITE SAME (10), ANCHOR", {0x41, 0x18, 0, 0, 0, 1, 0, 0, 9, 0}, SENSE_CDB_BYTE(1), CDB_RUNNER, 0, 0, 0, false},
    {"WRITE SAME (16), NDOB", {0x93, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 9}, 0, CDB_WRITE_SAME, 1, 9, 0, false},
    {"WRITE SAME (16), 4 GiB",
     {0x93, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x80, 0, 0},
     0,
     CDB_WRITE_SAME,
     1,
     0x800000,
     1,
     false},
    {"WRITE SAME (16), more",
     {0x93, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x80, 0, 1},
     SENSE_CDB_BYTE(10),
     CDB_RUNNER,
     0,
     0,
     0,
     false},
    {"UNMAP, ANCHOR", {0x42, 1, 0, 0, 0, 0, 0, 0, 24, 0}, SENSE_CDB_BYTE(1), CDB_RUNNER, 0, 0, 0, false},
    {"COMPARE AND WRITE", {0x89, 8, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 255}, 0, CDB_COMPARE_AND_WRITE, 3, 255, 510, true},
    {"COMPARE AND WRITE, protected",
     {0x89, 0x20, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1},
     SENSE_CDB_BYTE(1),
     CDB_RUNNER,
     0,
     0,
     0,
     false},
    {"GET LBA STATUS, last block",
     {0x9e, 0x12, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0},
     0,
     CDB_LBA_STATUS,
     BLOCKS - 1,
     1,
     1,
     false},
    {"GET LBA STATUS, one GiB of many",
     {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 4, 0},
     0,
     CDB_LBA_STATUS,
     7,
     0x200000,
     2,
     false},
    {"GET LBA STATUS, no answer wanted", {0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 7}, 0, CDB_LBA_STATUS, 7, 0, 0, false},
    {"GET LBA STATUS, beyond the end",
     {0x9e, 0x12, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 2, 0},
     SENSE_LBA_OUT_OF_RANGE,
     CDB_RUNNER,
     0,
     0,
     0,
     false},
    {"TEST UNIT READY", {0x00}, 0, CDB_RUNNER, 0, 0, 0, false},
    {"EXTENDED COPY", {0x83}, 0, CDB_RUNNER, 0, 0, 0, false},
};

static void commands_are_judged(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct cdb c = {0};
		uint32_t sense = cdb_parse(cases[i].cdb, &limits, &c);

		if (sense != cases[i].sense)
			fail_msg("%s: sense %06x", cases[i].what, sense);
		if (sense)
			continue;
		if (c.action != cases[i].action || c.off != cases[i].off * 512 || c.len != cases[i].len * 512 ||
		    c.data_len != cases[i].data_len * 512 || c.fua != cases[i].fua)
			fail_msg("%s: action %d, off %llu, len %llu, data %llu, fua %d", cases[i].what, (int)c.action,
				 (unsigned long long)c.off, (unsigned long long)c.len, (unsigned long long)c.data_len,
				 c.fua);
	}
}

static uint32_t parse_list(const uint8_t *list, size_t len, struct unmap_range *r, unsigned *n)
{
	return unmap_list_parse(list, len, &limits, r, n);
}

static void unmap_lists_are_judged(void **state)
{
	uint8_t list[8 + 16 * 65] = {0, 54, 0, 48};
	struct unmap_range r[UNMAP_RANGES_MAX];
	unsigned n = 9;

	(void)state;
	list[8 + 7] = 5; /* block 5, two of them; block 9, none; block 16, one */
	list[8 + 11] = 2;
	list[24 + 7] = 9;
	list[40 + 7] = 16;
	list[40 + 11] = 1;
	assert_int_equal(parse_list(list, 56, r, &n), 0);
	assert_int_equal(n, 2);
	assert_true(r[0].off == 5 * 512 && r[0].len == 1024 && r[1].off == 16 * 512 && r[1].len == 512);
	assert_int_equal(parse_list(list, 55, r, &n), 0); /* the third is not whole */
	assert_int_equal(n, 1);
	assert_int_equal(parse_list(list, 8, r, &n), 0);
	assert_int_equal(n, 0);
	assert_int_equal(parse_list(list, 0, r, &n), 0);
	assert_int_equal(parse_list(list, 7, r, &n), SENSE_PARAMETER_LIST_LENGTH);
	list[8 + 3] = 2; /* block 0x200000005 */
	assert_int_equal(parse_list(list, 56, r, &n), SENSE_LBA_OUT_OF_RANGE);
	list[8 + 3] = 0;
	list[8 + 8] = 1; /* 0x1000002 blocks */
	assert_int_equal(parse_list(list, 56, r, &n), SENSE_INVALID_FIELD_IN_LIST);
	memset(list, 0, sizeof(list));
	list[2] = (16 * 65) >> 8;
	list[3] = (16 * 65) & 0xff;
	assert_int_equal(parse_list(list, sizeof(list), r, &n), SENSE_INVALID_FIELD_IN_LIST);
}

static size_t page(const uint8_t *cdb, uint8_t *out, uint32_t want_sense)
{
	struct page_device d = {.limits = limits, .name = "vol/a-long-name.-longer"};
	size_t len = 0;
	bool runner = false;

	memset(out, 0xee, PAGE_ANSWER_MAX);
	assert_int_equal(page_answer(cdb, &d, out, &len, &runner), want_sense);
	return runner ? SIZE_MAX : len;
}

static void pages_say_what_the_device_can(void **state)
{
	uint8_t p[PAGE_ANSWER_MAX];

	(void)state;
	assert_int_equal(page((uint8_t[16]){0x12, 0, 0, 0, 255}, p, 0), 74);
	assert_true(p[4] == 69 && memcmp(p + 8, "MYFS    vol/a-long-name.", 24) == 0);
	assert_int_equal(page((uint8_t[16]){0x12, 0, 0, 0, 5}, p, 0), 5);
	assert_int_equal(page((uint8_t[16]){0x12, 0, 1, 0, 255}, p, SENSE_CDB_BYTE(2)), 0);
	assert_int_equal(page((uint8_t[16]){0x12, 1, 0x42, 0, 255}, p, SENSE_CDB_BYTE(2)), 0);
	assert_true(page((uint8_t[16]){0x12, 1, 0x83, 0, 255}, p, 0) == SIZE_MAX);
	assert_int_equal(page((uint8_t[16]){0x12, 1, 0, 0, 255}, p, 0), 10);
	assert_int_equal(page((uint8_t[16]){0x12, 1, 0xb0, 0, 255}, p, 0), 64);
	assert_true(p[3] == 0x3c && p[4] == 1 && p[5] == 255 && p[7] == 8 && p[10] == 8 && p[11] == 0);
	assert_true(p[21] == 0x10 && p[27] == 64 && p[31] == 128 && p[32] == 0x80); /* unmap: 2^20, 64, 64 KiB */
	assert_int_equal(page((uint8_t[16]){0x12, 1, 0xb2, 0, 255}, p, 0), 8);
	assert_int_equal(page((uint8_t[16]){0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, p, 0), 32);
	assert_true(p[3] == 1 && p[4] == 0xff && p[10] == 2 && p[13] == 3 && p[14] == 0xc0);
	assert_true(page((uint8_t[16]){0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32}, p, 0) == SIZE_MAX);
	assert_int_equal(page((uint8_t[16]){0x1a, 0, 0x3f, 0, 255}, p, 0), 4 + 12 + 20 + 12);
	assert_true(p[0] == 47 && p[2] == 0x10 && p[16] == 0x08 && p[18] == 0x04);
	assert_int_equal(page((uint8_t[16]){0x5a, 0, 0x48, 0, 0, 0, 0, 0, 255}, p, 0), 28); /* changeable: nothing */
	assert_true(p[1] == 26 && p[3] == 0x10 && p[8] == 0x08 && p[10] == 0);
	page((uint8_t[16]){0x1a, 0, 0xc8, 0, 255}, p, SENSE_SAVING_NOT_SUPPORTED);
	page((uint8_t[16]){0x1a, 0, 0x02, 0, 255}, p, SENSE_CDB_BYTE(2));
}

static void a_named_unit_tells_the_name_the_kernel_would_give_it(void **state)
{
	struct page_device d = {.limits = limits, .name = "v/l", .serial = "12ab34cd-5678-90ef-1234-567890abcdef"};
	static const uint8_t naa[] = {1,    3,    0,    16,   0x60, 0x01, 0x40, 0x51, 0x2a, 0xb3,
				      0x4c, 0xd5, 0x67, 0x89, 0x0e, 0xf1, 0x23, 0x45, 0x67, 0x89};
	const uint8_t cdb[16] = {0x12, 1, 0x83, 0, 255};
	uint8_t p[PAGE_ANSWER_MAX];
	bool runner = false;
	size_t len = 0;

	(void)state;
	assert_int_equal(page_answer(cdb, &d, p, &len, &runner), SENSE_NONE);
	assert_true(!runner && len == 4 + 20 + 12 + 36 + 4 + 3 && p[3] == len - 4);
	assert_memory_equal(p + 4, naa, sizeof(naa));
	assert_true(p[24] == 2 && p[25] == 1 && p[27] == 44);
	assert_memory_equal(p + 28, "MYFS    12ab34cd-5678-90ef-1234-567890abcdef", 44);
	assert_memory_equal(p + 72, "\x02\x00\x00\x03v/l", 7);
	d.alua = true; /* ports and groups belong on the page then */
	assert_int_equal(page_answer(cdb, &d, p, &len, &runner), SENSE_NONE);
	assert_true(runner);
}

static void allocation_is_told_in_whole_blocks(void **state)
{
	const struct cdb c = {.off = 4 * 4096, .len = 16 * 4096, .data_len = 1032},
			 few = {.off = 0, .len = 4096, .data_len = 24};
	struct link_extents x = {
	    .n = 5, .v = {{4096, false}, {8192 + 100, true}, {50, false}, {4096 - 150, true}, {1 << 20, true}}};
	static const uint8_t want[8 + 16 * 4] = {
	    0, 0, 0, 68, 0, 0, 0, 0,                          /* */
	    0, 0, 0, 0,  0, 0, 0, 4, 0, 0, 0, 1,  0, 0, 0, 0, /* mapped */
	    0, 0, 0, 0,  0, 0, 0, 5, 0, 0, 0, 2,  1, 0, 0, 0, /* deallocated */
	    0, 0, 0, 0,  0, 0, 0, 7, 0, 0, 0, 1,  0, 0, 0, 0, /* a block with 50 bytes of data */
	    0, 0, 0, 0,  0, 0, 0, 8, 0, 0, 0, 12, 1, 0, 0, 0, /* not more than was asked about */
	};
	uint8_t p[PAGE_LBA_STATUS_MAX];

	(void)state;
	assert_int_equal(page_lba_status_limit(&c), 64);
	assert_int_equal(page_lba_status(&c, 4096, &x, p), sizeof(want));
	assert_memory_equal(p, want, sizeof(want));
	assert_int_equal(page_lba_status_limit(&few), 1);
	assert_int_equal(page_lba_status(&few, 512, &x, p), 24);
	assert_true(p[3] == 20 && p[19] == 8 && p[20] == 0);
	x.n = 0; /* a server that says nothing */
	assert_int_equal(page_lba_status(&few, 512, &x, p), 24);
	assert_true(p[3] == 20 && p[19] == 1 && p[20] == 0);
}

static void supported_commands_are_those_that_are_carried_out(void **state)
{
	uint8_t p[PAGE_ANSWER_MAX];
	size_t len = page((uint8_t[16]){0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, p, 0);
	unsigned n = 0;

	(void)state;
	for (size_t at = 4; at < len; at += 8, n++) {
		uint8_t one[PAGE_ANSWER_MAX], options = p[at + 5] & 1 ? 2 : 1;
		size_t got = page((uint8_t[16]){0xa3, 0x0c, options, p[at], p[at + 2], p[at + 3], 0, 0, 4, 0}, one, 0);

		assert_true(one[1] == 3 && one[3] == p[at + 7] && got == 4u + one[3] && one[4] == p[at]);
		got = page((uint8_t[16]){0xa3, 0x0c, options | 0x80, p[at], p[at + 2], p[at + 3], 0, 0, 4, 0}, one, 0);
		assert_true(one[1] == 0x83 && got == 4u + one[3] + 12u);
		page((uint8_t[16]){0xa3, 0x0c, 3 - options, p[at], 0, 0, 0, 0, 4, 0}, one, SENSE_CDB_BYTE(2));
	}
	assert_true(n > 40 && len == 4 + 8 * n && p[3] == (uint8_t)(8 * n));
	for (unsigned op = 0; op < 256; op++) { /* whatever has a rule here is told */
		uint8_t cdb[16] = {(uint8_t)op}, one[PAGE_ANSWER_MAX];
		struct cdb c = {0};

		cdb[8] = cdb[13] = 1;
		if (cdb_parse(cdb, &limits, &c) != 0 || c.action == CDB_RUNNER || c.action == CDB_PAGE)
			continue;
		page((uint8_t[16]){0xa3, 0x0c, 1, (uint8_t)op, 0, 0, 0, 0, 4, 0}, one, 0);
		if (one[1] != 3)
			fail_msg("opcode %02x is carried out and not told", op);
	}
	page((uint8_t[16]){0xa3, 0x0c, 1, 0x99, 0, 0, 0, 0, 4, 0}, p, 0);
	assert_int_equal(p[1], 1);
	page((uint8_t[16]){0xa3, 0x0c, 5, 0x88, 0, 0, 0, 0, 4, 0}, p, SENSE_CDB_BYTE(2));
}

static void configurations_are_read(void **state)
{
	struct tcmu_config c;
	struct err e = ERR_INIT;
	char text[400];

	(void)state;
	assert_int_equal(tcmu_config_parse("myfs/vol/lun", NULL, &c, &e), 0);
	assert_true(strcmp(c.lun, "vol/lun") == 0 && strcmp(c.socket, TCMU_SOCKET_DEFAULT) == 0 && c.wait_s == 20);
	assert_int_equal(tcmu_config_parse("myfs/v.1/l_2-3;wait=5;;socket=/a b=c", "/env", &c, &e), 0);
	assert_true(strcmp(c.lun, "v.1/l_2-3") == 0 && strcmp(c.socket, "/a b=c") == 0 && c.wait_s == 5);
	assert_int_equal(tcmu_config_parse("myfs/v/l;", "/env", &c, &e), 0);
	assert_string_equal(c.socket, "/env");
	static const char *const bad[] = {"",
					  "myfs",
					  "myfs/",
					  "myfs/vol",
					  "myfs/vol/",
					  "myfs//lun",
					  "myfs/.v/lun",
					  "myfs/vol/lun/x",
					  "myfs/vol/lun;wait=3601",
					  "myfs/vol/lun;wait=",
					  "myfs/vol/lun;socket=",
					  "myfs/vol/lun;SOCKET=/a",
					  "ramx/vol/lun"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		e = (struct err)ERR_INIT;
		if (tcmu_config_parse(bad[i], NULL, &c, &e) != -EINVAL || !e.text[0])
			fail_msg("accepted: %s", bad[i]);
	}
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	memcpy(text, "myfs/v/", 7);
	assert_int_equal(tcmu_config_parse(text, NULL, &c, &e), -EINVAL);
	text[7 + 64] = '\0';
	assert_int_equal(tcmu_config_parse(text, NULL, &c, &e), -EINVAL);
	text[7 + 63] = '\0';
	assert_int_equal(tcmu_config_parse(text, NULL, &c, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(commands_are_judged),
	    cmocka_unit_test(unmap_lists_are_judged),
	    cmocka_unit_test(pages_say_what_the_device_can),
	    cmocka_unit_test(a_named_unit_tells_the_name_the_kernel_would_give_it),
	    cmocka_unit_test(allocation_is_told_in_whole_blocks),
	    cmocka_unit_test(supported_commands_are_those_that_are_carried_out),
	    cmocka_unit_test(configurations_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
