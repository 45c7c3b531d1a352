/* schedule.h - one run of the simulator: a cluster, clients, faults, an oracle; all of it decided by one seed.
 *
 *   schedule.c   sets up, lets it run, ends the faults, demands that everything completes, calls verify
 *   clients.c    reads, writes, flushes on whoever owns the LUN        nemesis.c   faults and their ends
 *   verify.c     every block is legal, every row is a code word
 *
 * Modes. live: faults stay within what the set survives (or hit the whole cluster at once), so everything must complete and heal. safe: anything
 * may break; then nothing need complete, but a byte that is read must be right. */
#ifndef MYFS_SIM_SCHEDULE_H
#define MYFS_SIM_SCHEDULE_H

#include "tests/sim/cluster.h"
#include "tests/sim/oracle.h"

#define SIM_CLIENTS_MAX 8u
#define SIM_AREAS 4u
#define SIM_IO_MAX MIB(1)
#define SIM_JOURNAL_BYTES MIB(4)

enum fault {
	FAULT_KILL, FAULT_POWER, FAULT_KILL_ALL, FAULT_POWER_ALL, FAULT_WIPE, FAULT_GATEWAY_KILL, FAULT_GATEWAY_CLOSE, FAULT_GATEWAY_STEAL, FAULT_GATEWAY_SPLIT, FAULT_GATEWAY_DUEL, FAULT_AMBUSH,
	FAULT_BLOCK, FAULT_BLOCK_ONE_WAY, FAULT_CUT, FAULT_CUT_ALL, FAULT_DELAY, FAULT_SLOW_DISK, FAULT_STUCK_DISK, FAULT_READ_EIO, FAULT_WRITE_EIO,
	FAULT_SYNC_EIO, FAULT_NO_SPACE, FAULT_ROT, FAULT_LOST_WRITE, FAULT_MISDIRECTED, FAULT_N
};
const char *fault_name(enum fault f);

enum sim_op { OP_READ, OP_WRITE, OP_ZERO, OP_FLUSH, OP_SCRUB, OP_N };

struct schedule;

struct schedule_config {
	uint64_t seed;
	uint32_t k, r, chunk_bytes;
	bool echo;
	const char *commit;
	void (*course)(struct schedule *s); /* a written one: no load and no faults but what it makes. NULL: what the seed says */
	uint32_t course_blocks;             /* of its area 0; 0: a few */
};

/* What a run leaves behind; in memory shared with the parent. */
struct schedule_result {
	bool done;
	uint64_t hash;
	uint64_t sim_ns;
	uint64_t faults[FAULT_N];
	uint64_t ops[OP_N], failed_ops, takeovers, rollbacks, replays;
	bool live;
};

struct client {
	struct schedule *s;
	struct sim_gateway *gw;
	unsigned index;
	uint64_t turn;
	struct prng prng;
	uint8_t *buffer;         /* SIM_IO_MAX */
};

struct gateway_clients {
	struct client v[SIM_CLIENTS_MAX + 1]; /* and one that only reads: clients_watch */
	unsigned running;
	bool watched;
};

struct brick_state {
	uint64_t revive_ns;      /* UINT64_MAX: nothing planned */
	uint64_t calm_ns;        /* links, delays, slowness and space back to normal; UINT64_MAX: are normal */
	bool blocked;
	uint64_t stuck_ns;       /* an operation its disk began may take until then */
	bool may_fail;           /* an EIO was injected: the engine may give up */
	bool sync_fails;         /* of these, a sync: what it had not made durable may be gone when it starts again */
	bool lost_memory;        /* and the owner's view may still count on what it had */
	struct gfid lost_boot;
};

struct view_seen {               /* for the trace: what the owner said last */
	uint64_t turn, epoch, ver;
	uint32_t insync, live;
	uint64_t serving;
};

struct schedule {
	struct schedule_config cfg;
	struct schedule_result *result;
	struct world *world;
	struct cluster cluster;
	struct oracle *oracle;
	struct prng prng;        /* the nemesis's own */
	bool live;
	bool wide;               /* large areas, long faults, many operations; else a few rows that everybody meets on, and short ones */

	/* clients */
	unsigned n_clients;
	uint64_t think_ns;
	double weight[OP_N];
	double p_small, p_whole, p_fua, p_area0;
	struct oracle_area areas[SIM_AREAS];
	struct gateway_clients clients[SIM_MAX_GATEWAYS];
	uint64_t ops_done, ops_wanted;
	bool quiesce;
	bool no_space_seen;
	uint64_t flushed_at_k;   /* a view with K in sync that a flush completed under */

	/* nemesis */
	double fault_weight[FAULT_N];
	uint64_t fault_gap_ns, faults_done, faults_wanted;
	bool early_faults;       /* also while the LUN is opened for the first time */
	struct brick_state bricks[SIM_MAX_BRICKS];
	uint32_t bad;            /* bricks that may lack something: not to be counted on */
	uint32_t rotten;         /* bricks whose disks have lied */
	uint32_t gone;           /* bricks that never return */
	uint64_t guard_turn;     /* the turn whose owner alone remembers what was not flushed; 0: none */
	uint32_t split_gateway, split_brick; /* which sees only which; SIM_MAX_GATEWAYS: none */
	uint64_t gateway_next_ns;/* when the next gateway is to be started; UINT64_MAX: one runs */
	struct view_seen view_seen;
	uint64_t spawned;        /* progress of helpers */
	struct ambush {          /* a fault that waits for a message */
		bool armed;
		uint16_t type;
		bool reply;
		unsigned count;      /* how many of them pass */
		unsigned action;
		uint32_t brick, gateway; /* who met, when it was sprung */
	} ambush;
};

/* Runs it; returns only when no promise was broken. The disk images of the layout must exist (cluster_images). */
void schedule_run(const struct schedule_config *cfg, struct schedule_result *result);
void schedule_violation(struct schedule *s, const char *fmt, ...) PRINTF(2, 3) __attribute__((noreturn));
/* For handlers of fatal signals. NULL when none runs. */
struct schedule *schedule_current(void);
void schedule_report(const struct schedule *s, const char *what);

/* For written courses: virtual time goes on a little; until all is whole again (violation when that does not come); the proof. */
void schedule_step(struct schedule *s) YIELDS;
void schedule_settle(struct schedule *s) YIELDS;
void schedule_verify(struct schedule *s, const char *when) YIELDS;

/* clients.c */
void clients_init(struct schedule *s);
void clients_serve(void *arg, struct sim_gateway *gw) YIELDS;
uint32_t clients_hot_brick(struct schedule *s, const struct sim_gateway *gw); /* it holds the first blocks of area 0 */
/* Somebody who reads the hot blocks when brick b holds them, as long as this gateway thinks that it serves. */
void clients_watch(struct schedule *s, struct sim_gateway *gw, uint32_t b);
void clients_forget(struct schedule *s, uint32_t gateway); /* its host was killed */
unsigned clients_running(const struct schedule *s);

/* ambush.c */
void ambush_init(struct schedule *s);
void ambush_arm(struct schedule *s);

/* nemesis.c */
void nemesis_init(struct schedule *s);
/* One step every few milliseconds: what is due, what is noticed, and, when faults is true, perhaps another fault. */
void nemesis_step(struct schedule *s, bool faults);
void nemesis_end(struct schedule *s);                      /* everything works again from now on */
void nemesis_power_all(struct schedule *s, bool gateways);
void nemesis_wipe(struct schedule *s, uint32_t b);
void nemesis_rot(struct schedule *s, uint32_t b, const char *needle); /* a bit flips in a file whose path contains needle */
bool nemesis_may_break(const struct schedule *s, uint32_t b);
bool nemesis_may_break_all(const struct schedule *s);
void nemesis_stop_brick(struct schedule *s, uint32_t b, bool power);
void nemesis_kill_gateway(struct schedule *s, uint32_t g);
void nemesis_cut(struct schedule *s, uint32_t b); /* somebody ended its connections: the account */
void nemesis_kill_all(struct schedule *s);
void nemesis_lose(struct schedule *s, uint32_t bricks); /* they are down, and stay it */
bool nemesis_whole(struct schedule *s);                    /* everything is up, in sync and served */

/* verify.c: on the owner's host. */
void verify_all(struct schedule *s) YIELDS;

#endif
