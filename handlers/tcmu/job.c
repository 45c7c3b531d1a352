/* job.c - see job.h. */
#include "handlers/tcmu/job.h"

#include "handlers/tcmu/page.h"

#define WINDOW        4u /* requests of one job in flight */
#define PATTERN_BYTES MIB(1)
#define VERIFY_BYTES  MIB(1)

struct job_slot {
	struct link_request r;
	struct job *job;
};

struct job {
	const struct job_device *dev;
	struct tcmur_cmd *cmd;
	/* where data comes from or goes to */
	const struct iovec *iov;
	size_t iov_cnt;
	uint64_t len; /* of a transfer */
	bool write;   /* for the sense of an EIO */
	bool compare;
	uint8_t *memory; /* owned; NULL when the vector itself is used */
	/* the requests to make: `kind` over all ranges */
	enum link_kind kind;
	bool fua;
	uint64_t piece;            /* longest */
	uint8_t *data;             /* of every piece */
	bool data_by_slot;         /* of the first slot's; each has `piece` bytes of its own */
	struct unmap_range *range; /* owned unless &one */
	struct unmap_range one;
	unsigned n_ranges, at_range;
	uint64_t at; /* in the range */
	void (*then)(struct job *j);
	unsigned running;
	int rc;
	struct job_slot slot[WINDOW];
	struct caw_request caw;
	struct cdb asked; /* GET LBA STATUS */
	uint32_t block_bytes;
};

/* ---- vectors ---- */

size_t iov_total(const struct iovec *iov, size_t n)
{
	size_t total = 0;

	for (size_t i = 0; i < n; i++)
		total += iov[i].iov_len;
	return total;
}

void iov_store(const struct iovec *iov, size_t n, const void *src, size_t len)
{
	const uint8_t *p = src;

	for (size_t i = 0; i < n; i++) {
		size_t part = min_u64(iov[i].iov_len, len);

		if (part > 0)
			memcpy(iov[i].iov_base, p, part);
		memset((uint8_t *)iov[i].iov_base + part, 0, iov[i].iov_len - part);
		p += part;
		len -= part;
	}
}

size_t iov_fetch(const struct iovec *iov, size_t n, void *dst, size_t len)
{
	uint8_t *p = dst;
	size_t got = 0;

	for (size_t i = 0; i < n && got < len; i++) {
		size_t part = min_u64(iov[i].iov_len, len - got);

		memcpy(p + got, iov[i].iov_base, part);
		got += part;
	}
	return got;
}

/* First byte where the vector differs from p, or len. */
static size_t iov_differs(const struct iovec *iov, size_t n, const uint8_t *p, size_t len)
{
	size_t at = 0;

	for (size_t i = 0; i < n && at < len; i++) {
		const uint8_t *q = iov[i].iov_base;
		size_t part = min_u64(iov[i].iov_len, len - at), k = 0;

		if (memcmp(q, p + at, part) != 0)
			while (q[k] == p[at + k])
				k++;
		else
			k = part;
		at += k;
		if (k < part)
			break;
	}
	return at;
}

/* ---- ends ---- */

int job_sense(struct tcmulib_cmd *cmd, uint32_t sense, uint32_t info)
{
	uint8_t *s = cmd->sense_buf;

	memset(s, 0, sizeof(cmd->sense_buf));
	s[0] = sense == SENSE_MISCOMPARE ? 0xf0 : 0x70; /* fixed format; VALID when there is information */
	s[2] = (uint8_t)(sense >> 16);
	s[3] = (uint8_t)(info >> 24);
	s[4] = (uint8_t)(info >> 16);
	s[5] = (uint8_t)(info >> 8);
	s[6] = (uint8_t)info;
	s[7] = 10;
	s[12] = (uint8_t)(sense >> 8);
	s[13] = (uint8_t)sense;
	if (sense >> 24) {
		s[15] = 0xc0; /* SKSV, C/D: a field pointer, into the CDB */
		s[17] = (uint8_t)(sense >> 24);
	}
	return TCMU_STS_PASSTHROUGH_ERR;
}

int job_status(struct tcmulib_cmd *cmd, int rc, bool write, uint32_t at)
{
	switch (rc) {
	case 0:
		return TCMU_STS_OK;
	case -EAGAIN:
		return TCMU_STS_BUSY;
	case -ENOMEM:
		return TCMU_STS_NO_RESOURCE;
	case -ENOSPC:
		return job_sense(cmd, SENSE_SPACE_ALLOCATION_FAILED, 0);
	case -EPERM:
		return job_sense(cmd, SENSE_WRITE_PROTECTED, 0);
	case -EIO:
		return job_sense(cmd, write ? SENSE_MEDIUM_WRITE_ERROR : SENSE_MEDIUM_READ_ERROR, 0);
	case -EINVAL: /* bounds were checked against the device: the LUN has become smaller */
		return job_sense(cmd, SENSE_LBA_OUT_OF_RANGE, 0);
	case -EILSEQ:
		return job_sense(cmd, SENSE_MISCOMPARE, at);
	case -ECANCELED:
		return job_sense(cmd, SENSE_COMMUNICATION_FAILURE, 0);
	default:
		return job_sense(cmd, SENSE_INTERNAL_FAILURE, 0);
	}
}

static void job_free(struct job *j)
{
	if (j->range != &j->one)
		free(j->range);
	free(j->memory);
	free(j);
}

static void complete(struct job *j, int rc, uint32_t at)
{
	struct tcmu_device *dev = j->dev->dev;
	struct tcmur_cmd *cmd = j->cmd;
	int sts = job_status(cmd->lib_cmd, rc, j->write, at);

	job_free(j);
	tcmur_cmd_complete(dev, cmd, sts);
}

static void then_complete(struct job *j)
{
	complete(j, j->rc, 0);
}

static void then_deliver(struct job *j)
{
	if (j->rc == 0 && j->memory)
		iov_store(j->iov, j->iov_cnt, j->memory, j->len);
	complete(j, j->rc, 0);
}

static void then_compare(struct job *j)
{
	size_t at = j->rc == 0 && j->compare ? iov_differs(j->iov, j->iov_cnt, j->memory, j->len) : j->len;

	complete(j, j->rc == 0 && at < j->len ? -EILSEQ : j->rc, (uint32_t)at);
}

static void then_tell_status(struct job *j)
{
	uint8_t bytes[PAGE_LBA_STATUS_MAX];

	if (j->rc == 0)
		iov_store(j->iov, j->iov_cnt, bytes,
			  page_lba_status(&j->asked, j->block_bytes, (void *)j->data, bytes));
	complete(j, j->rc, 0);
}

/* ---- the requests ---- */

static void slot_done(struct link_request *r, int rc);

/* The next piece into slot i. False when there is none. */
static bool fill(struct job *j, unsigned i)
{
	const struct unmap_range *g = &j->range[j->at_range];
	struct link_request *r = &j->slot[i].r;

	if (j->rc < 0 || j->at_range == j->n_ranges) /* J2 */
		return false;
	*r = (struct link_request){
	    .kind = j->kind, .fua = j->fua, .off = g->off + j->at, .data = j->data, .done = slot_done};
	r->len = (uint32_t)min_u64(j->piece, g->len - j->at);
	j->slot[i].job = j;
	if (j->data_by_slot)
		r->data = j->data + i * j->piece;
	j->at += r->len;
	if (j->at == g->len) {
		j->at_range++;
		j->at = 0;
	}
	return true;
}

/* The job may be gone when this returns. */
static void run(struct job *j, void (*then)(struct job *j))
{
	struct link_request *r[WINDOW];
	struct link *link = j->dev->link;
	unsigned n = 0;

	j->then = then;
	j->at_range = 0;
	j->at = 0;
	for (; n < WINDOW && fill(j, n); n++)
		r[n] = &j->slot[n].r;
	assert(n > 0);
	j->running = n;
	link_submit(link, r, n);
}

static void slot_done(struct link_request *r, int rc)
{
	struct job_slot *slot = CONTAINER_OF(r, struct job_slot, r);
	struct job *j = slot->job;

	if (rc < 0 && j->rc == 0)
		j->rc = rc;
	if (fill(j, (unsigned)(slot - j->slot)))
		link_submit(j->dev->link, &r, 1);
	else if (--j->running == 0)
		j->then(j);
}

/* ---- the commands ---- */

static struct job *job_new(const struct job_device *d, struct tcmur_cmd *cmd, enum link_kind kind)
{
	struct job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	j->dev = d;
	j->cmd = cmd;
	j->kind = kind;
	j->write = kind != LINK_READ && kind != LINK_PREFETCH && kind != LINK_STATUS;
	j->range = &j->one;
	j->n_ranges = 1;
	j->piece = LINK_RANGE_MAX;
	return j;
}

static int no_memory(struct job *j)
{
	if (j)
		job_free(j);
	return TCMU_STS_NO_RESOURCE;
}

/* One READ or WRITE of len bytes with the vector's memory, or with a copy when that is in pieces or too short. */
static int prepare_transfer(struct job *j, const struct iovec *iov, size_t iov_cnt, uint64_t off, uint64_t len)
{
	j->iov = iov;
	j->iov_cnt = iov_cnt;
	j->len = len;
	j->one = (struct unmap_range){off, len};
	j->piece = len;
	if (iov_cnt > 0 && iov[0].iov_len >= len) {
		j->data = iov[0].iov_base;
		return 0;
	}
	j->data = j->memory = malloc(len);
	if (!j->memory)
		return -ENOMEM;
	if (j->kind == LINK_WRITE)
		iov_fetch(iov, iov_cnt, j->memory, len);
	return 0;
}

static int start_transfer(const struct job_device *d, struct tcmur_cmd *cmd, enum link_kind kind, bool fua,
			  const struct iovec *iov, size_t iov_cnt, uint64_t off, uint64_t len)
{
	struct job *j = job_new(d, cmd, kind);

	if (!j || prepare_transfer(j, iov, iov_cnt, off, len) < 0)
		return no_memory(j);
	j->fua = fua;
	run(j, kind == LINK_READ ? then_deliver : then_complete);
	return TCMU_STS_OK;
}

/* The second half of WRITE AND VERIFY, and VERIFY with BYTCHK: what is there against the vector. */
static void read_and_compare(struct job *j)
{
	if (j->rc < 0) {
		then_complete(j);
		return;
	}
	j->kind = LINK_READ;
	j->write = false;
	j->data = j->memory;
	run(j, then_compare);
}

static int start_compare(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, bool write_first)
{
	const struct tcmulib_cmd *lib = cmd->lib_cmd;
	struct job *j = job_new(d, cmd, LINK_WRITE);

	if (!j || prepare_transfer(j, lib->iovec, lib->iov_cnt, c->off, c->len) < 0)
		return no_memory(j);
	if (!j->memory)
		j->memory = malloc(c->len);
	if (!j->memory)
		return no_memory(j);
	j->compare = c->compare;
	j->fua = c->fua;
	if (write_first)
		run(j, read_and_compare);
	else
		read_and_compare(j);
	return TCMU_STS_OK;
}

static int start_verify(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c)
{
	struct job *j = job_new(d, cmd, LINK_READ);

	if (!j)
		return no_memory(j);
	j->one = (struct unmap_range){c->off, c->len};
	j->piece = min_u64(VERIFY_BYTES, c->len);
	j->data = j->memory = malloc(WINDOW * j->piece);
	j->data_by_slot = true;
	if (!j->memory)
		return no_memory(j);
	run(j, then_complete);
	return TCMU_STS_OK;
}

static bool all_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int start_write_same(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, uint32_t block)
{
	const struct tcmulib_cmd *lib = cmd->lib_cmd;
	struct job *j = job_new(d, cmd, LINK_ZERO);
	uint8_t pattern[MYFS_BLOCK] = {0};

	assert(block <= sizeof(pattern));
	if (!j)
		return no_memory(j);
	j->one = (struct unmap_range){c->off, c->len};
	if (!c->no_data)
		iov_fetch(lib->iovec, lib->iov_cnt, pattern, block);
	if (!all_zero(pattern, block)) {
		j->kind = LINK_WRITE;
		j->piece = min_u64(PATTERN_BYTES, c->len);
		j->data = j->memory = malloc(j->piece);
		if (!j->memory)
			return no_memory(j);
		for (uint64_t at = 0; at < j->piece; at += block)
			memcpy(j->memory + at, pattern, block);
	}
	run(j, then_complete);
	return TCMU_STS_OK;
}

static int start_unmap(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c,
		       const struct cdb_limits *l)
{
	struct tcmulib_cmd *lib = cmd->lib_cmd;
	struct job *j = job_new(d, cmd, LINK_TRIM);
	uint8_t list[UNMAP_LIST_MAX];
	uint32_t sense;

	if (!j)
		return no_memory(j);
	j->range = calloc(UNMAP_RANGES_MAX, sizeof(*j->range));
	if (!j->range)
		return no_memory(j);
	sense = unmap_list_parse(list, iov_fetch(lib->iovec, lib->iov_cnt, list, min_u64(c->data_len, sizeof(list))), l,
				 j->range, &j->n_ranges);
	if (sense != SENSE_NONE) {
		job_free(j);
		return job_sense(lib, sense, 0);
	}
	if (j->n_ranges == 0)
		complete(j, 0, 0); /* returning "good" would mean that it is under way */
	else
		run(j, then_complete);
	return TCMU_STS_OK;
}

static int start_range(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, enum link_kind kind)
{
	struct job *j = job_new(d, cmd, kind);

	if (!j)
		return no_memory(j);
	j->one = (struct unmap_range){c->off, c->len};
	if (kind == LINK_FLUSH) /* of everything */
		j->one = (struct unmap_range){0, 0};
	run(j, then_complete);
	return TCMU_STS_OK;
}

static int start_lba_status(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, uint32_t block)
{
	struct job *j = job_new(d, cmd, LINK_STATUS);
	struct link_extents *x = calloc(1, sizeof(*x));

	if (!j || !x) {
		free(x);
		return no_memory(j);
	}
	j->data = j->memory = (uint8_t *)x;
	x->limit = page_lba_status_limit(c);
	j->iov = cmd->lib_cmd->iovec;
	j->iov_cnt = cmd->lib_cmd->iov_cnt;
	j->asked = *c;
	j->block_bytes = block;
	j->one = (struct unmap_range){c->off, c->len};
	run(j, then_tell_status);
	return TCMU_STS_OK;
}

static void caw_done(struct caw_request *r, int rc, uint32_t at)
{
	complete(CONTAINER_OF(r, struct job, caw), rc, at);
}

static int start_compare_and_write(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c)
{
	const struct tcmulib_cmd *lib = cmd->lib_cmd;
	struct job *j = job_new(d, cmd, LINK_WRITE);

	if (!j)
		return no_memory(j);
	j->memory = malloc(2 * c->len);
	if (!j->memory)
		return no_memory(j);
	iov_fetch(lib->iovec, lib->iov_cnt, j->memory, 2 * c->len);
	j->caw = (struct caw_request){.off = c->off,
				      .len = (uint32_t)c->len,
				      .expected = j->memory,
				      .data = j->memory + c->len,
				      .fua = c->fua,
				      .done = caw_done};
	return caw_submit(d->caw, &j->caw) == 0 ? TCMU_STS_OK : no_memory(j);
}

int job_start(const struct job_device *d, struct tcmur_cmd *cmd, const struct cdb *c, const struct cdb_limits *l)
{
	struct tcmulib_cmd *lib = cmd->lib_cmd;
	uint64_t came = iov_total(lib->iovec, lib->iov_cnt);
	bool exact = c->action == CDB_WRITE_SAME || c->action == CDB_COMPARE_AND_WRITE;
	bool goes_back = c->action == CDB_READ || c->action == CDB_LBA_STATUS;

	if (!goes_back && (came < c->data_len || (exact && came > c->data_len)))
		return job_sense(lib, SENSE_INVALID_FIELD_IN_CDB, 0); /* not the data that the CDB speaks of */
	switch (c->action) {
	case CDB_READ:
		return start_transfer(d, cmd, LINK_READ, false, lib->iovec, lib->iov_cnt, c->off, c->len);
	case CDB_WRITE:
		return start_transfer(d, cmd, LINK_WRITE, c->fua, lib->iovec, lib->iov_cnt, c->off, c->len);
	case CDB_WRITE_VERIFY:
		return start_compare(d, cmd, c, true);
	case CDB_VERIFY:
		return c->compare ? start_compare(d, cmd, c, false) : start_verify(d, cmd, c);
	case CDB_PREFETCH:
		return start_range(d, cmd, c, LINK_PREFETCH);
	case CDB_FLUSH:
		return start_range(d, cmd, c, LINK_FLUSH);
	case CDB_UNMAP:
		return start_unmap(d, cmd, c, l);
	case CDB_WRITE_SAME:
		return start_write_same(d, cmd, c, l->block_bytes);
	case CDB_COMPARE_AND_WRITE:
		return start_compare_and_write(d, cmd, c);
	case CDB_LBA_STATUS:
		return start_lba_status(d, cmd, c, l->block_bytes);
	default:
		return job_sense(lib, SENSE_INVALID_OPCODE, 0);
	}
}

int job_transfer(const struct job_device *d, struct tcmur_cmd *cmd, bool write, const struct iovec *iov, size_t iov_cnt,
		 size_t len, uint64_t off)
{
	if (len == 0)
		return job_sense(cmd->lib_cmd, SENSE_INTERNAL_FAILURE, 0); /* the runner asks for none */
	return start_transfer(d, cmd, write ? LINK_WRITE : LINK_READ, false, iov, iov_cnt, off, len);
}
