/* micro_loop.c - what the runtime itself costs: a fiber switch, a spawned fiber, a round trip over a unix socket, a cached read.
 *
 *   micro_loop switch | spawn | pingpong QD BYTES | read
 *
 * pingpong runs client and server as two processes, each with its own loop; QD fibers on the client share one connection, as
 * requests do: one reader fiber hands replies out, output of one iteration leaves in one send. Prints operations per second, and time and this process's
 * CPU time for each. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/base/base.h"
#include "core/loop/fiber.h"
#include "core/loop/loop.h"
#include "core/loop/net.h"
#include "core/loop/store.h"

#define RUN_NS (2 * NS_PER_S)

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

struct stopwatch {
	uint64_t wall, cpu;
};

static struct stopwatch stopwatch_start(void)
{
	return (struct stopwatch){.wall = loop_precise_ns(), .cpu = cpu_ns()};
}

static void report(const char *what, uint64_t n, struct stopwatch w)
{
	double wall = (double)(loop_precise_ns() - w.wall), cpu = (double)(cpu_ns() - w.cpu);

	printf("%-28s %12.0f /s %10.1f ns %10.1f ns CPU  (%s)\n", what, (double)n * 1e9 / wall, wall / (double)n, cpu / (double)n,
	    loop_backend_name(loop_self()));
}

static int usage(void)
{
	fprintf(stderr, "usage: micro_loop switch | spawn | pingpong QD BYTES | read DIR\n");
	return 2;
}

/* ---- fibers ---- */

static struct fiber *partner;
static bool over;

static void echo_wakes(void *arg)
{
	struct fiber *back = arg;

	partner = fiber_self();
	for (fiber_park(); !over; fiber_park())
		fiber_wake(back);
}

static void bench_switch(void *arg)
{
	enum { N = 5000000 };

	fiber_run(arg, "partner", echo_wakes, fiber_self());
	struct stopwatch start = stopwatch_start();
	for (unsigned i = 0; i < N; i++) {
		fiber_wake(partner);
		fiber_park();
	}
	report("wake + park", 2 * N, start);
	over = true;
	fiber_wake(partner);
}

static void nothing(void *arg)
{
	(void)arg;
}

static void bench_spawn(void *arg)
{
	enum { N = 5000000 };

	struct stopwatch start = stopwatch_start();
	for (unsigned i = 0; i < N; i++)
		fiber_run(arg, "n", nothing, NULL);
	report("fiber_run to its end", N, start);
}

/* ---- round trips ---- */

static unsigned qd;
static size_t msg_bytes;
static int fds[2];

/* Sends queued messages at the end of the iteration. */
struct out {
	struct stream *s;
	struct deferred d;
	struct fiber *writer;
	unsigned queued;
};
static uint8_t payload[64 * 1024];

static void out_kick(void *arg)
{
	struct out *o = arg;

	fiber_wake(o->writer);
}

static void out_writer(void *arg)
{
	struct out *o = arg;
	struct iovec v[64];

	o->writer = fiber_self();
	for (;;) {
		while (o->queued == 0)
			fiber_park();
		unsigned n = o->queued < 64 ? o->queued : 64;
		o->queued -= n;
		for (unsigned i = 0; i < n; i++)
			v[i] = (struct iovec){payload, msg_bytes};
		if (stream_send(o->s, v, n) < 0)
			return;
	}
}

static void out_start(struct out *o, struct stream *s)
{
	*o = (struct out){.s = s};
	deferred_init(&o->d, out_kick, o);
	fiber_run(loop_self(), "writer", out_writer, o);
}

static void out_add(struct out *o)
{
	o->queued++;
	loop_defer(&o->d);
}

/* Counts whole messages; false at the end of the stream. */
static bool in_some(struct stream *s, size_t *part, unsigned *ret_n)
{
	static uint8_t buf[256 * 1024];
	ssize_t n = stream_recv(s, buf, sizeof(buf));

	if (n <= 0)
		return false;
	*part += (size_t)n;
	*ret_n = (unsigned)(*part / msg_bytes);
	*part %= msg_bytes;
	return true;
}

static void serve(void *arg)
{
	struct stream *s;
	struct out o;
	size_t part = 0;
	unsigned n;

	(void)arg;
	if (stream_from_fd(fds[1], &s, NULL) < 0)
		exit(1);
	out_start(&o, s);
	while (in_some(s, &part, &n)) {
		while (n-- > 0)
			out_add(&o);
	}
}

static void bench_pingpong(void *arg)
{
	struct stream *s;
	struct out o;
	size_t part = 0;
	unsigned n;
	uint64_t done = 0;
	char name[64];

	(void)arg;
	if (stream_from_fd(fds[0], &s, NULL) < 0)
		exit(1);
	out_start(&o, s);
	struct stopwatch start = stopwatch_start();
	for (unsigned i = 0; i < qd; i++)
		out_add(&o);
	while (loop_now_ns() < start.wall + RUN_NS && in_some(s, &part, &n)) {
		done += n;
		while (n-- > 0)
			out_add(&o);
	}
	snprintf(name, sizeof(name), "ping-pong QD%u %zu bytes", qd, msg_bytes);
	report(name, done, start);
	stream_shutdown(s);
}

static int in_loop(fiber_fn *fn)
{
	struct loop *l;
	struct err e = ERR_INIT;

	if (loop_new(NULL, &l, &e) < 0) {
		fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	loop_run_fiber(l, "main", fn, l);
	loop_free(l);
	return 0;
}

static int pingpong(void)
{
	int status;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return 1;
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		_exit(in_loop(serve));
	}
	close(fds[1]);
	int rc = in_loop(bench_pingpong);
	waitpid(pid, &status, 0);
	return rc;
}

/* ---- files ---- */

static const char *read_dir;

static void bench_read(void *arg)
{
	enum { BLOCKS = 4096, N = 1000000 };
	struct store *st;
	struct file *f;
	static uint8_t block[4096];
	struct err e = ERR_INIT;

	(void)arg;
	if (store_open_posix(read_dir, &st, &e) < 0 || store_open(st, "micro_loop.tmp", O_RDWR | O_CREAT | O_TRUNC, 0600, &f) < 0) {
		fprintf(stderr, "%s: %s\n", read_dir, e.text);
		exit(1);
	}
	struct stopwatch start = stopwatch_start();
	for (unsigned i = 0; i < BLOCKS; i++)
		file_pwrite(f, block, sizeof(block), i * 4096ull);
	report("4 KiB write, new", BLOCKS, start);
	start = stopwatch_start();
	for (unsigned i = 0; i < N / 10; i++)
		file_pwrite(f, block, sizeof(block), i % BLOCKS * 4096ull);
	report("4 KiB write, cached", N / 10, start);
	start = stopwatch_start();
	for (unsigned i = 0; i < N; i++)
		file_pread(f, block, sizeof(block), (i * 2654435761u) % BLOCKS * 4096ull);
	report("4 KiB read, cached", N, start);
	start = stopwatch_start();
	for (unsigned i = 0; i < 200; i++) {
		file_pwrite(f, block, sizeof(block), i * 4096ull);
		file_datasync(f);
	}
	report("4 KiB write + datasync", 200, start);
	file_close(f);
	store_unlink(st, "micro_loop.tmp");
	store_close(st);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "switch") == 0)
		return in_loop(bench_switch);
	if (argc == 2 && strcmp(argv[1], "spawn") == 0)
		return in_loop(bench_spawn);
	if (argc == 3 && strcmp(argv[1], "read") == 0) {
		read_dir = argv[2];
		return in_loop(bench_read);
	}
	if (argc == 4 && strcmp(argv[1], "pingpong") == 0) {
		qd = (unsigned)strtoul(argv[2], NULL, 10);
		msg_bytes = strtoul(argv[3], NULL, 10);
		if (qd >= 1 && qd <= 1024 && msg_bytes >= 1 && msg_bytes <= sizeof(payload))
			return pingpong();
	}
	return usage();
}
