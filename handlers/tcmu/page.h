/* page.h - answers that describe the device: INQUIRY, READ CAPACITY (16), MODE SENSE, REPORT SUPPORTED OPERATION CODES.
 *
 * tcmu-runner answers these too, but does not say what this device can do (FUA, physical blocks, compare and write of
 * many blocks, unmap lists), answers the last not at all, and leaves what the buffer held before behind short answers.
 * Pure. */
#ifndef MYFS_TCMU_PAGE_H
#define MYFS_TCMU_PAGE_H

#include "handlers/tcmu/cdb.h"
#include "handlers/tcmu/link.h"

#define PAGE_ANSWER_MAX 2048u

struct page_device {
	struct cdb_limits limits;
	char name[128];   /* the LUN's, "vol/lun" */
	char serial[248]; /* the target's name for the unit; "" unknown: the runner answers Device Identification */
	bool alua; /* ports have access states: the runner answers the standard INQUIRY and Device Identification */
};

/* What to answer to a CDB of CDB_PAGE: *ret_len bytes, already cut to what was asked for. *ret_runner: leave it to the
 * runner. 0 or the sense that refuses it. */
uint32_t page_answer(const uint8_t *cdb, const struct page_device *d, uint8_t ret[PAGE_ANSWER_MAX], size_t *ret_len,
		     bool *ret_runner);

/* GET LBA STATUS: the extents from c->off on, as descriptors of whole blocks; a block is deallocated when all of it is
 * a hole. As many as the allocation length has room for, one at least. */
#define PAGE_LBA_STATUS_MAX (8u + 16u * LINK_EXTENTS_MAX)
unsigned page_lba_status_limit(const struct cdb *c); /* how many descriptors, 1 to LINK_EXTENTS_MAX */
size_t page_lba_status(const struct cdb *c, uint32_t block_bytes, const struct link_extents *x,
		       uint8_t ret[PAGE_LBA_STATUS_MAX]);

/* Longest transfer that is told. Longer ones are accepted, up to cdb_limits. */
#define PAGE_TRANSFER_MAX MIB(8)
/* Optimal granularity of UNMAP. Space is freed stripe by stripe; 64 KiB is one of the usual 4+2. */
#define PAGE_UNMAP_GRANULARITY KIB(64)

#endif
