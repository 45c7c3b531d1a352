/* micro_rpc.c - round trips per second of core/rpc: a server process that answers with 4 KiB, a client process with
 * QD calls outstanding, over a unix socket or loopback TCP with TLS. Usage: micro_rpc [SECONDS [KEYFILE]] */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "brick.h"
#include "core/loop/loop.h"
#include "core/rpc/rpc.h"

#define PORT 24997

static struct buf *block;
static struct address address;
static struct tls_creds *creds;
static double seconds = 2;
static int ready_fd;

static void handle(void *arg, struct rpc_request *req)
{
	bp_read_args a = {0};
	u_int crc[1] = {1};
	bp_read_res res = {.crc = {.crc_len = 1, .crc_val = crc}};
	struct slice s = {.owner = block, .ptr = block->data, .len = 4096};

	(void)arg;
	int rc = rpc_decode(req, (xdrproc_t)xdr_bp_read_args, &a);
	rpc_reply(req, rc, (xdrproc_t)xdr_bp_read_res, &res, &s, req->payload.len > 0 ? 0 : 1);
}

static void server_main(void *arg)
{
	struct rpc_server_config cfg = {.net = net_kernel(), .tls = creds, .handle = handle, .allowed_uid = getuid()};
	struct rpc_server *s;
	struct err e = ERR_INIT;

	(void)arg;
	block = buf_alloc(4096);
	if (rpc_server_new(&cfg, &s) != 0 || rpc_server_listen(s, &address, NULL, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		_exit(1);
	}
	if (write(ready_fd, "r", 1) != 1)
		_exit(1);
	fiber_park(); /* until killed */
}

struct worker {
	struct rpc_client *c;
	uint64_t end_ns;
	uint64_t *count;
	bool write;
	unsigned *left;
	struct waitq *done;
};

static void worker_main(void *arg)
{
	struct worker *w = arg;
	static uint8_t data[4096];
	struct iovec v = {data, sizeof(data)};

	while (loop_now_ns() < w->end_ns) {
		bp_read_args a = {.row = 7, .nrows = 1};
		u_int crc[BP_MAX_ROWS_PAYLOAD];
		bp_read_res res = {.crc = {.crc_val = crc}};
		struct rpc_call call = {.type = BP_READ,
					.args_proc = (xdrproc_t)xdr_bp_read_args,
					.args = &a,
					.payload = &v,
					.payload_n = w->write,
					.res_proc = (xdrproc_t)xdr_bp_read_res,
					.res = &res};
		if (rpc_call_sync(w->c, &call) != 0)
			break;
		rpc_call_release(&call);
		++*w->count;
	}
	--*w->left;
	waitq_wake_all(w->done);
}

static double cpu_us(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static void measure(struct rpc_client *c, unsigned qd, bool write)
{
	struct worker w[64];
	uint64_t count = 0;
	unsigned left = qd;
	struct waitq done;
	uint64_t start = loop_precise_ns();
	double cpu = cpu_us();

	waitq_init(&done);
	for (unsigned i = 0; i < qd; i++) {
		w[i] = (struct worker){c, start + (uint64_t)(seconds * 1e9), &count, write, &left, &done};
		if (fiber_spawn(loop_self(), "worker", worker_main, &w[i]) != 0)
			exit(1);
	}
	while (left > 0)
		waitq_wait(&done);
	double took = (double)(loop_precise_ns() - start) / 1e9;
	printf("%-5s 4K %s QD%-3u %9.0f/s  client CPU %5.2f us each\n", address.kind == ADDRESS_TCP ? "tls" : "unix",
	       write ? "write" : "read ", qd, (double)count / took, (cpu_us() - cpu) / (double)(count ? count : 1));
}

static void client_main(void *arg)
{
	struct rpc_client_config cfg = {
	    .net = net_kernel(), .address = address, .tls = creds, .connect_deadline_ns = loop_now_ns() + 5 * NS_PER_S};
	struct rpc_client *c;
	struct err e = ERR_INIT;

	(void)arg;
	if (rpc_client_connect(&cfg, &c, &e) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	static const unsigned depths[] = {1, 4, 16, 64};
	for (size_t i = 0; i < ARRAY_LEN(depths); i++)
		measure(c, depths[i], false);
	measure(c, 16, true);
	rpc_client_free(c);
}

static void run_loop(fiber_fn *fn)
{
	struct loop *l;
	struct loop_options opt = {0};
	struct err e = ERR_INIT;

	if (loop_new(&opt, &l, &e) != 0 || loop_run_fiber(l, "main", fn, NULL) != 0) {
		fprintf(stderr, "%s\n", e.text);
		exit(1);
	}
	loop_free(l);
}

static void bench(void)
{
	int fds[2];
	char b;

	if (pipe(fds) < 0)
		exit(1);
	fflush(stdout);
	pid_t pid = fork();
	if (pid == 0) {
		ready_fd = fds[1];
		run_loop(server_main);
		_exit(0);
	}
	if (read(fds[0], &b, 1) == 1)
		run_loop(client_main);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		seconds = atof(argv[1]);
	address = (struct address){.kind = ADDRESS_UNIX};
	snprintf(address.host, sizeof(address.host), "/tmp/myfs-micro-rpc-%d.sock", getpid());
	bench();
	unlink(address.host);
	if (argc > 2) {
		struct err e = ERR_INIT;
		if (tls_creds_psk(argv[2], "bench", &creds, &e) != 0) {
			fprintf(stderr, "%s\n", e.text);
			return 1;
		}
		address = (struct address){.kind = ADDRESS_TCP, .host = "127.0.0.1", .port = PORT};
		bench();
		tls_creds_free(creds);
	}
	return 0;
}
