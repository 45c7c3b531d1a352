/* run.c - myfs-sim: runs schedules, each in a child process of its own, and says which seed broke which promise.
 *
 * A child shares one schedule_result with its parent and ends with 0, or prints the violation and ends with anything else. What killed fibers leave in
 * memory goes with the child. */
#include <errno.h>
#include <execinfo.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/schedule.h"

#ifndef MYFS_COMMIT
#define MYFS_COMMIT "unknown"
#endif
#define JOBS_MAX 64u
#define CPU_SECONDS 120

struct layout {
	const char *name;
	uint32_t k, r, chunk_bytes;
};
static const struct layout LAYOUTS[] = {
	{"4+2", 4, 2, 16384}, {"2+1", 2, 1, 16384}, {"replica3", 1, 2, 16384}, {"3+3", 3, 3, 4096}, {"4+2/64K", 4, 2, 65536}, {"8+3", 8, 3, 4096},
};

struct options {
	uint64_t seed, schedules;
	double minutes;
	const struct layout *layout; /* NULL: by seed */
	unsigned jobs;
	bool one, trace, check_replay;
};

struct job {
	pid_t pid;                      /* 0: free */
	uint64_t seed;
	unsigned round;                 /* check_replay: 0, then 1 */
	uint64_t first_hash;
	struct schedule_result *result; /* shared */
};

struct totals {
	struct schedule_result sum;
	uint64_t schedules, live, violations;
};

/* ---- the child ---- */

static void fatal_signal(int signo)
{
	struct schedule *s = schedule_current();
	void *frames[64];
	char text[64];
	signal(signo, SIG_DFL);
	snprintf(text, sizeof(text), "%s", signo == SIGXCPU ? "no end after " "120 s of processor time" : strsignal(signo));
	if (s != NULL)
		schedule_report(s, text);
	backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
	_exit(2);
}

static void child(const struct options *o, uint64_t seed, struct schedule_result *result)
{
	static uint8_t stack[65536];
	stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction sa = {.sa_handler = fatal_signal, .sa_flags = SA_ONSTACK};
	struct rlimit cpu = {CPU_SECONDS, CPU_SECONDS + 5};
	const struct layout *l = o->layout != NULL ? o->layout : &LAYOUTS[seed % ARRAY_LEN(LAYOUTS)];
	struct schedule_config cfg = {.seed = seed, .k = l->k, .r = l->r, .chunk_bytes = l->chunk_bytes, .echo = o->trace, .commit = MYFS_COMMIT};

	sigaltstack(&alt, NULL);
	const int fatal[] = {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGXCPU};
	for (unsigned i = 0; i < ARRAY_LEN(fatal); i++)
		sigaction(fatal[i], &sa, NULL);
	setrlimit(RLIMIT_CPU, &cpu);
	schedule_run(&cfg, result);
	_exit(0);
}

/* ---- the parent ---- */

static void job_start(const struct options *o, struct job *j, uint64_t seed)
{
	memset(j->result, 0, sizeof(*j->result));
	j->seed = seed;
	fflush(NULL);
	j->pid = fork();
	if (j->pid == 0)
		child(o, seed, j->result);
	if (j->pid < 0) {
		perror("fork");
		exit(2);
	}
}

static void add_result(struct totals *t, const struct schedule_result *r)
{
	t->schedules++;
	t->live += r->live;
	t->sum.sim_ns += r->sim_ns;
	t->sum.failed_ops += r->failed_ops;
	t->sum.takeovers += r->takeovers;
	t->sum.rollbacks += r->rollbacks;
	for (unsigned f = 0; f < FAULT_N; f++)
		t->sum.faults[f] += r->faults[f];
	for (unsigned i = 0; i < OP_N; i++)
		t->sum.ops[i] += r->ops[i];
}

/* The job's child has ended. True when the job runs on: its second round. */
static bool job_ended(const struct options *o, struct job *j, int status, struct totals *t)
{
	bool fine = WIFEXITED(status) && WEXITSTATUS(status) == 0 && j->result->done;
	if (!fine) {
		t->violations++;
		fprintf(stderr, "seed %" PRIu64 " FAILED (%s %d)\n", j->seed, WIFSIGNALED(status) ? "signal" : "exit", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	} else if (o->check_replay && j->round == 0) {
		j->round = 1;
		j->first_hash = j->result->hash;
		job_start(o, j, j->seed);
		return true;
	} else if (o->check_replay && j->first_hash != j->result->hash) {
		t->violations++;
		fprintf(stderr, "seed %" PRIu64 " FAILED: two runs of it differ\n", j->seed);
	}
	add_result(t, j->result);
	j->round = 0;
	j->pid = 0;
	return false;
}

static double seconds_now(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void report(const struct options *o, const struct totals *t, double seconds)
{
	printf("%" PRIu64 " schedules (%" PRIu64 " live), %" PRIu64 " violations, %.1f s, %.2f schedules/s, %.0f s simulated (%.1f:1)\n", t->schedules, t->live,
	       t->violations, seconds, (double)t->schedules / seconds, (double)t->sum.sim_ns / 1e9, (double)t->sum.sim_ns / 1e9 / seconds);
	printf("operations: %" PRIu64 " reads, %" PRIu64 " writes, %" PRIu64 " zeros, %" PRIu64 " flushes, %" PRIu64 " of them failed; %" PRIu64 " takeovers, %" PRIu64
	       " losses of unflushed data\n", t->sum.ops[OP_READ], t->sum.ops[OP_WRITE], t->sum.ops[OP_ZERO], t->sum.ops[OP_FLUSH], t->sum.failed_ops, t->sum.takeovers,
	       t->sum.rollbacks);
	printf("faults:");
	for (unsigned f = 0; f < FAULT_N; f++)
		printf(" %s %" PRIu64, fault_name((enum fault)f), t->sum.faults[f]);
	printf("\n");
	(void)o;
}

static int run_jobs(const struct options *o)
{
	struct job jobs[JOBS_MAX] = {{0}};
	struct totals t = {0};
	uint64_t next = o->seed, left = o->schedules;
	double begun = seconds_now();
	unsigned busy = 0;

	for (unsigned i = 0; i < o->jobs; i++) {
		jobs[i].result = mmap(NULL, sizeof(struct schedule_result), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (jobs[i].result == MAP_FAILED)
			return 2;
	}
	for (;;) {
		bool more = left > 0 && (o->minutes <= 0 || seconds_now() - begun < o->minutes * 60);
		for (unsigned i = 0; i < o->jobs && more && left > 0; i++) {
			if (jobs[i].pid != 0)
				continue;
			job_start(o, &jobs[i], next++);
			busy++;
			left--;
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
		printf("seed %" PRIu64 ": hash %016" PRIx64 "\n", o->seed, jobs[0].result->hash);
	report(o, &t, seconds_now() - begun);
	return t.violations ? 1 : 0;
}

static const struct layout *layout_find(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(LAYOUTS); i++)
		if (strcmp(LAYOUTS[i].name, name) == 0)
			return &LAYOUTS[i];
	return NULL;
}

static int usage(void)
{
	fprintf(stderr, "usage: myfs-sim [--seed N] [--schedules N | --minutes M] [--layout 4+2|2+1|replica3|3+3|4+2/64K|8+3] [--jobs N] [--check-replay] [--trace]\n"
			"A seed alone replays that schedule. The layout follows from the seed unless given.\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option LONG[] = {
		{"seed", required_argument, NULL, 's'}, {"schedules", required_argument, NULL, 'n'}, {"minutes", required_argument, NULL, 'm'},
		{"layout", required_argument, NULL, 'l'}, {"jobs", required_argument, NULL, 'j'}, {"check-replay", no_argument, NULL, 'c'},
		{"trace", no_argument, NULL, 't'}, {NULL, 0, NULL, 0},
	};
	struct options o = {.seed = 1, .schedules = 0, .jobs = 2};
	int c;

	while ((c = getopt_long(argc, argv, "", LONG, NULL)) != -1) {
		switch (c) {
		case 's': o.seed = strtoull(optarg, NULL, 0); break;
		case 'n': o.schedules = strtoull(optarg, NULL, 0); break;
		case 'm': o.minutes = atof(optarg); break;
		case 'j': o.jobs = (unsigned)atoi(optarg); break;
		case 'c': o.check_replay = true; break;
		case 't': o.trace = true; break;
		case 'l':
			o.layout = layout_find(optarg);
			if (o.layout == NULL)
				return usage();
			break;
		default: return usage();
		}
	}
	if (optind != argc || o.jobs < 1 || o.jobs > JOBS_MAX)
		return usage();
	o.one = o.schedules == 0 && o.minutes <= 0;
	if (o.schedules == 0)
		o.schedules = o.one ? 1 : UINT64_MAX;
	return run_jobs(&o);
}
