/* log.c - lines to stderr with a syslog priority prefix, and a limit per call site so that a fault that repeats a
 * million times neither fills the journal nor slows the daemon.
 *
 * A call site is known by its format string's address. The table of sites is a direct-mapped cache: two sites that
 * collide take turns in a slot, which at worst lets a few more lines through. One writev-sized write per line, so
 * lines of several threads do not mix. */
#include "core/base/log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define SITES 256u
#define LINES_PER_SECOND 10u

struct site {
	const char *fmt;
	int64_t second;
	unsigned lines;    /* in this second */
	unsigned left_out; /* since the last line that came through */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum log_level max_level = LOG_L_INFO;
static char prog_name[64];
static struct site sites[SITES];

void log_set_level(enum log_level level) { max_level = level; }

void log_set_name(const char *name)
{
	pthread_mutex_lock(&lock);
	snprintf(prog_name, sizeof(prog_name), "%s", name);
	pthread_mutex_unlock(&lock);
}

static struct site *site_of(const char *fmt)
{
	uintptr_t h = (uintptr_t)fmt;

	h ^= h >> 8 ^ h >> 16;
	struct site *s = &sites[h % SITES];
	if (s->fmt != fmt)
		*s = (struct site){.fmt = fmt};
	return s;
}

/* May this line go out? *ret_left_out: how many before it did not. */
static bool site_admit(struct site *s, unsigned *ret_left_out)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (s->second != now.tv_sec) {
		s->second = now.tv_sec;
		s->lines = 0;
	}
	if (s->lines >= LINES_PER_SECOND) {
		s->left_out++;
		return false;
	}
	s->lines++;
	*ret_left_out = s->left_out;
	s->left_out = 0;
	return true;
}

static size_t line_clip(int n, size_t used, size_t cap)
{
	if (n < 0)
		return used;
	return min_u64(used + (size_t)n, cap - 1);
}

static void write_line(const char *line, size_t len)
{
	while (len > 0) {
		ssize_t n = write(STDERR_FILENO, line, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* nowhere to report it to */
		line += n;
		len -= (size_t)n;
	}
}

void log_at(enum log_level level, const char *fmt, ...)
{
	if (level > max_level)
		return;

	int saved_errno = errno;
	char line[LINE_MAX_BYTES];
	unsigned left_out = 0;

	pthread_mutex_lock(&lock);
	bool admitted = site_admit(site_of(fmt), &left_out);
	size_t used = line_clip(
	    snprintf(line, sizeof(line), "<%d>%s%s", (int)level, prog_name, prog_name[0] ? ": " : ""), 0, sizeof(line));
	pthread_mutex_unlock(&lock);
	if (!admitted) {
		errno = saved_errno;
		return;
	}

	va_list ap;
	va_start(ap, fmt);
	used = line_clip(vsnprintf(line + used, sizeof(line) - used, fmt, ap), used, sizeof(line));
	va_end(ap);
	if (left_out > 0)
		used = line_clip(snprintf(line + used, sizeof(line) - used, " (and %u more like this)", left_out), used,
				 sizeof(line));
	/* One event is one line, whatever a peer's text holds. */
	for (size_t i = 0; i < used; i++) {
		if ((unsigned char)line[i] < 0x20)
			line[i] = ' ';
	}
	if (used == sizeof(line) - 1)
		used--;
	line[used++] = '\n';
	write_line(line, used);
	errno = saved_errno;
}
