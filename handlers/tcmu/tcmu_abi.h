/* tcmu_abi.h - what a handler needs of tcmu-runner 1.5.4: declarations of our own, because Debian ships no headers.
 *
 * tcmu-runner loads any handler_*.so without asking for a version, so layout is all there is to agree on: every offset
 * that is used is asserted here, and tests/integration/tcmu_abi.sh compares all of this with the headers of Debian's
 * source package. Between 1.5.0 and 1.6.2 nothing here differs. x86-64 and other LP64 machines. */
#ifndef MYFS_TCMU_ABI_H
#define MYFS_TCMU_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

#define TCMU_ABI_VERSION "1.5.4"

struct tcmu_device; /* opaque */

/* Status of a command; TCMU_STS_PASSTHROUGH_ERR: CHECK CONDITION with what is in sense_buf. */
enum {
	TCMU_STS_ASYNC_HANDLED = -2,
	TCMU_STS_NOT_HANDLED = -1,
	TCMU_STS_OK = 0,
	TCMU_STS_NO_RESOURCE,
	TCMU_STS_PASSTHROUGH_ERR,
	TCMU_STS_BUSY,
};

#define TCMU_SENSE_BYTES 96

struct tcmulib_cmd {
	uint16_t cmd_id;
	uint8_t *cdb;
	struct iovec *iovec;
	size_t iov_cnt;
	uint8_t sense_buf[TCMU_SENSE_BYTES];
	void *hm_private;
};
_Static_assert(offsetof(struct tcmulib_cmd, cdb) == 8, "tcmulib_cmd.cdb");
_Static_assert(offsetof(struct tcmulib_cmd, iovec) == 16, "tcmulib_cmd.iovec");
_Static_assert(offsetof(struct tcmulib_cmd, iov_cnt) == 24, "tcmulib_cmd.iov_cnt");
_Static_assert(offsetof(struct tcmulib_cmd, sense_buf) == 32, "tcmulib_cmd.sense_buf");
_Static_assert(offsetof(struct tcmulib_cmd, hm_private) == 128, "tcmulib_cmd.hm_private");
_Static_assert(sizeof(struct tcmulib_cmd) == 136, "tcmulib_cmd");

struct tcmu_list_node { /* ccan/list */
	struct tcmu_list_node *next, *prev;
};

struct tcmur_cmd {
	struct tcmulib_cmd *lib_cmd;
	struct iovec *iovec; /* these four: the runner's compound commands */
	size_t iov_cnt;
	void *iov_base_copy;
	void *cmd_state;
	size_t requested;
	struct tcmu_list_node cmds_list_entry;
	struct timespec start_time;
	bool timed_out;
	void (*done)(struct tcmu_device *dev, struct tcmur_cmd *cmd, int ret);
};
_Static_assert(offsetof(struct tcmur_cmd, lib_cmd) == 0, "tcmur_cmd.lib_cmd");
_Static_assert(offsetof(struct tcmur_cmd, cmd_state) == 32, "tcmur_cmd.cmd_state");
_Static_assert(offsetof(struct tcmur_cmd, cmds_list_entry) == 48, "tcmur_cmd.cmds_list_entry");
_Static_assert(offsetof(struct tcmur_cmd, start_time) == 64, "tcmur_cmd.start_time");
_Static_assert(offsetof(struct tcmur_cmd, done) == 88, "tcmur_cmd.done");
_Static_assert(sizeof(struct tcmur_cmd) == 96, "tcmur_cmd");

enum tcmulib_cfg_type { TCMULIB_CFG_DEV_CFGSTR, TCMULIB_CFG_DEV_SIZE, TCMULIB_CFG_WRITE_CACHE };

struct tcmulib_cfg_info {
	enum tcmulib_cfg_type type;
	union {
		uint64_t dev_size;
		char *dev_cfgstring;
		bool write_cache;
	} data;
};
_Static_assert(offsetof(struct tcmulib_cfg_info, data) == 8, "tcmulib_cfg_info.data");
_Static_assert(sizeof(struct tcmulib_cfg_info) == 16, "tcmulib_cfg_info");

struct tcmur_handler {
	const char *name, *subtype, *cfg_desc;
	void *opaque;
	bool (*check_config)(const char *cfgstring, char **reason); /* reason: malloc'ed */
	int (*reconfig)(struct tcmu_device *dev, struct tcmulib_cfg_info *cfg);
	int (*open)(struct tcmu_device *dev, bool reopen);
	void (*close)(struct tcmu_device *dev);
	int nr_threads; /* 0: callouts run in the ring thread and complete later, from any thread */
	int (*handle_cmd)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
	int (*read)(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iov, size_t iov_cnt, size_t len,
		    off_t off);
	int (*write)(struct tcmu_device *dev, struct tcmur_cmd *cmd, struct iovec *iov, size_t iov_cnt, size_t len,
		     off_t off);
	int (*flush)(struct tcmu_device *dev, struct tcmur_cmd *cmd);
	int (*unmap)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len);
	int (*writesame)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len, struct iovec *iov,
			 size_t iov_cnt);
	int (*caw)(struct tcmu_device *dev, struct tcmur_cmd *cmd, uint64_t off, uint64_t len, struct iovec *iov,
		   size_t iov_cnt);
	int (*report_event)(struct tcmu_device *dev);
	int (*lock)(struct tcmu_device *dev, uint16_t tag);
	int (*unlock)(struct tcmu_device *dev);
	int (*get_lock_tag)(struct tcmu_device *dev, uint16_t *tag);
	int (*get_lock_state)(struct tcmu_device *dev);
	bool _is_dbus_handler;
	bool (*update_logdir)(void);
	int (*init)(void);
	void (*destroy)(void);
};
_Static_assert(offsetof(struct tcmur_handler, check_config) == 32, "tcmur_handler.check_config");
_Static_assert(offsetof(struct tcmur_handler, reconfig) == 40, "tcmur_handler.reconfig");
_Static_assert(offsetof(struct tcmur_handler, open) == 48, "tcmur_handler.open");
_Static_assert(offsetof(struct tcmur_handler, close) == 56, "tcmur_handler.close");
_Static_assert(offsetof(struct tcmur_handler, nr_threads) == 64, "tcmur_handler.nr_threads");
_Static_assert(offsetof(struct tcmur_handler, handle_cmd) == 72, "tcmur_handler.handle_cmd");
_Static_assert(offsetof(struct tcmur_handler, read) == 80, "tcmur_handler.read");
_Static_assert(offsetof(struct tcmur_handler, write) == 88, "tcmur_handler.write");
_Static_assert(offsetof(struct tcmur_handler, flush) == 96, "tcmur_handler.flush");
_Static_assert(offsetof(struct tcmur_handler, _is_dbus_handler) == 168, "tcmur_handler._is_dbus_handler");
_Static_assert(offsetof(struct tcmur_handler, destroy) == 192, "tcmur_handler.destroy");
_Static_assert(sizeof(struct tcmur_handler) == 200, "tcmur_handler");

/* ---- exported by the tcmu-runner program ---- */
int tcmur_register_handler(struct tcmur_handler *handler);
void tcmur_cmd_complete(struct tcmu_device *dev, void *cmd, int rc);
/* A handler's pointer. tcmu_dev_set_private is the runner's own: never call that one. */
void tcmur_dev_set_private(struct tcmu_device *dev, void *p);
void *tcmur_dev_get_private(struct tcmu_device *dev);
int tcmur_dev_update_size(struct tcmu_device *dev, uint64_t new_size);

/* ---- libtcmu.so.2 ---- */
char *tcmu_dev_get_cfgstring(struct tcmu_device *dev); /* "myfs/vol/lun"; the library's */
const char *tcmu_dev_get_uio_name(struct tcmu_device *dev);
uint64_t tcmu_dev_get_num_lbas(struct tcmu_device *dev);
void tcmu_dev_set_num_lbas(struct tcmu_device *dev, uint64_t num_lbas);
uint32_t tcmu_dev_get_block_size(struct tcmu_device *dev);
void tcmu_dev_set_max_xfer_len(struct tcmu_device *dev, uint32_t len); /* in blocks */
void tcmu_dev_set_max_unmap_len(struct tcmu_device *dev, uint32_t len);
void tcmu_dev_set_opt_unmap_gran(struct tcmu_device *dev, uint32_t len, bool split);
void tcmu_dev_set_unmap_gran_align(struct tcmu_device *dev, uint32_t len);
void tcmu_dev_set_unmap_enabled(struct tcmu_device *dev, bool enabled);
void tcmu_dev_set_write_cache_enabled(struct tcmu_device *dev, bool enabled);
void tcmu_dev_set_solid_state_media(struct tcmu_device *dev, bool solid_state);
int tcmu_cfgfs_dev_get_attr_int(struct tcmu_device *dev, const char *name);
/* The unit's serial number, the caller's to free; NULL: cannot be read. */
char *tcmu_cfgfs_dev_get_wwn(struct tcmu_device *dev);

#define TCMU_LOG_ARGS struct tcmu_device *dev, const char *function, int line, const char *format, ...
__attribute__((format(printf, 4, 5))) void tcmu_err_message(TCMU_LOG_ARGS);
__attribute__((format(printf, 4, 5))) void tcmu_warn_message(TCMU_LOG_ARGS);
__attribute__((format(printf, 4, 5))) void tcmu_info_message(TCMU_LOG_ARGS);

#endif
