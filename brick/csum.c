/* csum.c - see csum.h. */
#include "brick/csum.h"

#include <endian.h>

#include "core/base/crc32c.h"

#define FLAG_PRESENT 1u
#define FLAG_BAD     2u

struct entry {
	uint32_t crc, flags; /* little endian */
};
_Static_assert(sizeof(struct entry) == CSUM_ENTRY_BYTES, "entries lie in memory as in the file");

int csum_init(struct csum *c, uint32_t rows)
{
	uint32_t pages = (uint32_t)div_up_u64(rows, CSUM_PAGE_ROWS);

	assert(pages <= CSUM_PAGES_MAX);
	c->v = aligned_alloc(MYFS_BLOCK, (size_t)pages * MYFS_BLOCK);
	if (!c->v)
		return -ENOMEM;
	c->rows = rows;
	c->pages = pages;
	c->dirty = 0;
	return 0;
}

void csum_release(struct csum *c)
{
	free(c->v);
	c->v = NULL;
}

static struct entry load(const struct csum *c, uint32_t row)
{
	struct entry e;

	assert(row < c->rows);
	memcpy(&e, c->v + (size_t)row * CSUM_ENTRY_BYTES, sizeof(e));
	return (struct entry){.crc = le32toh(e.crc), .flags = le32toh(e.flags)};
}

static void store_entry(struct csum *c, uint32_t row, uint32_t crc, uint32_t flags)
{
	struct entry e = {.crc = htole32(crc), .flags = htole32(flags)};

	assert(row < c->rows);
	memcpy(c->v + (size_t)row * CSUM_ENTRY_BYTES, &e, sizeof(e));
}

static void touch(struct csum *c, uint32_t row)
{
	c->dirty |= UINT64_C(1) << (row / CSUM_PAGE_ROWS);
}

void csum_clear(struct csum *c)
{
	memset(c->v, 0, (size_t)c->pages * MYFS_BLOCK);
	c->dirty = c->pages == CSUM_PAGES_MAX ? UINT64_MAX : (UINT64_C(1) << c->pages) - 1;
}

int csum_load(struct csum *c, struct file *f)
{
	size_t all = (size_t)c->pages * MYFS_BLOCK;
	ssize_t n = file_pread(f, c->v, all, 0);

	if (n < 0)
		return (int)n;
	memset(c->v + n, 0, all - (size_t)n); /* what lies past the end of the file: holes */
	return 0;
}

int csum_save(struct csum *c, struct file *f)
{
	uint64_t todo = c->dirty;
	int rc = 0;

	c->dirty = 0; /* what changes while we write is dirty again */
	for (uint32_t page = 0; page < c->pages && !rc; page++) {
		uint32_t end = page;
		while (end < c->pages && (todo >> end & 1))
			end++;
		if (end == page)
			continue;
		rc = file_pwrite(f, c->v + (size_t)page * MYFS_BLOCK, (size_t)(end - page) * MYFS_BLOCK,
				 (uint64_t)page * MYFS_BLOCK);
		page = end;
	}
	if (rc)
		c->dirty |= todo;
	return rc;
}

uint32_t csum_get(const struct csum *c, uint32_t row, bool *ret_hole, bool *ret_bad)
{
	struct entry e = load(c, row);
	bool hole = !(e.flags & FLAG_PRESENT);

	if (ret_hole)
		*ret_hole = hole;
	if (ret_bad)
		*ret_bad = (e.flags & FLAG_BAD) != 0;
	return hole ? CRC32C_ZERO_BLOCK : e.crc;
}

void csum_set(struct csum *c, uint32_t row, uint32_t crc)
{
	store_entry(c, row, crc, FLAG_PRESENT);
	touch(c, row);
}

void csum_set_hole(struct csum *c, uint32_t row)
{
	store_entry(c, row, 0, 0);
	touch(c, row);
}

void csum_set_bad(struct csum *c, uint32_t row)
{
	store_entry(c, row, csum_get(c, row, NULL, NULL), FLAG_PRESENT | FLAG_BAD);
	touch(c, row);
}

void csum_assume_zeros(struct csum *c, uint32_t row, uint32_t nrows)
{
	for (uint32_t end = row + nrows; row < end; row++) {
		if (load(c, row).flags == 0)
			store_entry(c, row, CRC32C_ZERO_BLOCK, FLAG_PRESENT);
	}
}

uint32_t csum_next_data(const struct csum *c, uint32_t from, uint32_t end)
{
	while (from < end && !(load(c, from).flags & FLAG_PRESENT))
		from++;
	return from;
}
