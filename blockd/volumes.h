/* volumes.h - the started volumes of the registry, open on this gateway.
 *
 * A volume is kept while somebody holds it (volume_get .. volume_put); one that was stopped or changed is not found any
 * more, its LUNs are revoked, and it is closed when the last holder lets go. */
#ifndef MYFS_BLOCKD_VOLUMES_H
#define MYFS_BLOCKD_VOLUMES_H

#include "blockd/blockd.h"

struct volume {
	struct list node;
	struct blockd *d;
	struct reg_volume row;
	struct ec_brick_addr *bricks; /* [bricks_n], by set and index */
	size_t bricks_n;
	struct dht_volume *dht;
	struct ec_geometry geo;
	unsigned holders;
	bool closing;
	struct waitq idle; /* woken when holders falls to 0 */
	bool names_ready;  /* its directories exist and its namespace domain is open */
	struct fmutex names_lock;
	struct fmutex changing; /* one change of its LUNs' existence at a time: catalogue.c */
	bool heal_paused;
	uint64_t heal_limit;
	uint64_t losses; /* of acknowledged data in its LUNs, found since it is open here */
	uint64_t healed_closed_bytes; /* healed in LUNs that are closed again */
};

/* Follows the registry; only reconcile.c calls it. */
void volumes_refresh(struct blockd *d) YIELDS;
void volumes_close_all(struct blockd *d) YIELDS;
/* NULL when there is no such started volume. */
struct volume *volume_get(struct blockd *d, const char *name);
void volume_put(struct volume *v);
/* Directories and layouts exist (made when the volume is new). */
int volume_names(struct volume *v, struct err *e) YIELDS;
int volume_heal_set(struct volume *v, bool paused, uint64_t limit, struct err *e);
/* Bricks that do not answer, as text: "node3:/b5 (connection refused), ..." Returns how many. */
unsigned volume_missing(const struct volume *v, char *out, size_t cap);
/* The set that has fewest bricks connected: how many. */
unsigned volume_fewest_connected(const struct volume *v);

#endif
