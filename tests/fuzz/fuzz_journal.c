/* fuzz_journal.c - the journal scan over any bytes a disk may return: records are parsed one after the other as
 * recovery does, and every list in them is walked to its end.
 *
 * Input: | mode | bytes of a ring ... |. mode bit 0: header checksums are put right first, so that mutations get past
 * them. */
#include <stdint.h>
#include <stdlib.h>

#include "brick/record.h"
#include "core/base/crc32c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t le32(const uint8_t *p)
{
	struct rcur c = rcur_of(p, 4);
	return rcur_le32(&c);
}

/* Gives the bytes at p a right header checksum, when they could be a record at all. */
static void seal(uint8_t *p, size_t avail)
{
	if (avail < RECORD_HEADER_BYTES)
		return;
	uint32_t body_len = le32(p + 8);
	if (body_len > avail - RECORD_HEADER_BYTES)
		return;
	memset(p + 28, 0, 4);
	struct wcur at = wcur_of(p + 28, 4);
	wcur_le32(&at, crc32c(p, RECORD_HEADER_BYTES + body_len));
}

static void walk(struct record *r)
{
	for (uint32_t i = 0; i < r->n_items; i++) {
		if (r->type == REC_FOLD)
			assert(record_next_fold_row(r).row < RECORD_MAX_ROWS);
		else if (r->type == REC_VIEW || r->type == REC_MISS)
			assert(record_next_missed(r).brick < BP_MAX_BRICKS);
		else
			(void)record_next_tx(r);
	}
	assert(r->items.left == 0 || r->n_items == 0 || r->items.p != NULL);
	if (r->type == REC_PREP)
		for (uint32_t i = 0; i < r->prep.ncrc; i++)
			(void)rec_prep_crc(&r->prep, i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1 + RECORD_HEADER_BYTES)
		return 0;
	bool fix = data[0] & 1;
	size_t len = size - 1;
	uint8_t *p = malloc(len); /* its own allocation: an access past the end is seen */
	if (!p)
		return 0;
	memcpy(p, data + 1, len);
	uint32_t prev = 0;
	bool have_prev = false;
	struct rcur lsn_at = rcur_of(p + 16, 8);
	uint64_t lsn = rcur_le64(&lsn_at);
	for (size_t at = 0; at < len;) {
		struct record r;
		size_t need = 0;
		if (fix)
			seal(p + at, len - at);
		int rc = record_parse(p + at, len - at, lsn + at, have_prev ? &prev : NULL, &r, &need);
		if (rc == -EAGAIN)
			assert(need > len - at);
		if (rc < 0)
			break;
		walk(&r);
		prev = r.crc;
		have_prev = true;
		assert(r.total >= RECORD_HEADER_BYTES && r.total % RECORD_ALIGN == 0);
		at += r.total;
	}
	free(p);
	return 0;
}
