/* cluster.h - one brick set in the virtual world: brick hosts that run the real brick engine, gateway hosts that run the real ec engine.
 *
 *   host b0..bN-1: disk -> brick_open -> brick_host -> rpc_server "b0".."bN-1"
 *   host g0..gG-1: ec_set -> ec_domain -> whatever `serve` starts on it (clients)
 *
 * Invariant: C1 pointers into a host's engine (brick, set, domain) are NULL whenever the host is down; look at them anew after every YIELDS. */
#ifndef MYFS_SIM_CLUSTER_H
#define MYFS_SIM_CLUSTER_H

#include "brick/brick.h"
#include "ec/ec.h"
#include "tests/sim/world.h"

#define SIM_MAX_BRICKS 12u
#define SIM_MAX_GATEWAYS 3u
#define SIM_DISK_BYTES MIB(512)

struct cluster;

struct sim_brick {
	struct cluster *cluster;
	uint32_t index;
	struct host *host;
	struct disk *disk;
	struct gfid uuid;
	struct brick_witness witness; /* in the host's memory */
	struct gfid boot;      /* what the brick last said at HELLO: new when its memory was lost */
	struct address address;
	struct brick *brick;   /* NULL: not open */
	bool formatted;
	bool serving;
	bool failed;           /* the engine stopped by itself, or did not open: why */
	bool damaged;          /* it did not open because its state is lost: must be rebuilt empty */
	char why[200];
	uint64_t checkpoint_bytes;
	unsigned starts;
};

struct sim_gateway {
	struct cluster *cluster;
	uint32_t index;
	struct host *host;
	struct ec_set *set;
	struct ec_domain *domain;
	bool running;          /* its main fiber has work: opening, serving or closing */
	bool opening;
	bool stop;             /* asked to close in order */
	uint64_t turn;         /* number of its latest open; the highest served turn is the owner */
};

struct cluster_config {
	uint32_t k, r, chunk_bytes, gateways;
	uint64_t journal_bytes;
	uint64_t stall_ns, idle_clean_ns; /* ec_set_config's */
	struct disk *const *images; /* formatted disks to begin with, by brick; NULL: bricks format theirs */
	/* On a fiber of the gateway's host, its domain just opened. Starts what uses it; ends when that has ended (gw->stop asks). */
	void (*serve)(void *arg, struct sim_gateway *gw); /* YIELDS */
	void *arg;
};

struct cluster {
	struct world *world;
	struct cluster_config cfg;
	uint32_t n, tolerates;
	struct gfid volume, lun;
	struct sim_brick bricks[SIM_MAX_BRICKS];
	struct sim_gateway gateways[SIM_MAX_GATEWAYS];
	uint64_t turns, epoch; /* of the latest turn */
	bool created;          /* the domain has been served once */
};

void cluster_init(struct cluster *c, struct world *w, const struct cluster_config *cfg);
/* Disks as bricks of this layout format them, one per brick, kept for the life of the process: formatting is the same for every seed. No world
 * exists meanwhile. */
struct disk *const *cluster_images(uint32_t k, uint32_t r, uint32_t chunk_bytes, uint64_t journal_bytes);

/* Brings the host up if it is down and starts the brick on it. */
void cluster_brick_start(struct cluster *c, uint32_t i);
void cluster_brick_kill(struct cluster *c, uint32_t i, bool power_loss);
/* A new, empty disk, formatted under the same identity (by the next start when there are no images); the host is down. */
void cluster_brick_wipe(struct cluster *c, uint32_t i);
uint32_t cluster_serving(const struct cluster *c); /* mask */
/* The brick makes its journal durable now, as a request would. */
void cluster_brick_sync(struct cluster *c, uint32_t i);
/* Bytes of rows it has promised to write and has not yet. */
uint64_t cluster_brick_promised(const struct cluster *c, uint32_t i);
/* The disk is about to be full: what was promised still fits, `more` new bytes too. */
void cluster_brick_fill(struct cluster *c, uint32_t i, uint64_t more);

void cluster_gateway_start(struct cluster *c, uint32_t i);
void cluster_gateway_kill(struct cluster *c, uint32_t i);
/* The gateway of the latest turn whose domain is open, or NULL. */
struct sim_gateway *cluster_owner(struct cluster *c);
bool cluster_opening(const struct cluster *c); /* somebody takes the LUN over at this moment */

#endif
