/* dht_priv.h - what the files of dht/ share; grouped by the file that owns it. */
#ifndef MYFS_DHT_PRIV_H
#define MYFS_DHT_PRIV_H

#include "dht/dht.h"
#include "dht/layout.h"

/* ---- volume.c ---- */
struct dht_names {                /* the namespace domain on one set */
	struct ec_domain *domain; /* NULL until first used, and while it is being taken over again */
	struct fmutex lock;       /* held while it is opened or closed */
};

struct dht_volume {
	struct loop *loop;
	char name[64];
	struct gfid uuid;
	uint32_t sets;
	uint64_t shard_bytes;
	struct ec_set **set;      /* [sets] */
	struct dht_names *names;  /* [sets] */
	struct dht_layout shards; /* layout of /.shard; n == 0 until loaded */
	struct fmutex layout_lock;
};

/* ---- namespace.c ---- */
/* Closes the namespace domains. */
void dht_names_close(struct dht_volume *v) YIELDS;
/* Makes sure dht_place() may be called: a volume of several sets reads the layout of /.shard once. */
int dht_layout_load(struct dht_volume *v, struct err *e) YIELDS;
/* Which set holds a shard. */
uint32_t dht_place(const struct dht_volume *v, const struct gfid *gfid, uint32_t shard);

#endif
