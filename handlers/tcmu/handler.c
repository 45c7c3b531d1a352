/* handler.c - the callouts of tcmu-runner. README.md tells how a command travels.
 *
 * tcmu-runner counts a running command, and completes it, only on the routes of its own callouts: from handle_cmd a
 * command can be answered, but not carried out later (its `done` is not set there). So commands that we judge
 * ourselves are sent on as what the runner passes to `flush` without a look at it, and are recognized there. */
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>

#include "handlers/tcmu/job.h"
#include "handlers/tcmu/page.h"

#define OPEN_WAIT_MS   2000 /* the runner opens devices one after the other; the gateway may be waiting for us */
#define CHECK_WAIT_MS  2000
#define RESIZE_WAIT_MS 5000

#define log_err(dev, ...)  tcmu_err_message(dev, __func__, __LINE__, __VA_ARGS__)
#define log_warn(dev, ...) tcmu_warn_message(dev, __func__, __LINE__, __VA_ARGS__)
#define log_info(dev, ...) tcmu_info_message(dev, __func__, __LINE__, __VA_ARGS__)

struct device {
	struct job_device job;
	struct page_device page;
	pthread_mutex_t lock;
	bool follow_size; /* the LUN's size, when a connection comes up, becomes the device's */
};

static const uint8_t detour_cdb[16] = {SCSI_SYNCHRONIZE_CACHE_10};

/* ---- size ---- */

static void adopt_size(struct device *d, uint64_t size_bytes)
{
	struct tcmu_device *dev = d->job.dev;
	uint32_t block = tcmu_dev_get_block_size(dev);

	if (tcmu_dev_get_num_lbas(dev) == size_bytes / block)
		return;
	log_info(dev, "the LUN has %llu bytes now\n", (unsigned long long)size_bytes);
	if (tcmur_dev_update_size(dev, size_bytes / block * block) < 0) /* the kernel, and a unit attention */
		log_err(dev, "cannot tell the kernel the new size\n");
}

static void on_up(void *arg, uint64_t size_bytes)
{
	struct device *d = arg;

	log_info(d->job.dev, "connected to the gateway\n");
	pthread_mutex_lock(&d->lock);
	if (d->follow_size)
		adopt_size(d, size_bytes);
	pthread_mutex_unlock(&d->lock);
}

static void on_down(void *arg, const char *why)
{
	struct device *d = arg;

	log_warn(d->job.dev, "no gateway, commands wait: %s\n", why);
}

static void follow_size(struct device *d, bool follow)
{
	pthread_mutex_lock(&d->lock);
	d->follow_size = follow;
	pthread_mutex_unlock(&d->lock);
}

/* target_core_user's attribute dev_size was written: blockd does, after a LUN was resized. */
static int myfs_reconfig(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg)
{
	struct device *d = tcmur_dev_get_private(dev);
	struct err e = ERR_INIT;
	uint64_t size = 0;
	int rc;

	if (cfg->type != TCMULIB_CFG_DEV_SIZE) {
		log_err(dev, "only the size can be changed while the device exists\n");
		return -EOPNOTSUPP;
	}
	follow_size(d, false); /* whoever set the size has told the kernel */
	rc = link_resync(d->job.link, RESIZE_WAIT_MS, &size, &e);
	follow_size(d, true);
	if (rc < 0) {
		log_warn(dev, "size %llu accepted unseen: %s\n", (unsigned long long)cfg->data.dev_size, e.text);
		return 0; /* corrected when the connection comes up */
	}
	if (cfg->data.dev_size > size) {
		log_err(dev, "the LUN has %llu bytes, not %llu\n", (unsigned long long)size,
			(unsigned long long)cfg->data.dev_size);
		return -EINVAL;
	}
	return 0;
}

/* ---- open, close ---- */

static const char *socket_default(void)
{
	const char *path = getenv(TCMU_SOCKET_ENV);

	return path && path[0] ? path : NULL;
}

static bool myfs_check_config(const char *text, char **reason)
{
	struct tcmu_config cfg;
	struct err e = ERR_INIT;
	struct link *l = NULL;
	uint64_t size;
	int rc = tcmu_config_parse(text, socket_default(), &cfg, &e);

	if (rc == 0)
		rc = link_new(&cfg, NULL, &l, &e);
	if (rc == 0)
		rc = link_wait_up(l, CHECK_WAIT_MS, &size, &e);
	if (l)
		link_free(l);
	if (rc < 0 && reason)
		*reason = strdup(e.text);
	return rc == 0;
}

static int set_limits(struct device *d)
{
	struct tcmu_device *dev = d->job.dev;
	uint32_t block = tcmu_dev_get_block_size(dev);

	if (block < 512 || block > MYFS_BLOCK || (block & (block - 1))) {
		log_err(dev, "blocks of %u bytes are not supported: use 512 or 4096\n", block);
		return -EINVAL;
	}
	/* The target's hw_max_sectors, 64 KiB when nobody set it, limits nothing in the kernel. */
	d->page.limits = (struct cdb_limits){.block_bytes = block,
					     .max_blocks = (uint32_t)(LINK_PAYLOAD_MAX / block),
					     .compare_blocks = (uint32_t)min_u64(CAW_BYTES_MAX / block, 255)};
	tcmu_dev_set_max_xfer_len(dev, (uint32_t)(PAGE_TRANSFER_MAX / block)); /* the runner's own compound commands */
	tcmu_dev_set_unmap_enabled(dev, true);
	tcmu_dev_set_max_unmap_len(dev, UNMAP_BLOCKS_MAX);
	tcmu_dev_set_opt_unmap_gran(dev, (uint32_t)(PAGE_UNMAP_GRANULARITY / block), false);
	tcmu_dev_set_unmap_gran_align(dev, 1); /* 0 divides by zero in the runner */
	tcmu_dev_set_write_cache_enabled(dev, true);
	tcmu_dev_set_solid_state_media(dev, true);
	if (tcmu_cfgfs_dev_get_attr_int(dev, "cmd_time_out") > 0)
		log_warn(dev, "cmd_time_out is set: the kernel will report errors for commands that still wait for "
			      "bricks; set it to 0 before the device is exported\n");
	return 0;
}

static void device_free(struct device *d)
{
	caw_free(d->job.caw);
	if (d->job.link)
		link_free(d->job.link);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

static int device_connect(struct device *d, const struct tcmu_config *cfg, struct err *e)
{
	struct link_observer o = {.up = on_up, .down = on_down, .arg = d};
	int rc = link_new(cfg, &o, &d->job.link, e);

	return rc < 0 ? rc : caw_new(cfg, d->job.link, &d->job.caw, e);
}

/* Whoever sets up the device says its size; the LUN's own is what counts. */
static void first_size(struct device *d)
{
	struct tcmu_device *dev = d->job.dev;
	struct err e = ERR_INIT;
	uint64_t size;

	if (link_wait_up(d->job.link, OPEN_WAIT_MS, &size, &e) == 0)
		tcmu_dev_set_num_lbas(dev, size / tcmu_dev_get_block_size(dev));
	else
		log_warn(dev, "opened without a gateway, commands wait for it: %s\n", e.text);
	follow_size(d, true);
}

static int myfs_open(struct tcmu_device *dev, bool reopen)
{
	struct device *d = calloc(1, sizeof(*d));
	struct tcmu_config cfg;
	struct err e = ERR_INIT;
	int rc;

	(void)reopen;
	if (!d)
		return -ENOMEM;
	pthread_mutex_init(&d->lock, NULL);
	d->job.dev = dev;
	rc = tcmu_config_parse(tcmu_dev_get_cfgstring(dev), socket_default(), &cfg, &e);
	if (rc == 0)
		rc = set_limits(d);
	if (rc == 0)
		rc = device_connect(d, &cfg, &e);
	if (rc < 0) {
		if (e.text[0])
			log_err(dev, "%s\n", e.text);
		device_free(d);
		return rc;
	}
	snprintf(d->page.name, sizeof(d->page.name), "%s", cfg.lun);
	tcmur_dev_set_private(dev, d);
	first_size(d);
	return 0;
}

static void myfs_close(struct tcmu_device *dev)
{
	struct device *d = tcmur_dev_get_private(dev);

	tcmur_dev_set_private(dev, NULL);
	device_free(d);
}

/* ---- commands ---- */

/* Has somebody given the ports access states? Then the standard INQUIRY must tell which, and the runner knows. */
static bool has_access_states(struct tcmu_device *dev)
{
	char path[128], name[512], hba[16], device[128];
	bool found = false;
	struct dirent *entry;
	FILE *f;
	DIR *dir;
	int n;

	snprintf(path, sizeof(path), "/sys/class/uio/%s/name", tcmu_dev_get_uio_name(dev));
	f = fopen(path, "re");
	if (!f)
		return false;
	n = fscanf(f, "tcm-user/%15[^/]/%127[^/]/", hba, device); /* tcm-user/HBA/DEVICE/myfs/vol/lun */
	fclose(f);
	if (n != 2)
		return false;
	snprintf(name, sizeof(name), "/sys/kernel/config/target/core/user_%s/%s/alua", hba, device);
	dir = opendir(name);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir)))
		found = entry->d_name[0] != '.' && strcmp(entry->d_name, "default_tg_pt_gp") != 0;
	closedir(dir);
	return found;
}

/* Read when it is asked for: whoever makes the target may name the unit after the device was opened. */
static void read_serial(struct device *d)
{
	char *serial = tcmu_cfgfs_dev_get_wwn(d->job.dev);

	snprintf(d->page.serial, sizeof(d->page.serial), "%s", serial ? serial : "");
	free(serial);
}

static int answer(struct device *d, struct tcmulib_cmd *lib)
{
	uint8_t bytes[PAGE_ANSWER_MAX];
	bool runner = false;
	size_t len = 0;
	uint32_t sense;

	d->page.alua = lib->cdb[0] == SCSI_INQUIRY && has_access_states(d->job.dev);
	if (lib->cdb[0] == SCSI_INQUIRY && (lib->cdb[1] & 1) && lib->cdb[2] == 0x83)
		read_serial(d);
	sense = page_answer(lib->cdb, &d->page, bytes, &len, &runner);
	if (sense != SENSE_NONE)
		return job_sense(lib, sense, 0);
	iov_store(lib->iovec, lib->iov_cnt, bytes, runner ? 0 : len);
	return runner ? TCMU_STS_NOT_HANDLED : TCMU_STS_OK;
}

static int myfs_handle_cmd(struct tcmu_device *dev, struct tcmur_cmd *cmd)
{
	struct device *d = tcmur_dev_get_private(dev);
	struct tcmulib_cmd *lib = cmd->lib_cmd;
	uint32_t sense;
	struct cdb c;

	d->page.limits.blocks = tcmu_dev_get_num_lbas(dev);
	sense = cdb_parse(lib->cdb, &d->page.limits, &c);
	if (sense != SENSE_NONE)
		return job_sense(lib, sense, 0);
	if (c.action == CDB_RUNNER)
		return TCMU_STS_NOT_HANDLED;
	if (c.action == CDB_PAGE)
		return answer(d, lib);
	if (c.action == CDB_COMPARE_AND_WRITE && c.len == 0 && iov_total(lib->iovec, lib->iov_cnt) > 0)
		return job_sense(lib, SENSE_CDB_BYTE(13), 0);
	if (c.action == CDB_UNMAP ? c.data_len == 0 : c.action != CDB_FLUSH && c.len == 0)
		return TCMU_STS_OK; /* nothing is to be done */
	cmd->cmd_state = lib->cdb;
	lib->cdb = (uint8_t *)(uintptr_t)detour_cdb;
	return TCMU_STS_NOT_HANDLED;
}

/* The end of the detour. */
static int myfs_flush(struct tcmu_device *dev, struct tcmur_cmd *cmd)
{
	struct device *d = tcmur_dev_get_private(dev);
	struct cdb_limits limits = d->page.limits;
	uint32_t sense;
	struct cdb c;

	if (cmd->cmd_state) {
		cmd->lib_cmd->cdb = cmd->cmd_state;
		cmd->cmd_state = NULL;
	}
	limits.blocks = tcmu_dev_get_num_lbas(dev);
	sense = cdb_parse(cmd->lib_cmd->cdb, &limits, &c);
	return sense == SENSE_NONE ? job_start(&d->job, cmd, &c, &limits) : job_sense(cmd->lib_cmd, sense, 0);
}

/* Reads and writes of initiators take the detour; these are the runner's own, for EXTENDED COPY and FORMAT UNIT. */
static int myfs_read(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iov, size_t iov_cnt, size_t len,
		     off_t off)
{
	struct device *d = tcmur_dev_get_private(dev);

	return job_transfer(&d->job, cmd, false, iov, iov_cnt, len, (uint64_t)off);
}

static int myfs_write(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iov, size_t iov_cnt, size_t len,
		      off_t off)
{
	struct device *d = tcmur_dev_get_private(dev);

	return job_transfer(&d->job, cmd, true, iov, iov_cnt, len, (uint64_t)off);
}

static struct tcmur_handler handler = {
    .name = "myfs LUNs",
    .subtype = TCMU_SUBTYPE,
    .cfg_desc = "VOLUME/LUN[;socket=PATH][;wait=SECONDS]\n"
		"socket: the local gateway's NBD socket (default $" TCMU_SOCKET_ENV ", then " TCMU_SOCKET_DEFAULT ")\n"
		"wait: how long commands wait for the gateway before they are answered BUSY",
    .check_config = myfs_check_config,
    .reconfig = myfs_reconfig,
    .open = myfs_open,
    .close = myfs_close,
    .handle_cmd = myfs_handle_cmd,
    .read = myfs_read,
    .write = myfs_write,
    .flush = myfs_flush,
};

int handler_init(void); /* what the runner looks for */

__attribute__((visibility("default"))) int handler_init(void)
{
	return tcmur_register_handler(&handler);
}
