/* test_brick_record.c - journal records: every kind survives its way through bytes, and no damage goes unseen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick/record.h"
#include "core/base/crc32c.h"
#include "core/base/prng.h"

#define SPACE (64 * 1024)
static uint8_t space[SPACE];
static const struct gfid dom = {{0xd0, 1, 2, 3}};

static uint8_t *body(void)
{
	memset(space, 0, sizeof(space));
	return space + RECORD_HEADER_BYTES;
}

static struct record parsed(enum record_type type, const struct wcur *c, uint32_t payload_len)
{
	struct record r;
	size_t need;
	uint32_t prev = 77;
	assert_false(c->bad);
	record_seal(space, type, (uint32_t)c->used, payload_len, 4096, prev, 5);
	assert_int_equal(record_parse(space, SPACE, 4096, &prev, &r, &need), 0);
	assert_int_equal(r.type, type == REC_VIEW_1 ? REC_VIEW : type);
	assert_int_equal(r.total, record_total((uint32_t)c->used, payload_len));
	return r;
}

static struct wcur cursor(size_t len)
{
	return wcur_of(body(), len);
}

static struct wcur prep_of(uint32_t rows, uint32_t kind, uint32_t *ret_len)
{
	struct rec_prep p = {.domain = dom,
			     .tx = {3, 9},
			     .view_ver = 12,
			     .shard = 5,
			     .kind = kind,
			     .tx_kind = BP_TX_RCW,
			     .row = 100,
			     .nrows = rows,
			     .coef = 7,
			     .lba = 55,
			     .nblocks = 2,
			     .participants = 0x31,
			     .missed = 0x2,
			     .ncrc = kind == BP_ZERO ? 0 : rows};
	uint32_t crc[4];
	struct wcur c = cursor(RECORD_PREP_BODY(p.ncrc));
	uint8_t *payload = space + record_total(RECORD_PREP_BODY(p.ncrc), 0);
	for (uint32_t i = 0; i < p.ncrc; i++) {
		memset(payload + i * MYFS_BLOCK, (int)i + 1, MYFS_BLOCK);
		crc[i] = crc32c(payload + i * MYFS_BLOCK, MYFS_BLOCK);
	}
	record_put_prep(&c, &p, crc);
	*ret_len = p.ncrc * MYFS_BLOCK;
	return c;
}

static void a_prep_survives_with_every_field(void **state)
{
	(void)state;
	uint32_t len;
	struct wcur c = prep_of(3, BP_DELTA, &len);
	struct record r = parsed(REC_PREP, &c, len);
	assert_memory_equal(r.domain.b, dom.b, 16);
	assert_int_equal(r.prep.tx.epoch, 3);
	assert_int_equal(r.prep.tx.n, 9);
	assert_int_equal(r.prep.view_ver, 12);
	assert_int_equal(r.prep.shard, 5);
	assert_int_equal(r.prep.kind, BP_DELTA);
	assert_int_equal(r.prep.tx_kind, BP_TX_RCW);
	assert_int_equal(r.prep.row, 100);
	assert_int_equal(r.prep.nrows, 3);
	assert_int_equal(r.prep.coef, 7);
	assert_int_equal(r.prep.lba, 55);
	assert_int_equal(r.prep.nblocks, 2);
	assert_int_equal(r.prep.participants, 0x31);
	assert_int_equal(r.prep.missed, 2);
	assert_int_equal(r.payload_len, len);
	assert_int_equal(rec_prep_crc(&r.prep, 2), crc32c(space + r.payload_off + 2 * MYFS_BLOCK, MYFS_BLOCK));
}

static void a_zero_prep_has_no_payload(void **state)
{
	(void)state;
	uint32_t len;
	struct wcur c = prep_of(4096, BP_ZERO, &len);
	struct record r = parsed(REC_PREP, &c, 0);
	assert_int_equal(r.prep.nrows, 4096);
	assert_int_equal(r.prep.ncrc, 0);
}

static void lists_survive_in_order(void **state)
{
	(void)state;
	struct wcur c = cursor(RECORD_LIST_BODY(3));
	record_put_list_head(&c, &dom, 3);
	for (uint64_t i = 1; i <= 3; i++)
		record_put_tx(&c, (struct txid){i, i * 10});
	struct record r = parsed(REC_COMMIT, &c, 0);
	assert_int_equal(r.n_items, 3);
	for (uint64_t i = 1; i <= 3; i++) {
		struct txid t = record_next_tx(&r);
		assert_int_equal(t.epoch, i);
		assert_int_equal(t.n, i * 10);
	}
}

static void views_folds_and_the_small_ones_survive(void **state)
{
	(void)state;
	struct rec_view_head v = {
	    .epoch = 4, .ver = 8, .state = BP_VIEW_READY, .insync = 0x3f, .layout_gen = 2, .nboot = 2, .loss_gen = 7, .clean = true};
	v.boot[1].b[3] = 9;
	struct wcur c = cursor(RECORD_VIEW_BODY(2, 1));
	record_put_view(&c, &dom, &v, 1);
	record_put_missed(&c, &(struct rec_missed){.shard = 6, .brick = 5, .regions = 1ull << 63});
	struct record r = parsed(REC_VIEW, &c, 0);
	assert_int_equal(r.view.ver, 8);
	assert_int_equal(r.view.boot[1].b[3], 9);
	assert_true(record_next_missed(&r).regions == 1ull << 63);
	assert_true(r.view.loss_gen == 7 && r.view.clean);

	c = cursor(RECORD_VIEW_BODY(1, 0) - 12); /* as format 1 wrote it */
	wcur_copy(&c, dom.b, 16);
	wcur_le64(&c, 4);
	wcur_le64(&c, 8);
	for (unsigned i = 0; i < 5; i++)
		wcur_le32(&c, (uint32_t[]){BP_VIEW_READY, 0x3f, 2, 1, 0}[i]);
	record_put_tx(&c, (struct txid){4, 9});
	wcur_copy(&c, v.boot[1].b, 16);
	r = parsed(REC_VIEW_1, &c, 0);
	assert_int_equal(r.type, REC_VIEW);
	assert_int_equal(r.view.floor.n, 9);
	assert_int_equal(r.view.boot[0].b[3], 9);
	assert_true(r.view.loss_gen == 0 && !r.view.clean);

	c = cursor(RECORD_FOLD_BODY(1));
	record_put_fold(&c, &dom, 3, (struct txid){1, 2}, 44, 1);
	record_put_fold_row(
	    &c, &(struct rec_fold_row){.row = 9, .flags = FOLD_REL, .last_lsn = 5, .crc_old = 6, .crc_new = 7});
	r = parsed(REC_FOLD, &c, 0);
	assert_int_equal(r.fold.round, 44);
	assert_int_equal(r.fold.floor.n, 2);
	struct rec_fold_row f = record_next_fold_row(&r);
	assert_int_equal(f.crc_new, 7);

	c = cursor(40);
	record_put_promise(&c, &dom, 17, &dom);
	assert_int_equal(parsed(REC_PROMISE, &c, 0).promise.epoch, 17);
	c = cursor(20);
	record_put_clear(&c, &dom, 3);
	assert_int_equal(parsed(REC_CLEAR, &c, 0).clear.brick, 3);
	c = cursor(32);
	record_put_discard(&c, &dom, (struct txid){5, 6});
	assert_int_equal(parsed(REC_DISCARD, &c, 0).discard.floor.n, 6);
	c = cursor(16);
	record_put_drop(&c, &dom);
	(void)parsed(REC_DROP, &c, 0);
	c = cursor(8);
	record_put_done(&c, 45);
	assert_int_equal(parsed(REC_DONE, &c, 0).done.round, 45);
	c = cursor(28);
	record_put_heal(&c, &dom, 1, 2, 3);
	assert_int_equal(parsed(REC_HEAL, &c, 0).heal.nrows, 3);
}

static void any_flipped_bit_ends_the_log(void **state)
{
	(void)state;
	uint32_t len;
	struct wcur c = prep_of(1, BP_ABS, &len);
	struct record r = parsed(REC_PREP, &c, len);
	uint32_t prev = 77, body_end = RECORD_HEADER_BYTES + (uint32_t)c.used;
	for (uint32_t i = 0; i < r.total; i++) {
		if (i >= body_end && i < r.payload_off)
			continue; /* padding */
		if (i > 256 && i % 13)
			continue;
		size_t need;
		struct record out;
		space[i] ^= 0x10;
		int rc = record_parse(space, SPACE, 4096, &prev, &out, &need);
		if (rc != -EBADMSG && !(rc == -EAGAIN && need > SPACE))
			fail_msg("flip at byte %u: %d", i, rc);
		space[i] ^= 0x10;
	}
}

static void another_position_or_predecessor_is_not_the_record_we_wrote(void **state)
{
	(void)state;
	struct wcur c = cursor(8);
	record_put_done(&c, 1);
	(void)parsed(REC_DONE, &c, 0);
	struct record r;
	size_t need;
	uint32_t other = 78, prev = 77;
	assert_int_equal(record_parse(space, SPACE, 4096, &other, &r, &need), -EBADMSG);
	assert_int_equal(record_parse(space, SPACE, 8192, &prev, &r, &need), -EBADMSG);
	assert_int_equal(record_parse(space, SPACE, 4096, NULL, &r, &need), 0);
}

static void a_record_that_is_not_all_there_asks_for_more(void **state)
{
	(void)state;
	uint32_t len;
	struct wcur c = prep_of(2, BP_ABS, &len);
	struct record r = parsed(REC_PREP, &c, len), out;
	size_t need = 0;
	for (size_t have = 0; have < r.total; have += 41) {
		assert_int_equal(record_parse(space, have, 4096, NULL, &out, &need), -EAGAIN);
		assert_int_equal(need, have < RECORD_HEADER_BYTES ? RECORD_HEADER_BYTES : r.total);
	}
}

/* Bodies that carry a right checksum but say impossible things. */
static void impossible_contents_are_refused_even_when_sealed(void **state)
{
	(void)state;
	struct {
		uint32_t kind, row, nrows, coef, ncrc;
	} bad[] = {
	    {9, 0, 1, 0, 1},      {BP_ABS, 0, 0, 0, 0},  {BP_ABS, RECORD_MAX_ROWS, 1, 0, 1}, {BP_DELTA, 0, 1, 256, 1},
	    {BP_ABS, 0, 2, 0, 1}, {BP_ZERO, 0, 1, 0, 1}, {BP_ABS, 0, 257, 0, 257},
	};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		uint32_t crc[300] = {0};
		struct rec_prep p = {.kind = bad[i].kind,
				     .row = bad[i].row,
				     .nrows = bad[i].nrows,
				     .coef = bad[i].coef,
				     .ncrc = bad[i].ncrc};
		struct wcur c = cursor(RECORD_PREP_BODY(p.ncrc));
		struct record r;
		size_t need;
		record_put_prep(&c, &p, crc);
		record_seal(space, REC_PREP, (uint32_t)c.used, 0, 0, 0, 0);
		assert_int_equal(record_parse(space, SPACE, 0, NULL, &r, &need), -EBADMSG);
	}
	struct wcur c = cursor(20);
	record_put_list_head(&c, &dom, UINT32_MAX); /* more items than bytes */
	record_seal(space, REC_COMMIT, 20, 0, 0, 0, 0);
	struct record r;
	size_t need;
	assert_int_equal(record_parse(space, SPACE, 0, NULL, &r, &need), -EBADMSG);
	c = cursor(RECORD_LIST_BODY(1));
	record_put_list_head(&c, &dom, 1);
	record_put_missed(&c, &(struct rec_missed){.brick = BP_MAX_BRICKS});
	record_seal(space, REC_MISS, (uint32_t)c.used, 0, 0, 0, 0);
	assert_int_equal(record_parse(space, SPACE, 0, NULL, &r, &need), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_prep_survives_with_every_field),
	    cmocka_unit_test(a_zero_prep_has_no_payload),
	    cmocka_unit_test(lists_survive_in_order),
	    cmocka_unit_test(views_folds_and_the_small_ones_survive),
	    cmocka_unit_test(any_flipped_bit_ends_the_log),
	    cmocka_unit_test(another_position_or_predecessor_is_not_the_record_we_wrote),
	    cmocka_unit_test(a_record_that_is_not_all_there_asks_for_more),
	    cmocka_unit_test(impossible_contents_are_refused_even_when_sealed),
	};
	return cmocka_run_group_tests_name("brick record", tests, NULL, NULL);
}
