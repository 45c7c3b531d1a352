/* tcmu_host.c - stands in for tcmu-runner: loads handler_myfs.so, opens a device and sends SCSI commands the way the
 * runner does, against a real gateway or nbdkit.
 *
 *   tcmu_host HANDLER.so CONFIG SIZE BLOCK SCENARIO [ARG...]
 *
 * What is here of the runner are its entry points for handlers and its route of a command (generic_handle_cmd
 * in 1.5.4); nothing of the handler is replaced. Scenarios: see `scenarios` at the end. Exit 0: everything was as it
 * must be. */
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/base/list.h"
#include "core/base/prng.h"
#include "handlers/tcmu/cdb.h"
#include "handlers/tcmu/tcmu_abi.h"

struct tcmu_device {
	char config[256];
	uint64_t blocks;
	uint32_t block;
	void *private;
	bool told_size;
};

static struct tcmur_handler *handler;
static struct tcmu_device device;

static void die(const char *fmt, ...) PRINTF(1, 2);
static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

#define MUST(cond)                                                                                                     \
	do {                                                                                                           \
		if (!(cond))                                                                                           \
			die("%s:%d: not so: %s", __func__, __LINE__, #cond);                                           \
	} while (0)

/* ---- what the runner and libtcmu export ---- */

int tcmur_register_handler(struct tcmur_handler *h)
{
	handler = h;
	return 0;
}

void tcmur_cmd_complete(struct tcmu_device *dev, void *data, int rc)
{
	struct tcmur_cmd *cmd = data;

	cmd->done(dev, cmd, rc);
}

void tcmur_dev_set_private(struct tcmu_device *dev, void *p)
{
	dev->private = p;
}
void *tcmur_dev_get_private(struct tcmu_device *dev)
{
	return dev->private;
}
int tcmur_dev_update_size(struct tcmu_device *dev, uint64_t new_size)
{
	__atomic_store_n(&dev->blocks, new_size / dev->block, __ATOMIC_SEQ_CST);
	dev->told_size = true;
	return 0;
}
char *tcmu_dev_get_cfgstring(struct tcmu_device *dev)
{
	return dev->config;
}
const char *tcmu_dev_get_uio_name(struct tcmu_device *dev)
{
	(void)dev;
	return "uio-none";
}
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device *dev)
{
	return __atomic_load_n(&dev->blocks, __ATOMIC_SEQ_CST);
}
void tcmu_dev_set_num_lbas(struct tcmu_device *dev, uint64_t n)
{
	__atomic_store_n(&dev->blocks, n, __ATOMIC_SEQ_CST);
}
uint32_t tcmu_dev_get_block_size(struct tcmu_device *dev)
{
	return dev->block;
}
void tcmu_dev_set_max_xfer_len(struct tcmu_device *dev, uint32_t len)
{
	(void)dev, (void)len;
}
void tcmu_dev_set_max_unmap_len(struct tcmu_device *dev, uint32_t len)
{
	(void)dev, (void)len;
}
void tcmu_dev_set_opt_unmap_gran(struct tcmu_device *dev, uint32_t len, bool split)
{
	(void)dev, (void)len, (void)split;
}
void tcmu_dev_set_unmap_gran_align(struct tcmu_device *dev, uint32_t len)
{
	(void)dev;
	MUST(len > 0 && (len & (len - 1)) == 0); /* the runner divides by it */
}
void tcmu_dev_set_unmap_enabled(struct tcmu_device *dev, bool on)
{
	(void)dev, (void)on;
}
void tcmu_dev_set_write_cache_enabled(struct tcmu_device *dev, bool on)
{
	(void)dev, (void)on;
}
void tcmu_dev_set_solid_state_media(struct tcmu_device *dev, bool on)
{
	(void)dev, (void)on;
}
int tcmu_cfgfs_dev_get_attr_int(struct tcmu_device *dev, const char *name)
{
	(void)dev;
	return strcmp(name, "cmd_time_out") == 0 ? 0 : -ENOENT;
}
char *tcmu_cfgfs_dev_get_wwn(struct tcmu_device *dev)
{
	(void)dev;
	return NULL;
}

#define LOGGER(name, level)                                                                                            \
	void name(TCMU_LOG_ARGS)                                                                                       \
	{                                                                                                              \
		va_list ap;                                                                                            \
                                                                                                                       \
		(void)dev, (void)function, (void)line;                                                                 \
		va_start(ap, format);                                                                                  \
		fputs(level ": ", stderr);                                                                             \
		vfprintf(stderr, format, ap);                                                                          \
		va_end(ap);                                                                                            \
	}
LOGGER(tcmu_err_message, "error")
LOGGER(tcmu_warn_message, "warning")
LOGGER(tcmu_info_message, "info")

/* ---- a command and its way ---- */

struct call {
	struct tcmur_cmd cmd; /* first */
	struct tcmulib_cmd lib;
	uint8_t cdb[16];
	struct iovec iov[16];
	bool ended;
	int status;
	uint32_t sense, info;
	unsigned wrong_byte; /* of the CDB, 0: not told */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void ended(struct tcmu_device *dev, struct tcmur_cmd *cmd, int status)
{
	struct call *c = (struct call *)(void *)cmd;
	const uint8_t *s = c->lib.sense_buf;

	(void)dev;
	pthread_mutex_lock(&lock);
	MUST(!c->ended); /* once */
	c->status = status;
	if (status == TCMU_STS_PASSTHROUGH_ERR) {
		MUST((s[0] & 0x7f) == 0x70 && s[7] == 10);
		c->sense = (uint32_t)s[2] << 16 | (uint32_t)s[12] << 8 | s[13];
		c->wrong_byte = s[15] == 0xc0 ? s[17] : 0;
		c->info = (uint32_t)s[3] << 24 | (uint32_t)s[4] << 16 | (uint32_t)s[5] << 8 | s[6];
	}
	c->ended = true;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

/* generic_handle_cmd: the handler first; SYNCHRONIZE CACHE goes to flush with the completion set; nothing else is here.
 */
static void start(struct call *c)
{
	int rc;

	c->cmd = (struct tcmur_cmd){.lib_cmd = &c->lib};
	c->lib.cdb = c->cdb;
	c->lib.iovec = c->iov;
	c->ended = false;
	c->sense = c->info = c->wrong_byte = 0;
	rc = handler->handle_cmd(&device, &c->cmd);
	if (rc == TCMU_STS_NOT_HANDLED && c->lib.cdb[0] == SCSI_SYNCHRONIZE_CACHE_10) {
		c->cmd.done = ended;
		rc = handler->flush(&device, &c->cmd);
		if (rc == TCMU_STS_OK)
			return;
	}
	ended(&device, &c->cmd, rc);
}

static int finish(struct call *c)
{
	pthread_mutex_lock(&lock);
	while (!c->ended)
		pthread_cond_wait(&changed, &lock);
	pthread_mutex_unlock(&lock);
	return c->status;
}

static void put(uint8_t *p, unsigned bytes, uint64_t v)
{
	while (bytes--) {
		p[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

/* A 16-byte CDB with its one buffer, which may be cut into pieces of `piece` bytes. */
static void prepare(struct call *c, uint8_t opcode, uint8_t flags, uint64_t lba, uint32_t blocks, void *data,
		    size_t len, size_t piece)
{
	size_t at = 0;

	memset(c->cdb, 0, sizeof(c->cdb));
	c->cdb[0] = opcode;
	c->cdb[1] = flags;
	put(c->cdb + 2, 8, lba);
	put(c->cdb + 10, 4, blocks);
	c->lib.iov_cnt = 0;
	if (piece == 0)
		piece = len;
	while (at < len) {
		size_t n = c->lib.iov_cnt + 1 == ARRAY_LEN(c->iov) ? len - at : min_u64(piece, len - at);

		c->iov[c->lib.iov_cnt++] = (struct iovec){(uint8_t *)data + at, n};
		at += n;
	}
}

static int run16(struct call *c, uint8_t opcode, uint8_t flags, uint64_t lba, uint32_t blocks, void *data, size_t len)
{
	prepare(c, opcode, flags, lba, blocks, data, len, 0);
	start(c);
	return finish(c);
}

static int compare_and_write(struct call *c, uint64_t lba, uint8_t blocks, void *both, size_t len)
{
	prepare(c, SCSI_COMPARE_AND_WRITE, 0, lba, 0, both, len, 0);
	c->cdb[13] = blocks;
	start(c);
	return finish(c);
}

static int unmap(struct call *c, const struct unmap_range *blocks, unsigned n)
{
	static uint8_t list[8 + 16 * 64];

	memset(list, 0, sizeof(list));
	put(list, 2, 6 + 16 * n);
	put(list + 2, 2, 16 * n);
	for (unsigned i = 0; i < n; i++) {
		put(list + 8 + 16 * i, 8, blocks[i].off);
		put(list + 16 + 16 * i, 4, blocks[i].len);
	}
	prepare(c, SCSI_UNMAP, 0, 0, 0, list, 8 + 16 * n, 0);
	put(c->cdb + 7, 2, 8 + 16 * n);
	start(c);
	return finish(c);
}

/* ---- scenarios ---- */

/* Random commands against a copy in memory, several at once where they do not overlap. */
#define LANES       8u
#define LANE_BLOCKS 512u

struct lane {
	struct call call;
	uint8_t *model, *data;
	uint64_t first;
	struct prng rng;
};

static void lane_check(struct lane *l)
{
	size_t len = (size_t)LANE_BLOCKS * device.block;

	MUST(run16(&l->call, SCSI_READ_16, 0, l->first, LANE_BLOCKS, l->data, len) == TCMU_STS_OK);
	for (size_t i = 0; i < len; i++)
		if (l->data[i] != l->model[i])
			die("block %llu, byte %zu: read %02x, written %02x",
			    (unsigned long long)(l->first + i / device.block), i % device.block, l->data[i],
			    l->model[i]);
}

/* Starts one random command; the model changes at once, because nothing else touches the lane. */
static void lane_start(struct lane *l)
{
	uint32_t at = (uint32_t)prng_below(&l->rng, LANE_BLOCKS), n = 1 + (uint32_t)prng_below(&l->rng, 64);
	uint32_t what = (uint32_t)prng_below(&l->rng, 10);
	size_t bs = device.block, len, piece;

	if (at + n > LANE_BLOCKS)
		n = LANE_BLOCKS - at;
	len = n * bs;
	piece = prng_below(&l->rng, 2) ? 0 : bs * (1 + prng_below(&l->rng, 4));
	for (size_t i = 0; i < len; i++)
		l->data[i] = (uint8_t)prng_u64(&l->rng);
	switch (what) {
	case 0:
	case 1:
	case 2:
	case 3:
		prepare(&l->call, what == 3 ? SCSI_WRITE_VERIFY_16 : SCSI_WRITE_16, what == 1 ? 0x08 : 0, l->first + at,
			n, l->data, len, piece);
		memcpy(l->model + at * bs, l->data, len);
		break;
	case 4:
	case 5: /* WRITE SAME of a pattern, with and without UNMAP */
		prepare(&l->call, SCSI_WRITE_SAME_16, what == 4 ? 0x08 : 0, l->first + at, n, l->data, bs, 0);
		for (uint32_t i = 0; i < n; i++)
			memcpy(l->model + (at + i) * bs, l->data, bs);
		break;
	case 6: /* of zeros */
		memset(l->data, 0, bs);
		prepare(&l->call, SCSI_WRITE_SAME_16, 0x08, l->first + at, n, l->data, bs, 0);
		memset(l->model + at * bs, 0, len);
		break;
	case 7: /* without data */
		prepare(&l->call, SCSI_WRITE_SAME_16, 0x01, l->first + at, n, NULL, 0, 0);
		memset(l->model + at * bs, 0, len);
		break;
	case 8: /* what is there is what was written */
		memcpy(l->data, l->model + at * bs, len);
		prepare(&l->call, SCSI_VERIFY_16, 0x02, l->first + at, n, l->data, len, piece);
		break;
	default:
		prepare(&l->call, prng_below(&l->rng, 2) ? SCSI_VERIFY_16 : SCSI_SYNCHRONIZE_CACHE_16, 0, l->first + at,
			n, NULL, 0, 0);
		break;
	}
	start(&l->call);
}

static void model(char **argv)
{
	unsigned rounds = (unsigned)atoi(argv[0]);
	struct lane *lanes = calloc(LANES, sizeof(*lanes));

	MUST(lanes);
	for (unsigned i = 0; i < LANES; i++) {
		struct lane *l = &lanes[i];

		l->first = (uint64_t)i * LANE_BLOCKS + i * 7; /* not aligned to anything */
		l->model = calloc(LANE_BLOCKS, device.block);
		l->data = calloc(LANE_BLOCKS, device.block);
		prng_seed(&l->rng, 1000 + i);
		MUST(l->model && l->data);
		MUST(run16(&l->call, SCSI_WRITE_SAME_16, 0x01, l->first, LANE_BLOCKS, NULL, 0) == TCMU_STS_OK);
	}
	for (unsigned r = 0; r < rounds; r++) {
		for (unsigned i = 0; i < LANES; i++)
			lane_start(&lanes[i]);
		for (unsigned i = 0; i < LANES; i++)
			if (finish(&lanes[i].call) != TCMU_STS_OK)
				die("opcode %02x: status %d, sense %06x", lanes[i].call.cdb[0], lanes[i].call.status,
				    lanes[i].call.sense);
	}
	for (unsigned i = 0; i < LANES; i++) {
		lane_check(&lanes[i]);
		free(lanes[i].model);
		free(lanes[i].data);
	}
	free(lanes);
}

/* UNMAP lists, COMPARE AND WRITE with its miscompare, VERIFY that finds a difference. */
static void special(char **argv)
{
	size_t bs = device.block;
	uint8_t *buf = malloc(64 * bs), *both = calloc(64, bs);
	struct unmap_range r[3] = {{3, 5}, {0, 0}, {20, 1}};
	struct call *c = calloc(1, sizeof(*c));

	(void)argv;
	MUST(buf && both && c);
	memset(buf, 0xa5, 64 * bs);
	MUST(run16(c, SCSI_WRITE_16, 0, 0, 64, buf, 64 * bs) == TCMU_STS_OK);
	MUST(unmap(c, r, 3) == TCMU_STS_OK);
	MUST(run16(c, SCSI_READ_16, 0, 0, 64, buf, 64 * bs) == TCMU_STS_OK);
	for (unsigned i = 0; i < 64; i++) {
		uint8_t want = (i >= 3 && i < 8) || i == 20 ? 0 : 0xa5;

		MUST(buf[i * bs] == want && buf[(i + 1) * bs - 1] == want);
	}
	MUST(unmap(c, &r[1], 1) == TCMU_STS_OK && unmap(c, r, 0) == TCMU_STS_OK); /* of nothing */
	r[2].off = device.blocks;
	MUST(unmap(c, r, 3) == TCMU_STS_PASSTHROUGH_ERR && c->sense == SENSE_LBA_OUT_OF_RANGE);
	memset(both, 0xa5, 2 * bs); /* blocks 30 and 31 become 1 and 2 */
	memset(both + 2 * bs, 1, bs);
	memset(both + 3 * bs, 2, bs);
	MUST(compare_and_write(c, 30, 2, both, 4 * bs) == TCMU_STS_OK);
	MUST(compare_and_write(c, 30, 2, both, 4 * bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_MISCOMPARE && c->info == 0 && c->lib.sense_buf[0] == 0xf0);
	memset(both, 1, bs);
	memset(both + bs, 2, bs);
	both[bs + 17] = 3;
	MUST(compare_and_write(c, 30, 2, both, 4 * bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_MISCOMPARE && c->info == bs + 17);
	MUST(compare_and_write(c, 30, 2, both, 3 * bs) == TCMU_STS_PASSTHROUGH_ERR); /* half of it is missing */
	MUST(c->sense == SENSE_INVALID_FIELD_IN_CDB);
	MUST(compare_and_write(c, 30, 0, NULL, 0) == TCMU_STS_OK); /* of nothing */
	MUST(compare_and_write(c, 30, 0, both, 2 * bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(run16(c, SCSI_WRITE_SAME_16, 0, 0, 1, both, 2 * bs) ==
	     TCMU_STS_PASSTHROUGH_ERR); /* and here too much came */
	MUST(c->sense == SENSE_INVALID_FIELD_IN_CDB);
	MUST(run16(c, SCSI_VERIFY_16, 0x02, 30, 2, both, 2 * bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_MISCOMPARE && c->info == bs + 17);
	MUST(run16(c, SCSI_READ_16, 0, 30, 2, buf, 2 * bs) == TCMU_STS_OK && buf[0] == 1 && buf[bs + 17] == 2);
	MUST(run16(c, SCSI_READ_16, 0, device.blocks - 1, 2, buf, 2 * bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_LBA_OUT_OF_RANGE);
	MUST(run16(c, SCSI_READ_16, 0x20, 0, 1, buf, bs) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_INVALID_FIELD_IN_CDB && c->wrong_byte == 1);
	MUST(run16(c, SCSI_PREFETCH_16, 0, 0, 64, NULL, 0) == TCMU_STS_OK);
	free(buf);
	free(both);
	free(c);
}

/* expect OPCODE STATUS SENSE: one command of 8 blocks at 0 ends like this (numbers in hex; status 0 good, 2 sense, 3
 * busy). */
static void expect(char **argv)
{
	uint8_t opcode = (uint8_t)strtoul(argv[0], NULL, 16);
	int status = (int)strtol(argv[1], NULL, 16);
	uint32_t sense = (uint32_t)strtoul(argv[2], NULL, 16);
	bool data = opcode != SCSI_SYNCHRONIZE_CACHE_16 && opcode != SCSI_UNMAP;
	size_t len = !data ? 0 : opcode == SCSI_WRITE_SAME_16 ? device.block : 8 * device.block;
	struct unmap_range r = {0, 8};
	uint8_t *buf = calloc(8, device.block);
	struct call *c = calloc(1, sizeof(*c));
	int got;

	MUST(buf && c);
	memset(buf, 7, 8 * device.block);
	if (opcode == SCSI_COMPARE_AND_WRITE)
		got = compare_and_write(c, 0, 4, buf, 8 * device.block);
	else if (opcode == SCSI_UNMAP)
		got = unmap(c, &r, 1);
	else
		got = run16(c, opcode, 0, 0, 8, data ? buf : NULL, len);
	if (got != status || c->sense != sense)
		die("opcode %02x: status %d sense %06x, not %d %06x", opcode, got, c->sense, status, sense);
	free(buf);
	free(c);
}

/* Writes versions of blocks without end, several at once, until standard input says something or ends; a refused write
 * is repeated as an initiator does. What was acknowledged is what is read, now and at the end. */
#define KEEPERS 16u

static void fill_block(uint8_t *p, uint64_t lba, uint64_t version)
{
	struct prng rng;

	prng_seed(&rng, lba * 1000003 + version);
	put(p, 8, version);
	for (size_t i = 8; i < device.block; i++)
		p[i] = (uint8_t)prng_u64(&rng);
}

static bool told_to_end(void)
{
	struct timeval none = {0, 0};
	fd_set set;
	char c;

	FD_ZERO(&set);
	FD_SET(0, &set);
	return select(1, &set, NULL, NULL, &none) > 0 && read(0, &c, 1) >= 0;
}

static void check_block(uint64_t lba, uint64_t version, uint8_t *buf, uint8_t *want, struct call *c, uint64_t *busy)
{
	while (run16(c, SCSI_READ_16, 0, lba, 1, buf, device.block) == TCMU_STS_BUSY)
		++*busy;
	MUST(c->status == TCMU_STS_OK);
	fill_block(want, lba, version);
	if (memcmp(buf, want, device.block) != 0)
		die("block %llu: version %llu was acknowledged last, another is there", (unsigned long long)lba,
		    (unsigned long long)version);
}

static void keep(char **argv)
{
	struct call *c = calloc(KEEPERS, sizeof(*c));
	uint64_t version[KEEPERS] = {0}, writes = 0, busy = 0, busy_reads = 0;
	uint8_t *buf[KEEPERS], *want = malloc(device.block);

	(void)argv;
	MUST(c && want);
	for (unsigned i = 0; i < KEEPERS; i++)
		MUST((buf[i] = malloc(device.block)));
	while (!told_to_end()) {
		for (unsigned i = 0; i < KEEPERS; i++) {
			fill_block(buf[i], i * 3, version[i] + 1);
			prepare(&c[i], SCSI_WRITE_16, 0, i * 3, 1, buf[i], device.block, 0);
			start(&c[i]);
		}
		for (unsigned i = 0; i < KEEPERS; i++) {
			while (finish(&c[i]) == TCMU_STS_BUSY) {
				busy++;
				start(&c[i]);
			}
			if (c[i].status != TCMU_STS_OK)
				die("write: status %d sense %06x", c[i].status, c[i].sense);
			version[i]++;
			writes++;
		}
		unsigned one = (unsigned)(writes / KEEPERS % KEEPERS);
		check_block(one * 3, version[one], buf[one], want, &c[one], &busy_reads);
	}
	for (unsigned i = 0; i < KEEPERS; i++) {
		check_block(i * 3, version[i], buf[i], want, &c[i], &busy_reads);
		free(buf[i]);
	}
	printf("writes %llu busy %llu busy_reads %llu\n", (unsigned long long)writes, (unsigned long long)busy,
	       (unsigned long long)busy_reads);
	MUST(writes > 0);
	free(want);
	free(c);
}

/* resize OLD NEW: says "ready", waits for a line while somebody grows the LUN, then does what the runner does when
 * dev_size was written. */
static void resize(char **argv)
{
	uint64_t new_size = strtoull(argv[0], NULL, 10);
	struct tcmulib_cfg_info cfg = {.type = TCMULIB_CFG_DEV_SIZE, .data.dev_size = new_size};
	struct call *c = calloc(1, sizeof(*c));
	uint8_t *buf = calloc(1, device.block);
	uint64_t last = new_size / device.block - 1;
	char line[16];

	MUST(c && buf);
	MUST(run16(c, SCSI_WRITE_16, 0, last, 1, buf, device.block) == TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_LBA_OUT_OF_RANGE);
	puts("ready");
	fflush(stdout);
	MUST(fgets(line, sizeof(line), stdin));
	cfg.data.dev_size = new_size * 2;
	MUST(handler->reconfig(&device, &cfg) < 0); /* larger than the LUN */
	cfg.data.dev_size = new_size;
	MUST(handler->reconfig(&device, &cfg) == 0);
	tcmu_dev_set_num_lbas(&device, new_size / device.block);
	MUST(run16(c, SCSI_WRITE_16, 0, last, 1, buf, device.block) == TCMU_STS_OK);
	MUST(run16(c, SCSI_READ_16, 0, last, 1, buf, device.block) == TCMU_STS_OK);
	free(buf);
	free(c);
}

/* adopt NEW: the LUN grew while the gateway was away; the device follows when it is back. */
static void adopt(char **argv)
{
	uint64_t new_size = strtoull(argv[0], NULL, 10);
	struct call *c = calloc(1, sizeof(*c));
	uint8_t *buf = calloc(1, device.block);
	char line[16];

	MUST(c && buf);
	puts("ready");
	fflush(stdout);
	MUST(fgets(line, sizeof(line), stdin));
	while (run16(c, SCSI_READ_16, 0, 0, 1, buf, device.block) == TCMU_STS_BUSY)
		;
	MUST(c->status == TCMU_STS_OK && device.told_size);
	MUST(tcmu_dev_get_num_lbas(&device) == new_size / device.block);
	free(buf);
	free(c);
}

/* Answers of INQUIRY, READ CAPACITY and MODE SENSE over the command path: short buffers are filled up with zeros. */
static void pages(char **argv)
{
	struct call *c = calloc(1, sizeof(*c));
	uint8_t buf[256];

	(void)argv;
	MUST(c);
	memset(buf, 0xee, sizeof(buf));
	prepare(c, SCSI_INQUIRY, 0, 0, 0, buf, sizeof(buf), 33);
	memcpy(c->cdb, (uint8_t[6]){SCSI_INQUIRY, 0, 0, 1, 0, 0}, 6); /* 256 bytes */
	start(c);
	MUST(finish(c) == TCMU_STS_OK && memcmp(buf + 8, "MYFS    ", 8) == 0 && buf[73] == 0 && buf[255] == 0);
	MUST(memcmp(buf + 16, "vol/lun ", 8) == 0);
	memset(buf, 0xee, sizeof(buf));
	prepare(c, SCSI_SERVICE_ACTION_IN_16, SCSI_SA_READ_CAPACITY_16, 0, 32, buf, 32, 0);
	start(c);
	MUST(finish(c) == TCMU_STS_OK);
	MUST(buf[8] == 0 && buf[9] == 0 && ((unsigned)buf[10] << 8 | buf[11]) == device.block && buf[14] == 0xc0);
	free(c);
}

static uint32_t get(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* GET LBA STATUS: 64 KiB written in the middle of what was freed. */
static void status(char **argv)
{
	struct call *c = calloc(1, sizeof(*c));
	uint32_t mib = (1 << 20) / device.block, written = (64 << 10) / device.block;
	uint8_t *data = calloc(written, device.block), buf[8 + 16 * 3];

	(void)argv;
	MUST(c && data);
	MUST(run16(c, SCSI_WRITE_SAME_16, 0x09, 0, 4 * mib, NULL, 0) == TCMU_STS_OK);
	memset(data, 1, (size_t)written * device.block);
	MUST(run16(c, SCSI_WRITE_16, 0, mib, written, data, (size_t)written * device.block) == TCMU_STS_OK);
	MUST(run16(c, SCSI_SERVICE_ACTION_IN_16, SCSI_SA_GET_LBA_STATUS, 0, sizeof(buf), buf, sizeof(buf)) ==
	     TCMU_STS_OK);
	MUST(get(buf) == 4 + 16 * 3);
	MUST(get(buf + 12) == 0 && get(buf + 16) == mib && buf[20] == 1);
	MUST(get(buf + 28) == mib && get(buf + 32) == written && buf[36] == 0);
	MUST(get(buf + 44) == mib + written && get(buf + 48) >= 3 * mib - written && buf[52] == 1);
	MUST(run16(c, SCSI_SERVICE_ACTION_IN_16, SCSI_SA_GET_LBA_STATUS, mib + 1, 24, buf, 24) == TCMU_STS_OK);
	MUST(get(buf) == 20 && get(buf + 12) == mib + 1 && get(buf + 16) == written - 1 && buf[20] == 0);
	MUST(run16(c, SCSI_SERVICE_ACTION_IN_16, SCSI_SA_GET_LBA_STATUS, device.blocks - 1, 24, buf, 24) ==
	     TCMU_STS_OK);
	MUST(get(buf + 16) == 1);
	MUST(run16(c, SCSI_SERVICE_ACTION_IN_16, SCSI_SA_GET_LBA_STATUS, device.blocks, 24, buf, 24) ==
	     TCMU_STS_PASSTHROUGH_ERR);
	MUST(c->sense == SENSE_LBA_OUT_OF_RANGE);
	free(data);
	free(c);
}

static const struct {
	const char *name;
	int args;
	void (*run)(char **argv);
} scenarios[] = {
    {"model", 1, model},   {"special", 0, special}, {"expect", 3, expect}, {"keep", 0, keep},
    {"resize", 1, resize}, {"adopt", 1, adopt},     {"pages", 0, pages},   {"status", 0, status},
};

static void load(const char *path)
{
	int (*init)(void);
	void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);

	if (!so)
		die("%s", dlerror());
	*(void **)&init = dlsym(so, "handler_init");
	MUST(init && init() == 0 && handler);
	MUST(strcmp(handler->subtype, "myfs") == 0 && handler->nr_threads == 0 && !handler->_is_dbus_handler);
}

int main(int argc, char **argv)
{
	if (argc == 4 && strcmp(argv[3], "check") == 0) { /* HANDLER.so CONFIG check: what check_config says */
		char *reason = NULL;

		load(argv[1]);
		if (handler->check_config(argv[2], &reason))
			return 0;
		puts(reason ? reason : "no reason");
		free(reason);
		return 2;
	}
	if (argc < 6)
		die("usage: tcmu_host HANDLER.so CONFIG SIZE BLOCK SCENARIO [ARG...]");
	load(argv[1]);
	snprintf(device.config, sizeof(device.config), "%s", argv[2]);
	device.block = (uint32_t)strtoul(argv[4], NULL, 10);
	device.blocks = strtoull(argv[3], NULL, 10) / device.block;
	if (handler->open(&device, false) != 0)
		return 3;
	for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
		if (strcmp(scenarios[i].name, argv[5]) != 0)
			continue;
		if (argc - 6 != scenarios[i].args)
			die("%s takes %d arguments", argv[5], scenarios[i].args);
		scenarios[i].run(argv + 6);
		handler->close(&device);
		MUST(!device.private);
		return 0;
	}
	die("there is no scenario %s", argv[5]);
}
