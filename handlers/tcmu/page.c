/* page.c - see page.h. Numbers in comments are byte positions of SPC-4 and SBC-3. */
#include "handlers/tcmu/page.h"

#include "core/base/bytes.h"

#define OPTIMAL_TRANSFER MIB(1)
#define PHYSICAL_BLOCK   MYFS_BLOCK
#define VENDOR           "MYFS    "

/* ---- INQUIRY ---- */

static void standard_inquiry(const struct page_device *d, struct wcur *w)
{
	static const uint16_t versions[] = {0x00a0, 0x0460, 0x04c0, 0x0960}; /* SAM-5, SPC-4, SBC-3, iSCSI */
	uint8_t product[16];
	size_t len = strnlen(d->name, sizeof(product));

	memset(product, ' ', sizeof(product));
	memcpy(product, d->name, len);
	wcur_u8(w, 0);    /* disk */
	wcur_u8(w, 0);    /* not removable */
	wcur_u8(w, 0x06); /* SPC-4 */
	wcur_u8(w, 0x02); /* response data format */
	wcur_u8(w, 74 - 5);
	wcur_u8(w, 0x08); /* 3PC: the runner copies within the LUN */
	wcur_u8(w, 0);
	wcur_u8(w, 0x02); /* CMDQUE */
	wcur_copy(w, VENDOR, 8);
	wcur_copy(w, product, sizeof(product));
	wcur_copy(w, "0001", 4);
	wcur_zeros(w, 58 - 36);
	for (size_t i = 0; i < ARRAY_LEN(versions); i++)
		wcur_be16(w, versions[i]);
	wcur_zeros(w, 74 - 66);
}

static void page_head(struct wcur *w, uint8_t page, uint16_t len)
{
	wcur_u8(w, 0);
	wcur_u8(w, page);
	wcur_be16(w, len);
}

static void block_limits(const struct page_device *d, struct wcur *w)
{
	const struct cdb_limits *l = &d->limits;
	uint32_t most = (uint32_t)min_u64(PAGE_TRANSFER_MAX / l->block_bytes, l->max_blocks);
	uint32_t optimal = (uint32_t)min_u64(OPTIMAL_TRANSFER / l->block_bytes, most);

	page_head(w, 0xb0, 0x3c);
	wcur_u8(w, 0x01); /* 4: WSNZ */
	wcur_u8(w, (uint8_t)l->compare_blocks);
	wcur_be16(w, (uint16_t)(PHYSICAL_BLOCK / l->block_bytes)); /* 6: optimal transfer length granularity */
	wcur_be32(w, most);
	wcur_be32(w, optimal);
	wcur_be32(w, 0); /* 16: maximum prefetch length: no limit */
	wcur_be32(w, UNMAP_BLOCKS_MAX);
	wcur_be32(w, UNMAP_RANGES_MAX);
	wcur_be32(w, (uint32_t)(PAGE_UNMAP_GRANULARITY / l->block_bytes));
	wcur_be32(w, 0x80000000u); /* 32: the granularity is aligned to 0 */
	wcur_be64(w, WRITE_SAME_BYTES_MAX / l->block_bytes);
	wcur_zeros(w, 64 - 44);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* The name LIO and the runner give a unit with this serial: NAA 6, OUI 001405, then 25 of its hexadecimal digits. The
 * runner knows its devices by it in EXTENDED COPY. */
static void naa_name(const char *serial, uint8_t ret[16])
{
	unsigned nibble = 7;
	int digit;

	memset(ret, 0, 16);
	memcpy(ret, (uint8_t[4]){0x60, 0x01, 0x40, 0x50}, 4);
	for (; *serial && nibble < 32; serial++) {
		digit = hex_digit(*serial);
		if (digit < 0)
			continue;
		ret[nibble / 2] |= (uint8_t)(nibble % 2 ? digit : digit << 4);
		nibble++;
	}
}

static void designator_head(struct wcur *w, uint8_t code_set, uint8_t type, size_t len)
{
	wcur_u8(w, code_set);
	wcur_u8(w, type); /* and association 0: the logical unit */
	wcur_u8(w, 0);
	wcur_u8(w, (uint8_t)len);
}

/* The NAA name first: who copies takes the first one. The runner's own page also tells the configuration, with the path
 * of the gateway's socket; initiators get the LUN's name instead. */
static void device_identification(const struct page_device *d, struct wcur *w)
{
	size_t serial = strnlen(d->serial, sizeof(d->serial) - 1), name = strnlen(d->name, sizeof(d->name) - 1);
	uint8_t naa[16];

	naa_name(d->serial, naa);
	page_head(w, 0x83, (uint16_t)(4 + sizeof(naa) + 4 + 8 + serial + 4 + name));
	designator_head(w, 1, 3, sizeof(naa)); /* binary, NAA */
	wcur_copy(w, naa, sizeof(naa));
	designator_head(w, 2, 1, 8 + serial); /* ASCII, T10 vendor */
	wcur_copy(w, VENDOR, 8);
	wcur_copy(w, d->serial, serial);
	designator_head(w, 2, 0, name); /* ASCII, vendor specific */
	wcur_copy(w, d->name, name);
}

static uint32_t vital_page(uint8_t code, const struct page_device *d, struct wcur *w, bool *ret_runner)
{
	static const uint8_t supported[] = {0x00, 0x80, 0x83, 0xb0, 0xb1, 0xb2};

	switch (code) {
	case 0x00:
		page_head(w, 0x00, sizeof(supported));
		wcur_copy(w, supported, sizeof(supported));
		return SENSE_NONE;
	case 0x83:
		if (d->serial[0] && !d->alua) {
			device_identification(d, w);
			return SENSE_NONE;
		}
		*ret_runner = true; /* with the ports and their groups */
		return SENSE_NONE;
	case 0x80: /* serial number: from the target's configuration */
		*ret_runner = true;
		return SENSE_NONE;
	case 0xb0:
		block_limits(d, w);
		return SENSE_NONE;
	case 0xb1: /* block device characteristics */
		page_head(w, 0xb1, 0x3c);
		wcur_be16(w, 1); /* not rotating */
		wcur_zeros(w, 64 - 6);
		return SENSE_NONE;
	case 0xb2: /* logical block provisioning */
		page_head(w, 0xb2, 4);
		wcur_u8(w, 0);
		wcur_u8(w, 0xe4); /* LBPU, LBPWS, LBPWS10; LBPRZ: unmapped blocks read as zeros */
		wcur_u8(w, 0x02); /* thin */
		wcur_u8(w, 0);
		return SENSE_NONE;
	default:
		return SENSE_CDB_BYTE(2);
	}
}

static uint32_t inquiry(const uint8_t *cdb, const struct page_device *d, struct wcur *w, bool *ret_runner)
{
	if (cdb[1] & ~0x01u)
		return SENSE_CDB_BYTE(1);
	if (cdb[1] & 0x01)
		return vital_page(cdb[2], d, w, ret_runner);
	if (cdb[2])
		return SENSE_CDB_BYTE(2);
	if (d->alua)
		*ret_runner = true;
	else
		standard_inquiry(d, w);
	return SENSE_NONE;
}

/* ---- READ CAPACITY (16) ---- */

static void read_capacity_16(const struct page_device *d, struct wcur *w)
{
	uint32_t per_physical = PHYSICAL_BLOCK / d->limits.block_bytes;
	uint8_t exponent = (uint8_t)(per_physical > 1 ? __builtin_ctz(per_physical) : 0);

	wcur_be64(w, d->limits.blocks - 1);
	wcur_be32(w, d->limits.block_bytes);
	wcur_u8(w, 0);        /* no protection information */
	wcur_u8(w, exponent); /* 13: logical blocks per physical block */
	wcur_be16(w, 0xc000); /* 14: LBPME, LBPRZ; block 0 is aligned */
	wcur_zeros(w, 32 - 16);
}

/* ---- MODE SENSE ---- */

enum mode_values { MODE_CURRENT, MODE_CHANGEABLE, MODE_DEFAULT, MODE_SAVED };

/* Whole pages with code and length. The runner's MODE SELECT accepts exactly these. */
static const uint8_t mode_recovery[12] = {0x01, 0x0a};
static const uint8_t mode_caching[20] = {0x08, 0x12, 0x04}; /* WCE: writes are durable after a flush, or with FUA */
static const uint8_t mode_control[12] = {0x0a, 0x0a, 0x02, 0,    0,
					 0x40, 0,    0,    0xff, 0xff}; /* GLTSD, TAS, busy for long */

static const struct {
	const uint8_t *bytes;
	size_t len;
} mode_pages[] = {
    {mode_recovery, sizeof(mode_recovery)},
    {mode_caching, sizeof(mode_caching)},
    {mode_control, sizeof(mode_control)},
};

static uint32_t mode_sense(const uint8_t *cdb, struct wcur *w)
{
	bool ten = cdb[0] == SCSI_MODE_SENSE_10;
	unsigned page = cdb[2] & 0x3f, subpage = cdb[3], values = cdb[2] >> 6, found = 0;
	size_t head = ten ? 8 : 4;

	if (values == MODE_SAVED)
		return SENSE_SAVING_NOT_SUPPORTED;
	wcur_zeros(w, head);
	for (size_t i = 0; i < ARRAY_LEN(mode_pages); i++) {
		const uint8_t *p = mode_pages[i].bytes;
		bool all = page == 0x3f && (subpage == 0 || subpage == 0xff);

		if (!all && (page != p[0] || (subpage != 0 && subpage != 0xff)))
			continue;
		found++;
		if (values == MODE_CHANGEABLE) {
			wcur_copy(w, p, 2);
			wcur_zeros(w, mode_pages[i].len - 2);
		} else {
			wcur_copy(w, p, mode_pages[i].len);
		}
	}
	if (!found)
		return SENSE_CDB_BYTE(2);
	uint8_t *start = w->p - w->used; /* the header, now that the length is known */
	start[ten ? 1 : 0] = (uint8_t)(w->used - (ten ? 2 : 1));
	start[ten ? 3 : 2] = 0x10; /* DPOFUA */
	return SENSE_NONE;
}

/* ---- REPORT SUPPORTED OPERATION CODES ---- */

struct command {
	uint8_t opcode;
	bool has_action;
	uint16_t action;
	uint8_t usage[16]; /* bits that are looked at, opcode first; its length is that of the CDB */
	uint8_t len;
};

#define U32 0xff, 0xff, 0xff, 0xff
#define U64 U32, U32
#define C6(op, ...)                                                                                                    \
	{                                                                                                              \
		op, false, 0, {op, __VA_ARGS__}, 6                                                                     \
	}
#define C10(op, ...)                                                                                                   \
	{                                                                                                              \
		op, false, 0, {op, __VA_ARGS__}, 10                                                                    \
	}
#define C12(op, ...)                                                                                                   \
	{                                                                                                              \
		op, false, 0, {op, __VA_ARGS__}, 12                                                                    \
	}
#define C16(op, ...)                                                                                                   \
	{                                                                                                              \
		op, false, 0, {op, __VA_ARGS__}, 16                                                                    \
	}
#define SA(op, sa, n, ...)                                                                                             \
	{                                                                                                              \
		op, true, sa, {op, __VA_ARGS__}, n                                                                     \
	}

static const struct command commands[] = {
    C6(SCSI_TEST_UNIT_READY),
    C6(SCSI_READ_6, 0x1f, 0xff, 0xff, 0xff),
    C6(SCSI_WRITE_6, 0x1f, 0xff, 0xff, 0xff),
    C6(SCSI_INQUIRY, 0x01, 0xff, 0xff, 0xff),
    C6(SCSI_MODE_SELECT_6, 0x11, 0, 0, 0xff),
    C6(SCSI_MODE_SENSE_6, 0x08, 0xff, 0xff, 0xff),
    C6(SCSI_START_STOP, 0x01, 0, 0x0f, 0xf7),
    C10(SCSI_READ_CAPACITY_10, 0, U32, 0, 0, 0x01),
    C10(SCSI_READ_10, 0x1a, U32, 0, 0xff, 0xff),
    C10(SCSI_WRITE_10, 0x1a, U32, 0, 0xff, 0xff),
    C10(SCSI_WRITE_VERIFY_10, 0x16, U32, 0, 0xff, 0xff),
    C10(SCSI_VERIFY_10, 0x16, U32, 0, 0xff, 0xff),
    C10(SCSI_PREFETCH_10, 0x02, U32, 0, 0xff, 0xff),
    C10(SCSI_SYNCHRONIZE_CACHE_10, 0x06, U32, 0, 0xff, 0xff),
    C10(SCSI_WRITE_SAME_10, 0x08, U32, 0, 0xff, 0xff),
    C10(SCSI_UNMAP, 0, 0, 0, 0, 0, 0, 0xff, 0xff),
    C10(SCSI_MODE_SELECT_10, 0x11, 0, 0, 0, 0, 0, 0xff, 0xff),
    C10(SCSI_MODE_SENSE_10, 0x18, 0xff, 0xff, 0, 0, 0, 0xff, 0xff),
    SA(SCSI_PERSISTENT_RESERVE_IN, 0, 10, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff),
    SA(SCSI_PERSISTENT_RESERVE_IN, 1, 10, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff),
    SA(SCSI_PERSISTENT_RESERVE_IN, 2, 10, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff),
    SA(SCSI_PERSISTENT_RESERVE_IN, 3, 10, 0x1f, 0, 0, 0, 0, 0, 0xff, 0xff),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 0, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 1, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 2, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 3, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 4, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 5, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 6, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_PERSISTENT_RESERVE_OUT, 7, 10, 0x1f, 0xff, 0, 0, U32),
    SA(SCSI_EXTENDED_COPY, 0, 16, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, U32),
    SA(SCSI_RECEIVE_COPY_RESULTS, 3, 16, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, U32),
    C16(SCSI_READ_16, 0x1a, U64, U32),
    C16(SCSI_COMPARE_AND_WRITE, 0x1a, U64, 0, 0, 0, 0xff),
    C16(SCSI_WRITE_16, 0x1a, U64, U32),
    C16(SCSI_WRITE_VERIFY_16, 0x16, U64, U32),
    C16(SCSI_VERIFY_16, 0x16, U64, U32),
    C16(SCSI_PREFETCH_16, 0x02, U64, U32),
    C16(SCSI_SYNCHRONIZE_CACHE_16, 0x06, U64, U32),
    C16(SCSI_WRITE_SAME_16, 0x09, U64, U32),
    SA(SCSI_SERVICE_ACTION_IN_16, SCSI_SA_READ_CAPACITY_16, 16, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, U32),
    SA(SCSI_SERVICE_ACTION_IN_16, SCSI_SA_GET_LBA_STATUS, 16, 0x1f, U64, U32),
    C12(SCSI_REPORT_LUNS, 0, 0xff, 0, 0, 0, U32),
    SA(SCSI_MAINTENANCE_IN, 0x0a, 12, 0xff, 0, 0, 0, 0, U32),
    SA(SCSI_MAINTENANCE_IN, SCSI_SA_REPORT_OPCODES, 12, 0x1f, 0x87, 0xff, 0xff, 0xff, U32),
    C12(SCSI_READ_12, 0x1a, U32, U32),
    C12(SCSI_WRITE_12, 0x1a, U32, U32),
    C12(SCSI_WRITE_VERIFY_12, 0x16, U32, U32),
    C12(SCSI_VERIFY_12, 0x16, U32, U32),
};

static void timeouts(struct wcur *w)
{
	wcur_be16(w, 10);
	wcur_zeros(w, 10); /* no typical, no recommended time */
}

static void all_commands(bool with_timeouts, struct wcur *w)
{
	wcur_be32(w, (uint32_t)(ARRAY_LEN(commands) * (with_timeouts ? 20 : 8)));
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		wcur_u8(w, commands[i].opcode);
		wcur_u8(w, 0);
		wcur_be16(w, commands[i].action);
		wcur_u8(w, 0);
		wcur_u8(w, (uint8_t)((with_timeouts ? 0x02 : 0) | (commands[i].has_action ? 0x01 : 0)));
		wcur_be16(w, commands[i].len);
		if (with_timeouts)
			timeouts(w);
	}
}

static void one_command(const struct command *c, bool with_timeouts, struct wcur *w)
{
	wcur_u8(w, 0);
	wcur_u8(w, (uint8_t)(c ? 0x03 | (with_timeouts ? 0x80 : 0) : 0x01)); /* as in the standard, or not supported */
	wcur_be16(w, c ? c->len : 0);
	if (!c)
		return;
	wcur_u8(w, c->opcode);
	if (c->has_action) {
		wcur_u8(w, (uint8_t)(c->usage[1] & 0xe0) | (uint8_t)c->action); /* the action itself, not a mask */
		wcur_copy(w, c->usage + 2, c->len - 2u);
	} else {
		wcur_copy(w, c->usage + 1, c->len - 1u);
	}
	if (with_timeouts)
		timeouts(w);
}

static const struct command *find_command(uint8_t opcode, bool with_action, uint16_t action, bool *ret_other_kind)
{
	*ret_other_kind = false;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (commands[i].opcode != opcode)
			continue;
		if (commands[i].has_action != with_action)
			*ret_other_kind = true;
		else if (!with_action || commands[i].action == action)
			return &commands[i];
	}
	return NULL;
}

static uint32_t report_opcodes(const uint8_t *cdb, struct wcur *w)
{
	bool with_timeouts = cdb[2] & 0x80, other_kind = false;
	unsigned options = cdb[2] & 0x07;
	uint16_t action = (uint16_t)(cdb[4] << 8 | cdb[5]);
	const struct command *c;

	if (options == 0) {
		all_commands(with_timeouts, w);
		return SENSE_NONE;
	}
	if (options > 3)
		return SENSE_CDB_BYTE(2);
	c = find_command(cdb[3], options == 2, action, &other_kind);
	if (!c && options == 3) /* either kind */
		c = find_command(cdb[3], true, action, &other_kind);
	else if (!c && other_kind)
		return SENSE_CDB_BYTE(2);
	one_command(c, with_timeouts, w);
	return SENSE_NONE;
}

/* ---- GET LBA STATUS ---- */

struct status_list {
	struct wcur w;
	unsigned n, limit;
	uint32_t block_bytes;
	uint64_t at; /* everything before is described */
};

static void describe(struct status_list *s, uint64_t end, bool hole)
{
	if (end <= s->at || s->n == s->limit)
		return;
	wcur_be64(&s->w, s->at / s->block_bytes);
	wcur_be32(&s->w, (uint32_t)((end - s->at) / s->block_bytes));
	wcur_u8(&s->w, hole ? 1 : 0); /* deallocated, mapped */
	wcur_zeros(&s->w, 3);
	s->n++;
	s->at = end;
}

unsigned page_lba_status_limit(const struct cdb *c)
{
	uint64_t room = c->data_len > 24 ? (c->data_len - 8) / 16 : 1;

	return (unsigned)min_u64(room, LINK_EXTENTS_MAX);
}

size_t page_lba_status(const struct cdb *c, uint32_t block_bytes, const struct link_extents *x,
		       uint8_t ret[PAGE_LBA_STATUS_MAX])
{
	struct status_list s = {.w = wcur_of(ret + 8, PAGE_LBA_STATUS_MAX - 8),
				.limit = page_lba_status_limit(c),
				.block_bytes = block_bytes,
				.at = c->off};
	struct wcur head = wcur_of(ret, 8);
	uint64_t start = c->off, end = c->off, first, last;

	for (unsigned i = 0; i < x->n; i++, start = end) {
		end = min_u64(start + x->v[i].len, c->off + c->len);
		first = round_up_u64(start, block_bytes);
		last = round_down_u64(end, block_bytes);
		if (x->v[i].hole && first < last) {
			describe(&s, first, false);
			describe(&s, last, true);
		}
	}
	describe(&s, round_up_u64(end, block_bytes), false);
	if (s.n == 0) /* one is owed, and calling it mapped is always right */
		describe(&s, c->off + block_bytes, false);
	wcur_be32(&head, 4 + 16 * s.n);
	wcur_zeros(&head, 4);
	assert(!s.w.bad && !head.bad);
	return min_u64(8 + 16 * s.n, c->data_len);
}

/* ---- all of them ---- */

static size_t asked_for(const uint8_t *cdb)
{
	struct rcur c = rcur_of(cdb, 16);

	switch (cdb[0]) {
	case SCSI_INQUIRY:
		return (size_t)cdb[3] << 8 | cdb[4];
	case SCSI_MODE_SENSE_6:
		return cdb[4];
	case SCSI_MODE_SENSE_10:
		return (size_t)cdb[7] << 8 | cdb[8];
	case SCSI_MAINTENANCE_IN:
		rcur_bytes(&c, 6);
		return rcur_be32(&c);
	default:
		rcur_bytes(&c, 10);
		return rcur_be32(&c);
	}
}

static uint32_t answer(const uint8_t *cdb, const struct page_device *d, struct wcur *w, bool *ret_runner)
{
	unsigned action = cdb[1] & 0x1f;

	switch (cdb[0]) {
	case SCSI_INQUIRY:
		return inquiry(cdb, d, w, ret_runner);
	case SCSI_MODE_SENSE_6:
	case SCSI_MODE_SENSE_10:
		return mode_sense(cdb, w);
	case SCSI_SERVICE_ACTION_IN_16:
		if (action == SCSI_SA_READ_CAPACITY_16)
			read_capacity_16(d, w);
		else
			*ret_runner = true;
		return SENSE_NONE;
	case SCSI_MAINTENANCE_IN:
		if (action == SCSI_SA_REPORT_OPCODES)
			return report_opcodes(cdb, w);
		*ret_runner = true;
		return SENSE_NONE;
	default:
		*ret_runner = true;
		return SENSE_NONE;
	}
}

uint32_t page_answer(const uint8_t *cdb, const struct page_device *d, uint8_t ret[PAGE_ANSWER_MAX], size_t *ret_len,
		     bool *ret_runner)
{
	struct wcur w = wcur_of(ret, PAGE_ANSWER_MAX);
	bool runner = false;
	uint32_t sense = answer(cdb, d, &w, &runner);

	assert(!w.bad);
	if (sense == SENSE_NONE) {
		*ret_len = min_u64(w.used, asked_for(cdb));
		*ret_runner = runner;
	}
	return sense;
}
