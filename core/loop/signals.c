/* signals.c - termination signals as calls on the loop, through a signalfd. */
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "core/loop/loop_priv.h"

struct loop_signals {
	int fd;
	void (*fn)(void *arg, int signo);
	void *arg;
};

static void signals_fiber(void *arg)
{
	struct loop_signals *s = arg;
	struct signalfd_siginfo info;

	for (;;) {
		struct io io = {.kind = IO_POLL_IN, .fd = s->fd};
		if (io_run(&io) < 0)
			return;
		while (read(s->fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
			s->fn(s->arg, (int)info.ssi_signo);
	}
}

int loop_on_signals(struct loop *l, void (*fn)(void *arg, int signo), void *arg)
{
	sigset_t set;

	if (l->signals)
		return -EALREADY;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	struct loop_signals *s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	*s = (struct loop_signals){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .fn = fn, .arg = arg};
	int rc = s->fd < 0 ? -errno : fiber_spawn(l, "signals", signals_fiber, s);
	if (rc < 0) {
		if (s->fd >= 0)
			close(s->fd);
		free(s);
		return rc;
	}
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	l->signals = s;
	return 0;
}

void signals_free(struct loop *l)
{
	if (!l->signals)
		return;
	close(l->signals->fd);
	free(l->signals);
	l->signals = NULL;
}
