/* cases.h - words for written courses of events: requests by hand, and traps on messages. The cases themselves: cases_*.c, listed in README.md. */
#ifndef MYFS_SIM_CASES_H
#define MYFS_SIM_CASES_H

#include "ec/ec_priv.h"
#include "tests/sim/schedule.h"

struct sim_case {
	const char *name;     /* sim.NAME in CTest; NULL ends a list */
	void (*course)(struct schedule *s);
	const char *layout;   /* the one it is written for; NULL: 4+2 */
	uint32_t blocks;      /* of area 0; 0: two stripes, eight blocks at least */
};
extern const struct sim_case CASES_CRASH[], CASES_WORLD[], CASES_RULES[], CASES_LOAD[], CASES_NAMES[];

/* One request of a client of gateway gw, on a fiber of its host; the oracle is told. Lives as long as the process. */
struct op {
	struct schedule *s;
	struct sim_gateway *gw;
	uint64_t turn;
	enum sim_op kind;
	struct oracle_range x;
	bool fua, done;
	uint64_t id;         /* of a write */
	int rc;
};
#define ALL_OF_AREA UINT32_MAX
/* sector and nsectors of area 0, counted from its beginning. */
struct op *op_start(struct schedule *s, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua);
/* The same on a gateway that need not own the LUN any more. */
struct op *op_start_on(struct schedule *s, struct sim_gateway *gw, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua);
/* Runs a request made by hand, on a fiber of its gateway's host. */
void op_do(struct op *o) YIELDS;
/* Until it has ended, or its gateway has died: -ECONNRESET. */
int op_wait(struct op *o) YIELDS;
int op_now(struct schedule *s, enum sim_op kind, uint32_t sector, uint32_t nsectors, bool fua) YIELDS;
/* Number of the write that a read of this sector shows; 0: zeros. */
uint64_t content(struct schedule *s, uint32_t sector) YIELDS;

void must(struct schedule *s, bool so, const char *what);
struct sim_gateway *owner(struct schedule *s) YIELDS;        /* waits until somebody serves */
void wait_until_out(struct schedule *s, uint32_t bricks) YIELDS; /* of the owner's view */
/* Kills it, has it miss a write of everything and leave the view. It stays away until the course sets its revive_ns. */
void leave_behind(struct schedule *s, uint32_t brick) YIELDS;
void wait_ms(struct schedule *s, unsigned ms) YIELDS;
/* The brick that holds chunk (k..n-1: parity) of the first stripe of area 0. */
uint32_t brick_of_chunk(struct schedule *s, uint32_t chunk);
void finish(struct schedule *s) YIELDS;                      /* all up, healed, every row proven */
uint64_t fill(struct schedule *s) YIELDS;                    /* a known state: every block written, by the write returned, and durable */
void checkpointed(struct schedule *s) YIELDS;                /* everything is in the base files, nothing in memory: what is read comes from disks */
/* Brick b writes to its base files what may leave its memory: begins to, or has. */
void checkpoint_begin(struct schedule *s, uint32_t b);
void checkpoint_now(struct schedule *s, uint32_t b) YIELDS;
/* Bytes between gateway g and these bricks are held back, both ways. */
void links(struct schedule *s, uint32_t g, uint32_t bricks, bool blocked);

/* fn is asked about every message of a type (and direction), n counts from 0. It may kill: by *_soon, which act at this instant, before anybody handles it. */
typedef enum message_fate trap_fn(struct schedule *s, uint32_t gateway, uint32_t brick, unsigned n);
void trap(struct schedule *s, uint16_t type, bool reply, trap_fn *fn);
void trap_off(struct schedule *s);
bool trapped(void); /* somebody called a *_soon since trap() */
bool wait_trapped(struct schedule *s) YIELDS; /* false: nobody did within two seconds */
void kill_gateway_soon(struct schedule *s, uint32_t gateway);
void stop_brick_soon(struct schedule *s, uint32_t brick, bool power);
void power_all_soon(struct schedule *s, bool gateways);

#endif
