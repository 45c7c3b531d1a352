#include "cli/keeper.h"

#include <fcntl.h>
#include <linux/nbd.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli/nbd_link.h"
#include "cli/nbd_netlink.h"
#include "cli/proc.h"
#include "cli/size.h"

#define RETRY_MS 200
#define LOOK_MS 5000
#define HANDSHAKE_MS 5000
#define STOP_MS 10000
#define MAX_CONNECTIONS 16

struct keeper {
	struct mapping *m;
	struct nbd_netlink *netlink;
	uint64_t dead;         /* connections to replace */
	int64_t since_ms;      /* when the first of them died */
	int64_t next_look_ms;
	bool said;             /* why it cannot reconnect was logged */
};

static int64_t clock_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t wall_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void note(const char *fmt, ...) PRINTF(1, 2);
static void note(const char *fmt, ...)
{
	char when[SIZE_TEXT];
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "%s ", time_text(wall_ns(), when));
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

/* The first address that answers; the one that did so last is asked first. */
static int dial(struct mapping *m, struct nbd_link *ret, struct err *e)
{
	int rc = -ENOENT;
	for (size_t i = 0; i < m->n_uris; i++) {
		rc = nbd_link_open(m->uris[i], HANDSHAKE_MS, ret, e);
		if (rc < 0)
			continue;
		for (size_t k = i; k > 0; k--) {
			char other[MAPPING_TEXT];
			memcpy(other, m->uris[k], sizeof(other));
			memcpy(m->uris[k], m->uris[k - 1], sizeof(other));
			memcpy(m->uris[k - 1], other, sizeof(other));
		}
		return 0;
	}
	return rc;
}

static struct nbd_setup setup_of(const struct mapping *m, const char *backend)
{
	return (struct nbd_setup){.index = m->index, .timeout_s = m->io_timeout_s, .dead_conn_timeout_s = m->reattach_timeout_s, .backend = backend};
}

static int connect_device(struct keeper *k, struct err *e)
{
	struct nbd_link links[MAX_CONNECTIONS];
	int fds[MAX_CONNECTIONS], rc = 0;
	char backend[MAPPING_TEXT];
	struct mapping *m = k->m;
	size_t n = 0;
	while (n < m->connections && rc == 0) {
		rc = dial(m, &links[n], e);
		if (rc < 0)
			break;
		fds[n] = links[n].fd;
		if (++n < m->connections && !(links[0].server_flags & NBD_FLAG_CAN_MULTI_CONN))
			rc = err_set(e, -EPROTONOSUPPORT, "%s does not allow several connections", m->uris[0]);
	}
	if (rc == 0) {
		struct nbd_setup s = setup_of(m, mapping_backend(m->spec, backend));
		s.size_bytes = links[0].size_bytes;
		s.block_bytes = m->block_bytes;
		s.server_flags = links[0].server_flags | (m->read_only ? NBD_FLAG_READ_ONLY : 0u);
		s.fds = fds;
		s.n_fds = n;
		rc = nbd_netlink_connect(k->netlink, &s, &m->index, e);
		m->size_bytes = links[0].size_bytes;
	}
	for (size_t i = 0; i < n; i++)
		nbd_link_close(&links[i]);
	return rc;
}

static void set_state(struct keeper *k, const char *state)
{
	struct err e = ERR_INIT;
	snprintf(k->m->state, sizeof(k->m->state), "%s", state);
	if (mapping_save(k->m, &e) < 0)
		note("%s", e.text);
}

static int begin(struct keeper *k, bool adopt, struct err *e)
{
	char pid[MAPPING_TEXT];
	int rc = mapping_save(k->m, e); /* before the device is there: a file without device is harmless, the other way round is not */
	if (rc == 0)
		rc = nbd_netlink_open(&k->netlink, e);
	if (rc == 0 && !adopt)
		rc = connect_device(k, e);
	if (rc < 0)
		return rc;
	snprintf(k->m->device, sizeof(k->m->device), "/dev/nbd%d", k->m->index);
	if (!adopt)
		k->m->since_ns = wall_ns();
	set_state(k, "connected");
	k->next_look_ms = clock_ms() + LOOK_MS;
	/* Which connections of an adopted device are dead nobody knows; the kernel refuses what it has no use for. */
	k->dead = adopt ? k->m->connections : 0;
	k->since_ms = clock_ms();
	return proc_remember(mapping_path(k->m->spec, MAPPING_PID, pid), getpid(), e);
}

static void replace_one(struct keeper *k)
{
	struct nbd_link link;
	struct err e = ERR_INIT;
	char backend[MAPPING_TEXT];
	int rc = dial(k->m, &link, &e);
	if (rc == 0) {
		struct nbd_setup s = setup_of(k->m, mapping_backend(k->m->spec, backend));
		s.fds = &link.fd;
		s.n_fds = 1;
		s.size_bytes = link.size_bytes != k->m->size_bytes ? link.size_bytes : 0;
		rc = nbd_netlink_reconfigure(k->netlink, &s, &e);
		k->m->size_bytes = rc == 0 ? link.size_bytes : k->m->size_bytes;
		nbd_link_close(&link);
	}
	if (rc < 0) {
		if (!k->said)
			note("%s", e.text);
		k->said = true;
		return;
	}
	k->m->reattached++;
	if (--k->dead == 0) {
		note("connected again after %lld ms", (long long)(clock_ms() - k->since_ms));
		set_state(k, "connected");
	}
}

static void hear(struct keeper *k)
{
	int index, rc;
	uint64_t before = k->dead;
	while ((rc = nbd_netlink_next_dead(k->netlink, &index)) == 1)
		k->dead += index == k->m->index && k->dead < k->m->connections;
	if (rc == -ENOBUFS)
		k->dead = k->m->connections;
	if (before > 0 || k->dead == 0)
		return;
	k->since_ms = clock_ms();
	k->said = false;
	note("a connection died");
	set_state(k, "reconnecting");
}

/* False when the device is not ours any more. */
static bool look(struct keeper *k)
{
	uint64_t size = 0;
	struct err e = ERR_INIT;
	k->next_look_ms = clock_ms() + LOOK_MS;
	if (!nbd_device_is(k->m->index, k->m->spec))
		return false;
	if (k->dead > 0 || nbd_link_size(k->m->uris[0], HANDSHAKE_MS, &size, &e) < 0 || size == k->m->size_bytes)
		return true;
	char backend[MAPPING_TEXT];
	struct nbd_setup s = {.index = k->m->index, .size_bytes = size, .block_bytes = k->m->block_bytes, .backend = mapping_backend(k->m->spec, backend)};
	if (nbd_netlink_reconfigure(k->netlink, &s, &e) < 0) {
		note("%s", e.text);
		return true;
	}
	char text[SIZE_TEXT];
	note("the size is now %s", size_text(size, text));
	k->m->size_bytes = size;
	set_state(k, "connected");
	return true;
}

static void keep(struct keeper *k)
{
	bool lost = false;
	for (;;) {
		int64_t now = clock_ms(), wait = k->next_look_ms - now;
		if (k->dead > 0 && !lost && wait > RETRY_MS)
			wait = RETRY_MS;
		struct pollfd p = {.fd = nbd_netlink_event_fd(k->netlink), .events = POLLIN};
		(void)poll(&p, 1, wait > 0 ? (int)wait : 0);
		hear(k);
		if (clock_ms() >= k->next_look_ms && !look(k))
			break;
		if (k->dead > 0 && !lost)
			replace_one(k);
		if (k->dead > 0 && !lost && clock_ms() - k->since_ms > (int64_t)k->m->reattach_timeout_s * 1000) {
			/* The kernel has given up as well: it answers every request with an error until the device is unmapped. */
			note("no connection within %llu s: given up", (unsigned long long)k->m->reattach_timeout_s);
			set_state(k, "lost");
			lost = true;
		}
	}
	note("the device is gone");
	mapping_forget(k->m->spec);
}

/* What the child tells its parent. */
struct report {
	int rc;
	struct err e;
	struct mapping m;
};

/* In the child: never returns. */
static void keeper_main(struct mapping *m, bool adopt, int report)
{
	struct keeper k = {.m = m};
	struct err e = ERR_INIT;
	char log[MAPPING_TEXT];
	/* Only the pipe: a lock of `map` on an inherited descriptor would be held as long as the keeper lives. */
	report = dup2(report, STDERR_FILENO + 1);
	close_range(STDERR_FILENO + 2, ~0u, 0);
	setsid();
	signal(SIGPIPE, SIG_IGN);
	int rc = begin(&k, adopt, &e);
	struct report answer = {rc, e, *m};
	(void)!write(report, &answer, sizeof(answer));
	close(report);
	if (rc < 0) {
		if (!adopt)
			mapping_forget(m->spec);
		_exit(1);
	}
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), out = open(mapping_path(m->spec, MAPPING_LOG, log), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	dup2(out >= 0 ? out : null, STDERR_FILENO);
	(void)!chdir("/");
	keep(&k);
	_exit(0);
}

int keeper_start(struct mapping *m, bool adopt, struct err *e)
{
	struct report answer;
	int fds[2];
	if (m->connections < 1 || m->connections > MAX_CONNECTIONS)
		return err_set(e, -EINVAL, "1 to %d connections", MAX_CONNECTIONS);
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_set(e, -errno, "no pipe: %s", err_name(-errno));
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(fds[0]);
		keeper_main(m, adopt, fds[1]);
	}
	int code = -errno;
	close(fds[1]);
	size_t have = 0;
	for (ssize_t n = 1; pid > 0 && n > 0 && have < sizeof(answer); have += n > 0 ? (size_t)n : 0)
		n = read(fds[0], (char *)&answer + have, sizeof(answer) - have);
	close(fds[0]);
	if (pid < 0)
		return err_set(e, code, "no process: %s", err_name(code));
	if (have != sizeof(answer))
		return err_set(e, -EIO, "the keeper ended without a word");
	if (answer.rc < 0) {
		waitpid(pid, NULL, 0);
		*e = answer.e;
		return answer.rc;
	}
	*m = answer.m;
	return 0;
}

bool keeper_is_alive(const char *spec)
{
	char pid[MAPPING_TEXT];
	return proc_alive(mapping_path(spec, MAPPING_PID, pid)) != 0;
}

int keeper_stop(const char *spec)
{
	char pid[MAPPING_TEXT];
	int rc = proc_signal(mapping_path(spec, MAPPING_PID, pid), SIGTERM);
	return rc < 0 ? rc : proc_wait_gone(pid, STOP_MS);
}
