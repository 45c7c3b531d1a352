/* cases_names.c - names and what lies behind them while bricks and owners die: case 34. The gateway opens the volume's namespace and the file besides the LUN. */
#include "brick/brick_priv.h"
#include "brick/ns.h"
#include "tests/sim/cases.h"

#define FILES 3u
#define BYTES 65536u

/* What a gateway does with names, on a fiber of its host. */
struct job {
	struct schedule *s;
	struct sim_gateway *gw;
	uint64_t turn;
	void (*run)(struct job *j) YIELDS;
	struct ec_domain *names;
	int rc;
	bool done;
};

static unsigned nth; /* NSOP that the owner dies at */

/* They are never used again. */
static struct gfid file_gfid(unsigned n)
{
	return (struct gfid){{0x34, [14] = (uint8_t)nth, [15] = (uint8_t)(n + 1)}};
}

static int change(struct ec_domain *names, uint32_t op, const struct gfid *parent, const char *name, const struct gfid *gfid) YIELDS
{
	struct bp_nsop_args a = {.op = op, .name = (char *)(uintptr_t)name, .name2 = (char *)(uintptr_t) ""};
	struct err e = ERR_INIT;
	memcpy(a.parent, parent->b, 16);
	memcpy(a.gfid, gfid->b, 16);
	return ec_ns_apply(names, &a, &e);
}

static const char *name_of(unsigned n)
{
	static const char *const NAMES[FILES] = {"deleted", "kept", "new"};
	return NAMES[n];
}

static int make(struct ec_domain *names, unsigned n) YIELDS
{
	struct gfid g = file_gfid(n), dir = GFID_BLOCK_DIR;
	return change(names, BP_NS_MKFILE, &dir, name_of(n), &g);
}

/* A file of two shards, durable. */
static int put(struct job *j, unsigned n) YIELDS
{
	static uint8_t block[BYTES];
	struct iovec v = {block, sizeof(block)};
	const struct iov data = {.v = &v, .n = 1};
	struct ec_domain_options o = {.gfid = file_gfid(n), .create = true};
	struct err e = ERR_INIT;
	struct ec_domain *d;
	memset(block, (int)n + 1, sizeof(block));
	int rc = make(j->names, n);
	if (rc == 0)
		rc = ec_domain_open(j->gw->set, &o, &d, &e);
	if (rc < 0)
		return rc;
	for (uint32_t shard = 0; shard <= 3 && rc == 0; shard += 3)
		rc = ec_write(d, shard, 0, data, true);
	ec_domain_close(d);
	return rc;
}

static void first_files(struct job *j) YIELDS
{
	struct gfid root = GFID_ROOT, dir = GFID_BLOCK_DIR, shards = GFID_SHARD_DIR;
	j->rc = change(j->names, BP_NS_MKDIR, &root, "block", &dir);
	if (j->rc == 0)
		j->rc = change(j->names, BP_NS_MKDIR, &root, ".shard", &shards);
	for (unsigned n = 0; n < 2 && j->rc == 0; n++)
		j->rc = put(j, n);
}

static void delete_and_make(struct job *j) YIELDS
{
	struct gfid g = file_gfid(0), dir = GFID_BLOCK_DIR;
	j->rc = change(j->names, BP_NS_UNLINK, &dir, name_of(0), &g);
	if (j->rc == 0)
		j->rc = put(j, 2);
}

static void delete_rest(struct job *j) YIELDS
{
	for (unsigned n = 1; n < FILES && j->rc == 0; n++) {
		struct gfid g = file_gfid(n), dir = GFID_BLOCK_DIR;
		j->rc = change(j->names, BP_NS_UNLINK, &dir, name_of(n), &g);
	}
}

static void until_healed(struct job *j) YIELDS
{
	struct ec_domain_status st;
	do {
		fiber_sleep_until(loop_now_ns() + NS_PER_MS);
		ec_domain_status(j->names, &st);
	} while (!st.serving || st.insync != mask_all(j->s->cluster.n));
}

static void bytes_are_gone(struct job *j) YIELDS
{
	fiber_sleep_until(loop_now_ns() + 10 * NS_PER_S); /* checkpoints: they might bring it back */
	for (unsigned n = 0; n < FILES && j->rc == 0; n++) {
		struct gfid g = file_gfid(n);
		uint64_t bytes = 0;
		unsigned bricks = 0;
		j->rc = ec_set_usage(j->gw->set, &g, &bytes, &bricks);
		must(j->s, j->rc < 0 || bricks == j->s->cluster.n, "every brick tells what it uses");
		must(j->s, j->rc < 0 || (bytes == 0) == (n == 0), "the deleted file takes no space, the others do");
	}
}

static void job_main(void *arg)
{
	struct job *j = arg;
	struct ec_domain_options o = {.gfid = GFID_ROOT, .namespace_domain = true, .create = true};
	struct err e = ERR_INIT;
	j->rc = ec_domain_open(j->gw->set, &o, &j->names, &e);
	if (j->rc == 0) {
		j->run(j);
		ec_domain_close(j->names);
	}
	j->done = true;
}

/* Until it has ended, or its gateway has died: -ECONNRESET. */
static int job_do(struct schedule *s, void (*run)(struct job *j)) YIELDS
{
	struct sim_gateway *gw = owner(s);
	struct job *j = calloc(1, sizeof(*j));
	uint64_t begun = world_now_ns(s->world);
	assert(j != NULL);
	*j = (struct job){.s = s, .gw = gw, .turn = gw->turn, .run = run};
	host_spawn(gw->host, "names", job_main, j);
	while (!j->done) {
		if (gw->turn != j->turn || gw->domain == NULL)
			return -ECONNRESET;
		must(s, world_now_ns(s->world) < begun + 200 * NS_PER_S, "work on names ends");
		schedule_step(s);
	}
	return j->rc;
}

/* Names of the volume's directory as brick b has them. */
static void check_names(struct schedule *s, uint32_t b)
{
	struct bp_nsread_args args = {.op = BP_NS_READDIR, .name = (char *)(uintptr_t) ""};
	struct bp_nsread_res res = {0};
	struct gfid dir = GFID_BLOCK_DIR;
	memcpy(args.gfid, dir.b, 16);
	must(s, ns_read(brick_tree(s->cluster.bricks[b].brick), &args, &res) == 0, "the directory can be read");
	must(s, res.entries.entries_len == 2 && strcmp(res.entries.entries_val[0].name, "kept") == 0 && strcmp(res.entries.entries_val[1].name, "new") == 0,
	     "every brick has the names that were kept and made, not the deleted one");
	xdr_free((xdrproc_t)xdr_bp_nsread_res, &res);
}

static enum message_fate kill_gateway_at(struct schedule *s, uint32_t g, uint32_t b, unsigned n)
{
	(void)b;
	if (n == nth)
		kill_gateway_soon(s, g);
	return MESSAGE_ARRIVES;
}

/* 34: a file is deleted and another one made while a brick is away, the owner of the names dies at any moment of it; the brick returns under the next one: it has
 * the new file, and nothing of the deleted one comes back. */
static void names_while_away(struct schedule *s)
{
	fill(s);
	for (nth = 0; nth < 3 * s->cluster.n; nth += 2) {
		uint32_t away = nth % s->cluster.n;
		must(s, job_do(s, first_files) == 0, "files are made");
		nemesis_stop_brick(s, away, nth % 4 == 0);
		s->bricks[away].revive_ns = world_now_ns(s->world) + 1000 * NS_PER_S;
		trap(s, BP_NSOP, false, kill_gateway_at);
		int rc = job_do(s, delete_and_make);
		trap_off(s);
		must(s, rc == 0 || trapped(), "names can be changed without the brick");
		must(s, rc == 0 || job_do(s, delete_and_make) == 0, "and once more, when the first owner died over it");
		nemesis_kill_gateway(s, owner(s)->index);
		s->bricks[away].revive_ns = world_now_ns(s->world);
		must(s, job_do(s, until_healed) == 0, "the names of the brick that was away are made good");
		for (uint32_t b = 0; b < s->cluster.n; b++)
			check_names(s, b);
		must(s, job_do(s, bytes_are_gone) == 0, "nothing of the deleted file is left");
		must(s, job_do(s, delete_rest) == 0, "the others are deleted");
		schedule_settle(s);
	}
	finish(s);
}

const struct sim_case CASES_NAMES[] = {
	{"case_34_names_while_away", names_while_away, NULL, 0},
	{NULL, NULL, NULL, 0},
};
