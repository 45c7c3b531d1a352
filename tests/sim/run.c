/* run.c - myfs-sim: runs schedules, in child processes by the batch, and says which seed broke which promise.
 *
 * A child runs its seeds one after the other, each from the same memory (sandbox.h), and tells in shared memory how far it is. It ends with 0, or prints the
 * violation and ends with anything else; then another child goes on behind that seed. */
#include <errno.h>
#include <execinfo.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/mutate.h"
#include "tests/sim/cases.h"
#include "tests/sim/sandbox.h"
#include "tests/sim/schedule.h"

#ifndef MYFS_COMMIT
#define MYFS_COMMIT "unknown"
#endif
#define JOBS_MAX 64u
#define CPU_SECONDS 60
#define BATCH 1024u /* schedules of one child */

struct layout {
	const char *name;
	uint32_t k, r, chunk_bytes;
};
static const struct layout LAYOUTS[] = {
	{"4+2", 4, 2, 4096}, {"2+1", 2, 1, 4096}, {"replica3", 1, 2, 16384}, {"3+3", 3, 3, 4096}, {"4+2/16K", 4, 2, 16384}, {"8+3", 8, 3, 4096},
};

struct options {
	uint64_t seed, schedules;
	double minutes;
	const struct layout *layout; /* NULL: by seed */
	unsigned jobs;
	bool one, trace, check_replay, stop;
	const struct sim_case *written; /* instead of what the seed says */
};

/* What a child tells its parent, in memory they share. */
struct shared {
	uint64_t seed;                 /* being run */
	struct schedule_result result; /* of that one */
	struct schedule_result sum;    /* of those that ended well */
	uint64_t schedules, live;
};

struct job {
	pid_t pid;                      /* 0: free */
	uint64_t next, end;             /* seeds of the child's batch: [next, end) */
	unsigned round;                 /* check_replay: 0, then 1 */
	uint64_t first_hash;
	struct shared *shared;
};

struct totals {
	struct schedule_result sum;
	uint64_t schedules, live, violations;
};

static void add_result(struct schedule_result *sum, const struct schedule_result *r)
{
	sum->sim_ns += r->sim_ns;
	sum->failed_ops += r->failed_ops;
	sum->takeovers += r->takeovers;
	sum->rollbacks += r->rollbacks;
	sum->replays += r->replays;
	for (unsigned f = 0; f < FAULT_N; f++)
		sum->faults[f] += r->faults[f];
	for (unsigned i = 0; i < OP_N; i++)
		sum->ops[i] += r->ops[i];
}

/* ---- the child ---- */

static void fatal_signal(int signo)
{
	struct schedule *s = schedule_current();
	void *frames[64];
	char text[64];
	signal(signo, SIG_DFL);
	snprintf(text, sizeof(text), "%s", signo == SIGVTALRM ? "no end after a minute of processor time" : strsignal(signo));
	if (s != NULL)
		schedule_report(s, text);
	backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
	_exit(2);
}

static const struct layout *layout_of(const struct options *o, uint64_t seed)
{
	return o->layout != NULL ? o->layout : &LAYOUTS[seed % ARRAY_LEN(LAYOUTS)];
}

static void catch_fatal(void)
{
	static uint8_t stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_handler = fatal_signal, .sa_flags = SA_ONSTACK};
	const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGVTALRM};

	sigaltstack(&alt, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
}

static void child(const struct options *o, uint64_t first, uint64_t end, struct shared *sh)
{
	const struct itimerval limit = {.it_value = {.tv_sec = CPU_SECONDS}};

	catch_fatal();
	for (uint64_t seed = first; seed < end; seed++) {
		const struct layout *l = layout_of(o, seed);
		struct schedule_config cfg = {.seed = seed, .k = l->k, .r = l->r, .chunk_bytes = l->chunk_bytes, .echo = o->trace, .commit = MYFS_COMMIT,
					      .course = o->written != NULL ? o->written->course : NULL,
					      .course_blocks = o->written != NULL ? o->written->blocks : 0};
		sh->seed = seed;
		memset(&sh->result, 0, sizeof(sh->result));
		setitimer(ITIMER_VIRTUAL, &limit, NULL);
		if (end - first > 1)
			sandbox_enter();
		schedule_run(&cfg, &sh->result);
		if (end - first > 1)
			sandbox_leave();
		add_result(&sh->sum, &sh->result);
		sh->live += sh->result.live;
		sh->schedules++;
	}
	_exit(0);
}

/* ---- the parent ---- */

/* A child for the seeds [next, end) of the job. */
static void job_start(const struct options *o, struct job *j)
{
	memset(j->shared, 0, sizeof(*j->shared));
	for (uint64_t i = 0; i < ARRAY_LEN(LAYOUTS) && i < j->end - j->next; i++) {
		const struct layout *l = layout_of(o, j->next + i);
		cluster_images(l->k, l->r, l->chunk_bytes, SIM_JOURNAL_BYTES); /* the child inherits them */
	}
	fflush(NULL);
	j->pid = fork();
	if (j->pid == 0)
		child(o, j->next, j->end, j->shared);
	if (j->pid < 0) {
		perror("fork");
		exit(2);
	}
}

/* The job's child has ended. True when the job runs on: the rest of its batch behind a violation, or its second round. */
static bool job_ended(const struct options *o, struct job *j, int status, struct totals *t)
{
	const struct shared *sh = j->shared;
	bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0 && sh->schedules == j->end - j->next;

	if (fine && o->check_replay && j->round == 0) {
		j->round = 1;
		j->first_hash = sh->result.hash;
		job_start(o, j);
		return true;
	}
	if (!fine) {
		t->violations++;
		fprintf(stderr, "seed %" PRIu64 " FAILED (%s %d)\n", sh->seed, WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
		add_result(&t->sum, &sh->result);
		t->schedules++;
		t->live += sh->result.live;
	} else if (o->check_replay && j->first_hash != sh->result.hash) {
		t->violations++;
		fprintf(stderr, "seed %" PRIu64 " FAILED: two runs of it differ\n", sh->seed);
	}
	add_result(&t->sum, &sh->sum);
	t->schedules += sh->schedules;
	t->live += sh->live;
	j->round = 0;
	j->pid = 0;
	if (fine || sh->seed + 1 >= j->end || o->stop)
		return false;
	j->next = sh->seed + 1;
	job_start(o, j);
	return true;
}

static double seconds_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double children_seconds(void)
{
	struct rusage u;
	getrusage(RUSAGE_CHILDREN, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void report(const struct totals *t, double seconds)
{
	double cpu = children_seconds(), sim = (double)t->sum.sim_ns / 1e9;
	unsigned kinds = 0;
	printf("%" PRIu64 " schedules (%" PRIu64 " live), %" PRIu64 " violations, %.1f s, %.1f schedules/s, %.1f per core-second, %.0f s simulated (%.1f:1)\n",
	       t->schedules, t->live, t->violations, seconds, (double)t->schedules / seconds, (double)t->schedules / cpu, sim, sim / seconds);
	printf("operations: %" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " zeros, %" PRIu64 " flushes, %" PRIu64 " scrubs, %" PRIu64 " of them failed; %" PRIu64 " takeovers, %" PRIu64
	       " losses of unflushed data, %" PRIu64 " times it had to be written again\n", t->sum.ops[OP_READ], t->sum.ops[OP_WRITE], t->sum.ops[OP_ZERO], t->sum.ops[OP_FLUSH], t->sum.ops[OP_SCRUB], t->sum.failed_ops, t->sum.takeovers,
	       t->sum.rollbacks, t->sum.replays);
	for (unsigned f = 0; f < FAULT_N; f++)
		kinds += t->sum.faults[f] != 0;
	printf("%u types of faults:", kinds);
	for (unsigned f = 0; f < FAULT_N; f++)
		printf(" %s %" PRIu64, fault_name((enum fault)f), t->sum.faults[f]);
	printf("\n");
}

static int run_jobs(const struct options *o)
{
	struct job jobs[JOBS_MAX] = {{0}};
	struct totals t = {0};
	uint64_t next = o->seed, left = o->schedules, batch = o->check_replay || !sandbox_available() ? 1 : BATCH;
	double begun = seconds_now();
	unsigned busy = 0;

	for (unsigned i = 0; i < o->jobs; i++) {
		jobs[i].shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (jobs[i].shared == MAP_FAILED)
			return 2;
	}
	for (;;) {
		for (unsigned i = 0; i < o->jobs; i++) {
			bool more = left > 0 && (o->minutes <= 0 || seconds_now() - begun < o->minutes * 60) && !(o->stop && t.violations > 0);
			if (jobs[i].pid != 0 || !more)
				continue;
			uint64_t n = min_u64(batch, div_up_u64(left, o->jobs));
			jobs[i].next = next;
			jobs[i].end = next + n;
			job_start(o, &jobs[i]);
			busy++;
			next += n;
			left -= n;
		}
		if (busy == 0)
			break;
		int status;
		pid_t pid = wait(&status);
		for (unsigned i = 0; i < o->jobs; i++)
			if (pid > 0 && jobs[i].pid == pid && !job_ended(o, &jobs[i], status, &t))
				busy--;
	}
	if (o->one && t.violations == 0)
		printf("seed %" PRIu64 ": hash %016" PRIx64 "\n", o->seed, jobs[0].shared->result.hash);
	report(&t, seconds_now() - begun);
	return t.violations ? 1 : 0;
}

static const struct layout *layout_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(LAYOUTS); i++)
		if (strcmp(LAYOUTS[i].name, name) == 0)
			return &LAYOUTS[i];
	return NULL;
}

static bool mutate(const char *name)
{
#ifdef MYFS_MUTANTS
	mutate_rule = mutate_find(name);
	if (mutate_rule != MUTATE_N)
		return true;
	fprintf(stderr, "myfs-sim: no rule %s (--rules lists them)\n", name);
#else
	fprintf(stderr, "myfs-sim: rule %s cannot be switched off in this build (cmake --preset mutants)\n", name);
#endif
	return false;
}

static int list_rules(void)
{
	for (enum mutate_rule r = MUTATE_NONE + 1; r < MUTATE_N; r++)
		printf("%s %s\n", mutate_name(r), mutate_text(r));
	return 0;
}

static const struct sim_case *case_find(const char *name, bool list)
{
	const struct sim_case *const lists[] = {CASES_CRASH, CASES_WORLD, CASES_RULES, CASES_LOAD, CASES_NAMES};
	for (unsigned i = 0; i < ARRAY_LEN(lists); i++)
		for (const struct sim_case *c = lists[i]; c->name != NULL; c++) {
			if (list)
				printf("%s\n", c->name);
			else if (strcmp(c->name, name) == 0)
				return c;
		}
	return NULL;
}

static int usage(FILE *to)
{
	fprintf(to, "usage: myfs-sim [--seed N] [--schedules N | --minutes M] [--layout 4+2|2+1|replica3|3+3|4+2/16K|8+3] [--jobs N] [--check-replay] [--trace] [--stop] [--mutate RULE] [--case NAME | --cases]\n"
			"A seed alone replays that schedule. --stop: at the first violation. The layout follows from the seed, or the case, unless given.\n");
	return to == stdout ? 0 : 2;
}

int main(int argc, char **argv)
{
	static const struct option LONG[] = {
		{"seed", required_argument, NULL, 's'}, {"schedules", required_argument, NULL, 'n'}, {"minutes", required_argument, NULL, 'm'},
		{"layout", required_argument, NULL, 'l'}, {"jobs", required_argument, NULL, 'j'}, {"check-replay", no_argument, NULL, 'c'},
		{"trace", no_argument, NULL, 't'}, {"stop", no_argument, NULL, 'x'}, {"mutate", required_argument, NULL, 'M'}, {"rules", no_argument, NULL, 'R'}, {"case", required_argument, NULL, 'C'}, {"cases", no_argument, NULL, 'L'},
		{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0},
	};
	struct options o = {.seed = 1, .schedules = 0, .jobs = 2};
	int c;

	while ((c = getopt_long(argc, argv, "h", LONG, NULL)) != -1) {
		switch (c) {
		case 's': o.seed = strtoull(optarg, NULL, 0); break;
		case 'n': o.schedules = strtoull(optarg, NULL, 0); break;
		case 'm': o.minutes = atof(optarg); break;
		case 'j': o.jobs = (unsigned)atoi(optarg); break;
		case 'c': o.check_replay = true; break;
		case 't': o.trace = true; break;
		case 'x': o.stop = true; break;
		case 'M':
			if (!mutate(optarg))
				return 2;
			break;
		case 'R': return list_rules();
		case 'C':
			o.written = case_find(optarg, false);
			if (o.written == NULL)
				return usage(stderr);
			break;
		case 'L':
			(void)case_find(NULL, true);
			return 0;
		case 'l':
			o.layout = layout_find(optarg);
			if (o.layout == NULL)
				return usage(stderr);
			break;
		case 'h': return usage(stdout);
		default: return usage(stderr);
		}
	}
	if (o.written != NULL && o.layout == NULL)
		o.layout = layout_find(o.written->layout != NULL ? o.written->layout : "4+2");
	if (optind != argc || o.jobs < 1 || o.jobs > JOBS_MAX)
		return usage(stderr);
	o.one = o.schedules == 0 && o.minutes <= 0;
	if (o.schedules == 0)
		o.schedules = o.one ? 1 : UINT64_MAX;
	return run_jobs(&o);
}
