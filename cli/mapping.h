/* mapping.h - which LUNs this host's kernel has as devices, as the kernel and a small file for each say.
 *
 *   RUN/map/VOL:LUN.json   what was asked for and the device (RUN = $MYFS_RUN_DIR or /run/myfs)
 *   RUN/map/VOL:LUN.pid    its keeper (NBD only; cli/keeper.h)
 *   RUN/map/VOL:LUN.log    what the keeper had to say
 *
 * The kernel is the judge: an NBD device is ours while /sys/block/nbdN/backend reads "myfs:VOL/LUN". A file without its device is
 * left over and is removed by the next map. */
#ifndef MYFS_CLI_MAPPING_H
#define MYFS_CLI_MAPPING_H

#include <jansson.h>

#include "core/base/base.h"
#include "core/base/err.h"

#define MAPPING_TEXT 512
#define MAPPING_URIS 8

struct mapping {
	char spec[160];
	char proto[8];              /* "nbd" or "iscsi" */
	char device[64];            /* /dev/nbd0; "" while there is none */
	int index;                  /* N of /dev/nbdN */
	char uris[MAPPING_URIS][MAPPING_TEXT]; /* NBD addresses, the best first; iSCSI: portals */
	size_t n_uris;
	char target[256];           /* iSCSI: IQN */
	uint64_t size_bytes, block_bytes;
	uint64_t io_timeout_s, reattach_timeout_s;
	uint64_t connections;
	bool read_only;
	char state[16];             /* connected, reconnecting, lost */
	uint64_t since_ns;          /* wall clock, when it was mapped */
	uint64_t reattached;        /* how often a connection was replaced */
};

enum mapping_file { MAPPING_JSON, MAPPING_PID, MAPPING_LOG };
/* Returns out. */
char *mapping_path(const char *spec, enum mapping_file which, char out[MAPPING_TEXT]);
/* What the kernel keeps with the device. Returns out. */
char *mapping_backend(const char *spec, char out[MAPPING_TEXT]);

/* Pure. mapping_of_json: 0 or -EBADMSG. */
json_t *mapping_to_json(const struct mapping *m);
int mapping_of_json(const json_t *doc, struct mapping *ret);

/* Makes the directory when needed; replaces the file in one step. 0 or -errno with text. */
int mapping_save(const struct mapping *m, struct err *e);
/* 0, -ENOENT, -EBADMSG. */
int mapping_load(const char *spec, struct mapping *ret);
void mapping_forget(const char *spec);
/* All with a file; at most cap. Number found. */
size_t mapping_list(struct mapping *ret, size_t cap);

/* "/dev/nbd3" -> 3, -1 when it is not such a name. Pure. */
int nbd_device_index(const char *device);
/* True while the kernel has /dev/nbdINDEX connected for this LUN. */
bool nbd_device_is(int index, const char *spec);

#endif
