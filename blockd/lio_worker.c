/* lio_worker.c - a pass as a child process: one line to it, lines from it, over a socket pair. */
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "blockd/lio.h"
#include "core/base/buf.h"
#include "core/base/log.h"

#define ANSWER_MAX_BYTES (16u << 20)

struct worker {
	char program[PATH_MAX];
	struct list running; /* struct pass */
	bool stopping;
};

struct pass {
	struct list node;
	struct stream *stream;
	pid_t pid;
};

extern char **environ;

/* The child has our end as its standard input and output, our log as standard error, and nothing else of ours. */
static int spawn_child(struct worker *w, int fd, pid_t *ret_pid)
{
	char *const argv[] = {w->program, NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	int rc;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_adddup2(&files, fd, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&files, fd, STDOUT_FILENO);
	posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	rc = posix_spawn(ret_pid, w->program, &files, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -rc;
}

static int start_child(struct worker *w, struct pass *p, struct err *e)
{
	int fd[2], rc;

	if (w->stopping)
		return err_set(e, -ESHUTDOWN, "the gateway is stopping");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return err_set(e, -errno, "socketpair: %s", err_name(-errno));
	rc = spawn_child(w, fd[1], &p->pid);
	close(fd[1]);
	if (rc < 0) {
		close(fd[0]);
		return err_set(e, rc, "%s cannot be started: %s", w->program, err_name(rc));
	}
	rc = stream_from_fd(fd[0], &p->stream, e);
	if (rc < 0)
		close(fd[0]); /* the child reads the end of its input and ends */
	return rc;
}

static int64_t reap(void *arg)
{
	int status = 0;

	while (waitpid(*(const pid_t *)arg, &status, 0) < 0 && errno == EINTR)
		continue;
	return status;
}

/* Splits what came into lines and hands them on. Returns how many bytes are used up; *ret_done when the last line came.
 */
static size_t take_lines(const char *text, size_t len, void (*line)(void *arg, const json_t *doc), void *arg,
			 bool *ret_done)
{
	size_t used = 0;

	for (const char *nl; (nl = memchr(text + used, '\n', len - used)); used = (size_t)(nl - text) + 1) {
		json_t *doc = json_loadb(text + used, (size_t)(nl - text) - used, 0, NULL);

		if (!doc)
			continue;
		line(arg, doc);
		*ret_done |= json_is_true(json_object_get(doc, "done"));
		json_decref(doc);
	}
	return used;
}

static int read_answer(struct pass *p, void (*line)(void *arg, const json_t *doc), void *arg, struct err *e) YIELDS
{
	char *text = NULL;
	size_t len = 0, cap = 0;
	bool done = false;
	int rc = 0;

	while (rc == 0) {
		if (cap - len < 4096) {
			char *grown = cap < ANSWER_MAX_BYTES ? realloc(text, cap * 2 + 8192) : NULL;

			if (!grown) {
				rc = err_set(e, -ENOMEM, "myfs-lio says too much");
				break;
			}
			text = grown;
			cap = cap * 2 + 8192;
		}
		ssize_t n = stream_recv(p->stream, text + len, cap - len);
		if (n <= 0) {
			rc = n < 0 ? (int)n : 0;
			break;
		}
		len += (size_t)n;
		size_t used = take_lines(text, len, line, arg, &done);
		memmove(text, text + used, len - used);
		len -= used;
	}
	free(text);
	return done || rc < 0 ? (done ? 0 : rc) : err_set(e, -EIO, "myfs-lio ended before it was done");
}

static int worker_pass(void *arg, json_t *request, void (*line)(void *line_arg, const json_t *doc), void *line_arg,
		       struct err *e)
{
	struct worker *w = arg;
	struct pass p = {.pid = 0};
	char *text = json_dumps(request, JSON_COMPACT);
	int rc = text ? start_child(w, &p, e) : err_set(e, -ENOMEM, "no memory");

	if (rc == 0) {
		struct iovec v[2] = {{text, strlen(text)}, {"\n", 1}};

		list_init(&p.node);
		list_push_back(&w->running, &p.node);
		rc = stream_send(p.stream, v, 2);
		if (rc == 0)
			rc = read_answer(&p, line, line_arg, e);
		list_del(&p.node);
		stream_close(p.stream);
	}
	free(text);
	/* A child that the kernel holds cannot be waited for when we are leaving. */
	if (p.pid > 0 && !w->stopping)
		loop_offload(reap, &p.pid);
	return rc < 0 && e && e->code == 0 ? err_set(e, rc, "myfs-lio: %s", err_name(rc)) : rc;
}

static void worker_stop(void *arg)
{
	struct worker *w = arg;

	w->stopping = true;
	list_for_each(p, &w->running, struct pass, node)
		stream_shutdown(p->stream);
}

int lio_worker_new(struct lio_runner *ret, struct err *e)
{
	struct worker *w = calloc(1, sizeof(*w));
	char self[PATH_MAX - 16];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash = NULL;

	if (n > 0) {
		self[n] = '\0';
		slash = strrchr(self, '/');
	}
	if (!w || !slash) {
		free(w);
		return err_set(e, -ENOENT, "the directory of this program cannot be found");
	}
	snprintf(w->program, sizeof(w->program), "%.*s/myfs-lio", (int)(slash - self), self);
	list_init(&w->running);
	*ret = (struct lio_runner){.pass = worker_pass, .stop = worker_stop, .arg = w};
	return 0;
}

void lio_worker_free(struct lio_runner *r)
{
	free(r->arg);
	*r = (struct lio_runner){.pass = NULL};
}
