/* world.h - a virtual world for the real code: time that only moves when nobody has work, hosts that can lose power, links that can
 * stall or be cut, disks that forget what was not synced. One seed decides everything, so the same seed is the same run.
 *
 *   struct world
 *     events (heap by time, then by age) <- everything that happens later: bytes arriving, disk operations ending, timers
 *     hosts: fiber group, struct net, disks, boot id
 *
 * The world is a backend of core/loop: the loop asks it to wait, it runs the next event and moves the clock there. One loop runs
 * all hosts; what a host's fibers hold dies with its fiber group. */
#ifndef MYFS_SIM_WORLD_H
#define MYFS_SIM_WORLD_H

#include "core/base/gfid.h"
#include "core/base/list.h"
#include "core/base/prng.h"
#include "core/loop/loop.h"
#include "core/loop/net.h"
#include "core/loop/store.h"

struct world;
struct host;
struct disk;

/* Makes the world and its loop on this thread. */
struct world *world_new(uint64_t seed);
void world_free(struct world *w);
struct loop *world_loop(struct world *w);
struct prng *world_prng(struct world *w);
uint64_t world_now_ns(const struct world *w);
void world_wall_jump(struct world *w, int64_t ns); /* the calendar's clock, which nothing may depend on */

/* Runs fn(arg) outside fibers at now + delay. An event that belongs to a host dies with it (host NULL: never). */
void world_after(struct world *w, struct host *h, uint64_t delay_ns, void (*fn)(void *arg), void *arg);

/* One line of the run's history; the last TRACE_LINES are kept. The hash of all lines identifies the run. */
void world_trace(struct world *w, const char *fmt, ...) PRINTF(2, 3);
uint64_t world_trace_hash(const struct world *w);
void world_trace_dump(const struct world *w);
void world_trace_echo(struct world *w, bool on); /* every line to stderr as it happens */

/* ---- hosts ---- */
struct host *host_new(struct world *w, const char *name);
const char *host_name(const struct host *h);
struct world *host_world(const struct host *h);
struct net *host_net(struct host *h);
bool host_is_up(const struct host *h);
struct gfid host_boot_id(const struct host *h);
/* Runs fn(arg) as a fiber of the host. */
void host_spawn(struct host *h, const char *name, fiber_fn *fn, void *arg);
/* SIGKILL of everything on it: fibers die where they are, peers see their connections reset, disks keep what was written. */
void host_kill(struct host *h);
/* Power loss: as host_kill, and every disk of the host forgets part of what was not synced; a new boot id. Peers see nothing until they time out or
 * the host is up again. */
void host_power_loss(struct host *h);
/* After either: the host may run fibers again (host_spawn). */
void host_up(struct host *h);

/* ---- network: bytes from a to b ---- */
/* A blocked direction holds bytes back (and delivers them later); cut ends every connection between the two. */
void link_block(struct world *w, struct host *a, struct host *b, bool blocked);
void link_cut(struct host *a, struct host *b);
/* Added to every delivery from a to b. */
void link_delay(struct host *a, struct host *b, uint64_t extra_ns);
/* A whole frame of core/rpc that has arrived and is about to be handed to its receiver. */
struct message {
	struct host *from, *to;
	uint16_t type;
	bool reply;
	uint32_t status;        /* of a reply */
};
enum message_fate { MESSAGE_ARRIVES, MESSAGE_CUTS }; /* CUTS: instead of it, the connection ends on both sides */
typedef enum message_fate message_fn(void *arg, const struct message *m); /* outside fibers */
/* Asks fn about every frame from now on (NULL: nobody). Every frame is a segment of its own then. */
void world_on_message(message_fn *fn, void *arg);

/* Used by host.c: the network side of a host that died. quiet: peers are not told. */
struct sim_net;
struct sim_net *sim_net_new(struct host *h);
struct net *sim_net_iface(struct sim_net *n);
void sim_net_host_down(struct sim_net *n, bool quiet);
void sim_net_host_up(struct sim_net *n);
void sim_net_free(struct sim_net *n);

/* ---- disks ---- */
struct disk *disk_new(struct host *h, const char *name, uint64_t capacity_bytes);
/* A store on the disk's root; valid until the host dies or store_close. */
int disk_store(struct disk *d, struct store **ret);
uint64_t disk_used(const struct disk *d);
uint64_t disk_capacity(const struct disk *d);
/* A new disk becomes what `from`, whose host is down, holds. `from` must outlive it. */
void disk_clone(struct disk *d, const struct disk *from);
/* A disk of no host with the same content, to clone others from. */
struct disk *disk_image(const struct disk *from);
void disk_wipe(struct disk *d);                          /* a new, empty disk in the slot */
void disk_set_slow(struct disk *d, double probability, uint64_t extra_ns);
/* The next `n` operations of a kind fail with EIO (then the disk works again). */
enum disk_fault { DISK_FAIL_READ, DISK_FAIL_WRITE, DISK_FAIL_SYNC };
void disk_fail(struct disk *d, enum disk_fault kind, unsigned n);
/* Pages that a failed sync left in the cache, as clean as the kernel knows, leave it: all of them, or one in two. */
void disk_evict(struct disk *d, bool all);
/* What later losses of power leave of what was not synced: everything, nothing, or (as at first) what chance decides. */
enum disk_crash { DISK_CRASH_CHANCE, DISK_CRASH_KEEPS, DISK_CRASH_LOSES };
void disk_set_crash(struct disk *d, enum disk_crash crash);
void disk_set_capacity(struct disk *d, uint64_t bytes);  /* less than used: everything new is ENOSPC */
void disk_set_inodes_left(struct disk *d, uint64_t n);   /* files and directories that may still be made; UINT64_MAX: any number */
/* Flips a bit in a stored, non-hole block of a regular file whose path contains `needle`, chosen by the world's randomness. False when there is none. */
bool disk_bit_rot(struct disk *d, const char *needle);
/* The next write to a matching file is lost (reported done), or lands 4 KiB further. */
enum disk_lie { DISK_LOSE_WRITE, DISK_MISDIRECT_WRITE };
void disk_lie_once(struct disk *d, enum disk_lie lie, const char *needle);
/* Used by host.c. */
void disk_host_down(struct disk *d, bool power_lost);
void disk_free(struct disk *d);
void host_add_disk(struct host *h, struct disk *d);

#endif
