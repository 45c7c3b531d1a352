/* link.c - the thread of a device; see link.h. libnbd's handle belongs to it alone; the lock covers what others see. */
#include "handlers/tcmu/link.h"

#include <libnbd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/control/control.h"

#define HANDSHAKE_MS   15000
#define BACKOFF_MIN_MS 20
#define BACKOFF_MAX_MS 500
#define STACK_BYTES    KIB(256)

struct link {
	struct tcmu_config cfg;
	struct link_observer observer;
	pthread_t thread;
	int wake_fd;
	/* shared, under lock */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list inbox;
	bool woken, stop;
	enum link_phase phase;
	unsigned rounds;  /* connections that came up */
	unsigned resyncs; /* asked for */
	uint64_t size_bytes;
	char why[256]; /* it is not up */
	char control[TCMU_SOCKET_MAX + 1];
	/* of the thread */
	struct nbd_handle *nbd;
	struct list pending, flying, doubtful, finished;
	unsigned n_flying;
	unsigned resyncs_seen;
	bool leave; /* a new connection when nothing is flying any more */
	int64_t retry_ms, attempt_ms, backoff_ms;
};

int64_t link_now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool may_repeat(const struct link_request *r)
{
	return r->kind == LINK_READ || r->kind == LINK_FLUSH || r->kind == LINK_PREFETCH || r->kind == LINK_STATUS;
}

/* ---- from any thread ---- */

static void wake(struct link *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wake_fd, &one, sizeof(one));

	(void)n; /* full means that it will be seen */
}

void link_submit(struct link *l, struct link_request *const *r, unsigned n)
{
	int64_t deadline_ms = link_now_ms() + (int64_t)l->cfg.wait_s * 1000;
	bool tell;

	pthread_mutex_lock(&l->lock);
	for (unsigned i = 0; i < n; i++) {
		r[i]->link = l;
		r[i]->deadline_ms = deadline_ms;
		list_push_back(&l->inbox, &r[i]->node);
	}
	tell = !l->woken;
	l->woken = true;
	pthread_mutex_unlock(&l->lock);
	if (tell)
		wake(l);
}

static void until(unsigned wait_ms, struct timespec *t)
{
	clock_gettime(CLOCK_MONOTONIC, t);
	t->tv_sec += wait_ms / 1000;
	t->tv_nsec += (long)(wait_ms % 1000) * 1000000;
	if (t->tv_nsec >= 1000000000) {
		t->tv_nsec -= 1000000000;
		t->tv_sec++;
	}
}

/* Until a connection of a round after `round` is up. */
static int wait_round(struct link *l, unsigned round, unsigned wait_ms, uint64_t *ret_size, struct err *e)
{
	struct timespec limit;
	int rc = 0;

	until(wait_ms, &limit);
	pthread_mutex_lock(&l->lock);
	while (rc == 0 && (l->phase != LINK_UP || l->rounds <= round))
		rc = pthread_cond_timedwait(&l->changed, &l->lock, &limit);
	if (rc == 0)
		*ret_size = l->size_bytes;
	else
		err_set(e, -EAGAIN, "%s", l->phase == LINK_UP ? "the gateway is busy" : l->why);
	pthread_mutex_unlock(&l->lock);
	return rc ? -EAGAIN : 0;
}

int link_wait_up(struct link *l, unsigned wait_ms, uint64_t *ret_size, struct err *e)
{
	return wait_round(l, 0, wait_ms, ret_size, e);
}

int link_resync(struct link *l, unsigned wait_ms, uint64_t *ret_size, struct err *e)
{
	unsigned round;

	pthread_mutex_lock(&l->lock);
	round = l->rounds;
	l->resyncs++;
	pthread_mutex_unlock(&l->lock);
	wake(l);
	return wait_round(l, round, wait_ms, ret_size, e);
}

void link_control_path(struct link *l, char ret[TCMU_SOCKET_MAX + 1])
{
	pthread_mutex_lock(&l->lock);
	memcpy(ret, l->control, sizeof(l->control));
	pthread_mutex_unlock(&l->lock);
}

/* ---- ends of requests ---- */

static void finish(struct link *l, struct link_request *r, int rc)
{
	r->rc = rc;
	list_del(&r->node);
	list_push_back(&l->finished, &r->node);
}

static void finish_all(struct link *l, struct list *from, int rc)
{
	while (!list_empty(from))
		finish(l, list_first(from, struct link_request, node), rc);
}

/* Outside of libnbd's calls: done() may take its time, and may submit. */
static void tell_finished(struct link *l)
{
	while (!list_empty(&l->finished)) {
		struct link_request *r = list_first(&l->finished, struct link_request, node);

		list_del(&r->node);
		r->done(r, r->rc);
	}
}

static int rc_of_errno(int code)
{
	switch (code) {
	case ENOSPC:
	case EPERM:
	case ENOMEM:
	case EINVAL:
		return -code;
	case ESHUTDOWN:
		return -EAGAIN;
	default:
		return -EIO;
	}
}

/* libnbd's: the command has ended. The handle is locked, so nothing but bookkeeping happens here. */
static int on_answer(void *user_data, int *error)
{
	struct link_request *r = user_data;
	struct link *l = r->link;

	if (*error == ENOTCONN) /* cut off: stays with the flying ones until lost() looks at it */
		return 1;
	if (*error == ESHUTDOWN)
		l->leave =
		    true; /* this session may be over for good: another gateway took the LUN, the volume stopped */
	l->n_flying--;
	finish(l, r, *error ? rc_of_errno(*error) : 0);
	return 1;
}

/* libnbd's: `entries` are pairs of length and flags. May come more than once; what does not fit is not told. */
static int on_extents(void *user_data, const char *context, uint64_t off, uint32_t *entries, size_t n, int *error)
{
	struct link_request *r = user_data;
	struct link_extents *x = r->data;

	(void)context, (void)off, (void)error;
	for (size_t i = 0; i + 1 < n && x->n < x->limit; i += 2) {
		x->v[x->n].len = entries[i];
		x->v[x->n++].hole = entries[i + 1] & LIBNBD_STATE_HOLE;
	}
	return 0;
}

/* ---- connection ---- */

static void set_phase(struct link *l, enum link_phase phase, const char *why)
{
	pthread_mutex_lock(&l->lock);
	l->phase = phase;
	if (why)
		snprintf(l->why, sizeof(l->why), "%s", why);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

static void drop_handle(struct link *l)
{
	if (l->nbd)
		nbd_close(l->nbd);
	l->nbd = NULL;
}

/* The connection, or the attempt, is over. */
static void lost(struct link *l, const char *why)
{
	int64_t now = link_now_ms(), deadline_ms = now + (int64_t)l->cfg.wait_s * 1000;
	bool was_up = l->phase == LINK_UP;
	struct list again;

	drop_handle(l);
	list_init(&again);
	while (!list_empty(&l->flying)) {
		struct link_request *r = list_first(&l->flying, struct link_request, node);

		r->deadline_ms = deadline_ms;
		list_del(&r->node);
		list_push_back(may_repeat(r) ? &again : &l->doubtful, &r->node);
	}
	while (!list_empty(&again)) { /* K4 */
		struct link_request *r = list_entry(again.prev, struct link_request, node);

		list_del(&r->node);
		list_push_front(&l->pending, &r->node);
	}
	l->n_flying = 0;
	l->leave = false;
	l->retry_ms = now + (was_up ? 0 : l->backoff_ms);
	l->backoff_ms = was_up ? BACKOFF_MIN_MS : l->backoff_ms * 2;
	if (l->backoff_ms > BACKOFF_MAX_MS)
		l->backoff_ms = BACKOFF_MAX_MS;
	set_phase(l, LINK_DOWN, why);
	if (was_up && l->observer.down)
		l->observer.down(l->observer.arg, why);
}

/* libnbd's last error tells why an attempt failed; of a connection that was up it may be an older one. */
static void lost_with_nbd_error(struct link *l)
{
	const char *text = l->phase == LINK_UP ? NULL : nbd_get_error();
	char why[256];

	snprintf(why, sizeof(why), "%s: %s", l->cfg.socket, text ? text : "the connection ended");
	lost(l, why);
}

static void start_connecting(struct link *l)
{
	l->attempt_ms = link_now_ms() + HANDSHAKE_MS;
	l->nbd = nbd_create();
	if (!l->nbd || nbd_set_export_name(l->nbd, l->cfg.lun) < 0 || nbd_set_full_info(l->nbd, true) < 0 ||
	    nbd_add_meta_context(l->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
	    nbd_set_pread_initialize(l->nbd, false) < 0 || nbd_aio_connect_unix(l->nbd, l->cfg.socket) < 0) {
		lost_with_nbd_error(l);
		return;
	}
	set_phase(l, LINK_CONNECTING, NULL);
}

/* "...; control PATH" of the export's description. */
static void learn_control(struct link *l)
{
	char *text = nbd_get_export_description(l->nbd);
	const char *at = text ? strstr(text, CONTROL_MARK) : NULL;

	snprintf(l->control, sizeof(l->control), "%s", at ? at + strlen(CONTROL_MARK) : "");
	free(text);
}

static void came_up(struct link *l)
{
	int64_t size = nbd_get_size(l->nbd);

	if (size < 0) {
		lost_with_nbd_error(l);
		return;
	}
	if (nbd_can_flush(l->nbd) != 1 || nbd_can_fua(l->nbd) != 1 || nbd_can_trim(l->nbd) != 1 ||
	    nbd_can_zero(l->nbd) != 1 || nbd_is_read_only(l->nbd) != 0 ||
	    nbd_can_meta_context(l->nbd, LIBNBD_CONTEXT_BASE_ALLOCATION) != 1) {
		lost(l, "the server offers no write, flush, FUA, trim, zero or block status");
		return;
	}
	l->backoff_ms = BACKOFF_MIN_MS;
	pthread_mutex_lock(&l->lock);
	l->size_bytes = (uint64_t)size;
	l->rounds++;
	learn_control(l);
	pthread_mutex_unlock(&l->lock);
	set_phase(l, LINK_UP, NULL);
	finish_all(l, &l->doubtful, -EAGAIN); /* K2 */
	if (l->observer.up)
		l->observer.up(l->observer.arg, (uint64_t)size);
}

/* ---- sending ---- */

static int64_t send_status(struct link *l, struct link_request *r, nbd_completion_callback cb)
{
	nbd_extent_callback found = {.callback = on_extents, .user_data = r};
	struct link_extents *x = r->data;

	x->n = 0; /* an answer that was cut off may have left some */
	return nbd_aio_block_status(l->nbd, r->len, r->off, found, cb, x->limit == 1 ? LIBNBD_CMD_FLAG_REQ_ONE : 0);
}

static int64_t send_request(struct link *l, struct link_request *r)
{
	nbd_completion_callback cb = {.callback = on_answer, .user_data = r};
	uint32_t flags = r->fua ? LIBNBD_CMD_FLAG_FUA : 0;

	switch (r->kind) {
	case LINK_READ:
		return nbd_aio_pread(l->nbd, r->data, r->len, r->off, cb, 0);
	case LINK_WRITE:
		return nbd_aio_pwrite(l->nbd, r->data, r->len, r->off, cb, flags);
	case LINK_ZERO:
		return nbd_aio_zero(l->nbd, r->len, r->off, cb, flags);
	case LINK_TRIM:
		return nbd_aio_trim(l->nbd, r->len, r->off, cb, flags);
	case LINK_FLUSH:
		return nbd_aio_flush(l->nbd, cb, 0);
	case LINK_PREFETCH:
		return nbd_aio_cache(l->nbd, r->len, r->off, cb, 0);
	case LINK_STATUS:
		return send_status(l, r, cb);
	}
	return -1;
}

static bool broken(const struct link *l)
{
	return nbd_aio_is_dead(l->nbd) || nbd_aio_is_closed(l->nbd);
}

static void send_pending(struct link *l)
{
	while (!list_empty(&l->pending) && !l->leave && l->n_flying < LINK_FLYING_MAX) {
		struct link_request *r = list_first(&l->pending, struct link_request, node);

		/* On its list first: the answer may come within the call. */
		list_del(&r->node);
		list_push_back(&l->flying, &r->node);
		l->n_flying++;
		if (send_request(l, r) >= 0)
			continue;
		if (broken(l)) { /* not taken: it was not sent */
			l->n_flying--;
			list_del(&r->node);
			list_push_front(&l->pending, &r->node);
			return;
		}
		l->n_flying--;
		finish(l, r, rc_of_errno(nbd_get_errno()));
	}
}

/* ---- the loop ---- */

static bool take_inbox(struct link *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	while (!list_empty(&l->inbox)) {
		struct link_request *r = list_first(&l->inbox, struct link_request, node);

		list_del(&r->node);
		list_push_back(&l->pending, &r->node);
	}
	l->woken = false;
	if (l->resyncs_seen != l->resyncs) {
		l->resyncs_seen = l->resyncs;
		l->leave = l->phase == LINK_UP;
	}
	stop = l->stop;
	pthread_mutex_unlock(&l->lock);
	return !stop;
}

/* K3 */
static void expire(struct link *l, struct list *from, int64_t now)
{
	list_for_each_safe(r, from, struct link_request, node)
		if (r->deadline_ms <= now)
			finish(l, r, -EAGAIN);
}

static void step(struct link *l)
{
	int64_t now = link_now_ms();

	if (l->phase == LINK_DOWN && now >= l->retry_ms)
		start_connecting(l);
	if (l->phase == LINK_CONNECTING && nbd_aio_is_ready(l->nbd))
		came_up(l);
	else if (l->phase == LINK_CONNECTING && now >= l->attempt_ms)
		lost(l, "the gateway does not answer the handshake");
	if (l->phase == LINK_UP)
		send_pending(l);
	if (l->phase != LINK_DOWN && broken(l))
		lost_with_nbd_error(l);
	if (l->phase == LINK_UP && l->leave && l->n_flying == 0) {
		nbd_aio_disconnect(l->nbd, 0);
		lost(l, "connecting anew");
	}
	if (l->phase != LINK_UP || l->leave)
		expire(l, &l->pending, now);
	expire(l, &l->doubtful, now);
}

static int64_t nearest(const struct list *from, int64_t when)
{
	list_for_each(r, from, struct link_request, node)
		if (r->deadline_ms < when)
			when = r->deadline_ms;
	return when;
}

/* How long nothing is to be done, in ms; -1: until something happens. */
static int patience(const struct link *l)
{
	int64_t when = INT64_MAX, now;

	if (l->phase == LINK_UP && !l->leave)
		return list_empty(&l->finished) ? -1 : 0;
	when = nearest(&l->pending, when);
	when = nearest(&l->doubtful, when);
	if (l->phase == LINK_DOWN && l->retry_ms < when)
		when = l->retry_ms;
	if (l->phase == LINK_CONNECTING && l->attempt_ms < when)
		when = l->attempt_ms;
	if (when == INT64_MAX)
		return -1;
	now = link_now_ms();
	return when <= now ? 0 : when - now > 60000 ? 60000 : (int)(when - now);
}

/* Takes answers as long as there are some. Only when the socket has something: told to read in vain, libnbd's handle
 * would wait for the next answer, and send nothing before. */
static void read_answers(struct link *l)
{
	struct pollfd p = {.fd = nbd_aio_get_fd(l->nbd), .events = POLLIN};

	do {
		if (nbd_aio_notify_read(l->nbd) < 0)
			return;
	} while (l->n_flying > 0 && (nbd_aio_get_direction(l->nbd) & LIBNBD_AIO_DIRECTION_READ) && poll(&p, 1, 0) > 0);
}

static void wait_for_events(struct link *l)
{
	struct pollfd p[2] = {{.fd = l->wake_fd, .events = POLLIN}, {.fd = -1}};
	uint64_t count;

	if (l->nbd) {
		unsigned want = nbd_aio_get_direction(l->nbd);

		p[1].fd = nbd_aio_get_fd(l->nbd);
		p[1].events = (short)((want & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
				      (want & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
	}
	if (poll(p, 2, patience(l)) <= 0)
		return;
	if (p[0].revents && read(l->wake_fd, &count, sizeof(count)) < 0)
		return; /* somebody was faster: nobody is, but nothing is lost either */
	if (!l->nbd || !p[1].revents)
		return;
	if (p[1].revents & POLLOUT)
		nbd_aio_notify_write(l->nbd);
	if (!broken(l) && (p[1].revents & (POLLIN | POLLHUP | POLLERR)) &&
	    (nbd_aio_get_direction(l->nbd) & LIBNBD_AIO_DIRECTION_READ))
		read_answers(l);
}

static void *link_main(void *arg)
{
	struct link *l = arg;

	while (take_inbox(l)) {
		step(l);
		tell_finished(l);
		wait_for_events(l);
		tell_finished(l);
	}
	drop_handle(l);
	while (!list_empty(&l->flying) || !list_empty(&l->pending) || !list_empty(&l->doubtful)) {
		finish_all(l, &l->flying, -EAGAIN);
		finish_all(l, &l->doubtful, -EAGAIN);
		finish_all(l, &l->pending, -EAGAIN);
		tell_finished(l); /* may have submitted more */
		take_inbox(l);
	}
	return NULL;
}

/* ---- life ---- */

static int start_thread(struct link *l)
{
	pthread_attr_t attr;
	sigset_t all, before;
	int rc = pthread_attr_init(&attr);

	if (rc)
		return -rc;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all); /* signals are for the program we live in */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&l->thread, &attr, link_main, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		pthread_setname_np(l->thread, "myfs-link");
	return -rc;
}

static void link_delete(struct link *l)
{
	close(l->wake_fd);
	pthread_cond_destroy(&l->changed);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void init_monotonic(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

int link_new(const struct tcmu_config *cfg, const struct link_observer *o, struct link **ret, struct err *e)
{
	struct link *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(e, -ENOMEM, "no memory");
	l->cfg = *cfg;
	if (o)
		l->observer = *o;
	l->backoff_ms = BACKOFF_MIN_MS;
	snprintf(l->why, sizeof(l->why), "%s: not connected yet", cfg->socket);
	list_init(&l->inbox);
	list_init(&l->pending);
	list_init(&l->flying);
	list_init(&l->doubtful);
	list_init(&l->finished);
	pthread_mutex_init(&l->lock, NULL);
	init_monotonic(&l->changed);
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = l->wake_fd < 0 ? -errno : start_thread(l);
	if (rc < 0) {
		if (l->wake_fd >= 0)
			link_delete(l);
		else
			free(l);
		return err_set(e, rc, "cannot start the connection's thread: %s", err_name(rc));
	}
	*ret = l;
	return 0;
}

void link_free(struct link *l)
{
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_mutex_unlock(&l->lock);
	wake(l);
	pthread_join(l->thread, NULL);
	link_delete(l);
}
