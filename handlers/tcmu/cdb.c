/* cdb.c - see cdb.h. A row per command: where its fields are; what no row says, tcmu-runner decides. */
#include "handlers/tcmu/cdb.h"

#include "core/base/bytes.h"

/* Bits of byte 1 that we know. The protection bits are not among them: no protection information is kept. */
#define DPO    0x10u /* a hint about caches */
#define FUA    0x08u
#define FUA_NV 0x02u
#define BYTCHK 0x06u
#define IMMED  0x02u
#define UNMAP  0x08u
#define NDOB   0x01u /* WRITE SAME (16) */

struct rule {
	enum cdb_action action;
	uint8_t size;    /* of the CDB; tells where LBA and length are */
	uint8_t allowed; /* bits of byte 1 */
	bool data;       /* as many blocks of data go with it */
};

static const struct rule rules[256] = {
    [SCSI_INQUIRY] = {CDB_PAGE, 6, 0x01, false},
    [SCSI_MODE_SENSE_6] = {CDB_PAGE, 6, 0x08, false},
    [SCSI_MODE_SENSE_10] = {CDB_PAGE, 10, 0x18, false},
    [SCSI_SERVICE_ACTION_IN_16] = {CDB_PAGE, 16, 0x1f, false},
    [SCSI_MAINTENANCE_IN] = {CDB_PAGE, 12, 0xff, false},
    [SCSI_READ_6] = {CDB_READ, 6, 0x1f, true},
    [SCSI_READ_10] = {CDB_READ, 10, DPO | FUA | FUA_NV, true},
    [SCSI_READ_12] = {CDB_READ, 12, DPO | FUA | FUA_NV, true},
    [SCSI_READ_16] = {CDB_READ, 16, DPO | FUA | FUA_NV, true},
    [SCSI_WRITE_6] = {CDB_WRITE, 6, 0x1f, true},
    [SCSI_WRITE_10] = {CDB_WRITE, 10, DPO | FUA | FUA_NV, true},
    [SCSI_WRITE_12] = {CDB_WRITE, 12, DPO | FUA | FUA_NV, true},
    [SCSI_WRITE_16] = {CDB_WRITE, 16, DPO | FUA | FUA_NV, true},
    [SCSI_WRITE_VERIFY_10] = {CDB_WRITE_VERIFY, 10, DPO | BYTCHK, true},
    [SCSI_WRITE_VERIFY_12] = {CDB_WRITE_VERIFY, 12, DPO | BYTCHK, true},
    [SCSI_WRITE_VERIFY_16] = {CDB_WRITE_VERIFY, 16, DPO | BYTCHK, true},
    [SCSI_VERIFY_10] = {CDB_VERIFY, 10, DPO | BYTCHK, true},
    [SCSI_VERIFY_12] = {CDB_VERIFY, 12, DPO | BYTCHK, true},
    [SCSI_VERIFY_16] = {CDB_VERIFY, 16, DPO | BYTCHK, true},
    [SCSI_PREFETCH_10] = {CDB_PREFETCH, 10, IMMED, false},
    [SCSI_PREFETCH_16] = {CDB_PREFETCH, 16, IMMED, false},
    [SCSI_SYNCHRONIZE_CACHE_10] = {CDB_FLUSH, 10, IMMED | 0x04, false},
    [SCSI_SYNCHRONIZE_CACHE_16] = {CDB_FLUSH, 16, IMMED | 0x04, false},
    [SCSI_WRITE_SAME_10] = {CDB_WRITE_SAME, 10, UNMAP, false},
    [SCSI_WRITE_SAME_16] = {CDB_WRITE_SAME, 16, UNMAP | NDOB, false},
    [SCSI_UNMAP] = {CDB_UNMAP, 10, 0, false},
    [SCSI_COMPARE_AND_WRITE] = {CDB_COMPARE_AND_WRITE, 16, DPO | FUA | FUA_NV, false},
};

static void place(const uint8_t *cdb, uint8_t size, uint64_t *ret_lba, uint32_t *ret_blocks)
{
	struct rcur c = rcur_of(cdb + 2, size - 2u);

	switch (size) {
	case 6:
		*ret_lba = (uint64_t)(cdb[1] & 0x1f) << 16 | (uint64_t)cdb[2] << 8 | cdb[3];
		*ret_blocks = cdb[4] ? cdb[4] : 256;
		break;
	case 10:
		*ret_lba = rcur_be32(&c);
		rcur_u8(&c);
		*ret_blocks = rcur_be16(&c);
		break;
	case 12:
		*ret_lba = rcur_be32(&c);
		*ret_blocks = rcur_be32(&c);
		break;
	default:
		*ret_lba = rcur_be64(&c);
		*ret_blocks = rcur_be32(&c);
		break;
	}
	assert(!c.bad);
}

/* Where place() found the number of blocks. */
static unsigned length_byte(uint8_t size)
{
	return size == 6 ? 4 : size == 10 ? 7 : size == 12 ? 6 : 10;
}

static uint32_t check_verify(const uint8_t *cdb, struct cdb *c)
{
	unsigned bytchk = (cdb[1] & BYTCHK) >> 1;

	if (bytchk > 1) /* 11b, one block against all, belongs to later standards */
		return SENSE_CDB_BYTE(1);
	c->compare = bytchk == 1;
	if (c->action == CDB_VERIFY && !c->compare)
		c->data_len = 0;
	c->fua = c->action == CDB_WRITE_VERIFY; /* "written to the medium", then verified there */
	return SENSE_NONE;
}

static uint32_t check_write_same(const uint8_t *cdb, const struct cdb_limits *l, struct cdb *c)
{
	/* "WSNZ" of the Block Limits page: no blocks does not mean all the rest. */
	if (c->len == 0 || c->len > WRITE_SAME_BYTES_MAX)
		return SENSE_CDB_BYTE(length_byte(cdb[0] == SCSI_WRITE_SAME_10 ? 10 : 16));
	c->no_data = cdb[0] == SCSI_WRITE_SAME_16 && (cdb[1] & NDOB);
	c->data_len = c->no_data ? 0 : l->block_bytes;
	return SENSE_NONE;
}

static uint32_t check_rest(const uint8_t *cdb, const struct cdb_limits *l, uint32_t blocks, struct cdb *c)
{
	switch (c->action) {
	case CDB_READ:
	case CDB_WRITE:
		c->fua = c->action == CDB_WRITE && cdb[0] != SCSI_WRITE_6 && (cdb[1] & FUA);
		break;
	case CDB_VERIFY:
	case CDB_WRITE_VERIFY:
		return check_verify(cdb, c);
	case CDB_WRITE_SAME:
		return check_write_same(cdb, l, c);
	case CDB_COMPARE_AND_WRITE:
		if (blocks > l->compare_blocks)
			return SENSE_CDB_BYTE(13);
		c->data_len = 2 * c->len;
		c->fua = cdb[1] & FUA;
		break;
	default:
		break;
	}
	return SENSE_NONE;
}

/* Commands with a range of blocks. */
static uint32_t parse_ranged(const uint8_t *cdb, const struct rule *r, const struct cdb_limits *l, struct cdb *c)
{
	uint64_t lba;
	uint32_t blocks, sense;

	place(cdb, r->size, &lba, &blocks);
	if (c->action == CDB_COMPARE_AND_WRITE)
		blocks = cdb[13];
	c->off = lba * l->block_bytes;
	c->len = (uint64_t)blocks * l->block_bytes;
	c->data_len = r->data ? c->len : 0;
	sense = check_rest(cdb, l, blocks, c);
	if (sense == SENSE_NONE && !range_inside(lba, blocks, l->blocks))
		sense = SENSE_LBA_OUT_OF_RANGE;
	if (sense == SENSE_NONE && r->data && c->data_len > (uint64_t)l->max_blocks * l->block_bytes)
		sense = SENSE_CDB_BYTE(length_byte(r->size));
	return sense;
}

static uint32_t parse_lba_status(const uint8_t *cdb, const struct cdb_limits *l, struct cdb *c)
{
	uint64_t lba;
	uint32_t allocated;

	place(cdb, 16, &lba, &allocated);
	if (lba >= l->blocks)
		return SENSE_LBA_OUT_OF_RANGE;
	c->action = CDB_LBA_STATUS;
	c->off = lba * l->block_bytes;
	c->len = min_u64((l->blocks - lba) * l->block_bytes, LBA_STATUS_BYTES_MAX);
	c->data_len = allocated;
	if (allocated == 0) /* nothing is asked for */
		c->len = 0;
	return SENSE_NONE;
}

uint32_t cdb_parse(const uint8_t *cdb, const struct cdb_limits *l, struct cdb *ret)
{
	const struct rule *r = &rules[cdb[0]];
	struct cdb c = {.action = r->action};
	uint32_t sense = SENSE_NONE;

	if (cdb[0] == SCSI_SERVICE_ACTION_IN_16 && (cdb[1] & 0x1f) == SCSI_SA_GET_LBA_STATUS) {
		sense = parse_lba_status(cdb, l, &c);
		if (sense == SENSE_NONE)
			*ret = c;
		return sense;
	}
	if (r->action == CDB_RUNNER || r->action == CDB_PAGE) {
		*ret = c;
		return SENSE_NONE;
	}
	if (cdb[1] & ~r->allowed)
		return SENSE_CDB_BYTE(1);
	if (r->action == CDB_UNMAP)
		c.data_len = (uint64_t)cdb[7] << 8 | cdb[8];
	else
		sense = parse_ranged(cdb, r, l, &c);
	if (sense == SENSE_NONE)
		*ret = c;
	return sense;
}

uint32_t unmap_list_parse(const uint8_t *list, size_t len, const struct cdb_limits *l, struct unmap_range *ret,
			  unsigned *ret_n)
{
	struct rcur c = rcur_of(list, len);
	size_t described;
	unsigned n = 0;

	*ret_n = 0;
	if (len == 0)
		return SENSE_NONE;
	if (len < 8)
		return SENSE_PARAMETER_LIST_LENGTH;
	rcur_be16(&c);
	described = rcur_be16(&c);
	rcur_be32(&c);
	/* "If the list is truncated, descriptors that are not whole are ignored." */
	described = min_u64(described, c.left) / 16;
	if (described > UNMAP_RANGES_MAX)
		return SENSE_INVALID_FIELD_IN_LIST;
	for (size_t i = 0; i < described; i++) {
		uint64_t lba = rcur_be64(&c);
		uint32_t blocks = rcur_be32(&c);

		rcur_be32(&c);
		if (blocks > UNMAP_BLOCKS_MAX)
			return SENSE_INVALID_FIELD_IN_LIST;
		if (!range_inside(lba, blocks, l->blocks))
			return SENSE_LBA_OUT_OF_RANGE;
		if (blocks)
			ret[n++] = (struct unmap_range){lba * l->block_bytes, (uint64_t)blocks * l->block_bytes};
	}
	*ret_n = n;
	return SENSE_NONE;
}
