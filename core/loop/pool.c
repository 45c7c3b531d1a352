/* pool.c - see pool.h. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/loop/pool.h"

#define POOL_THREADS 4u

struct pool {
	int event_fd;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct list queued;
	struct list finished;
	bool stop;
	unsigned threads_n;
	unsigned idle;     /* threads that wait, woken ones included until they run */
	unsigned queued_n;
	pthread_t threads[POOL_THREADS];
};

static int64_t or_errno(int64_t res)
{
	return res < 0 ? -errno : res;
}

static int64_t execute(const struct io *io)
{
	switch (io->kind) {
	case IO_PREAD:
		return or_errno(pread(io->fd, io->buf, io->len, (off_t)io->off));
	case IO_PWRITEV:
		return or_errno(pwritev(io->fd, io->iov, (int)io->iov_n, (off_t)io->off));
	case IO_FSYNC:
		return or_errno(io->flags & IO_DATASYNC ? fdatasync(io->fd) : fsync(io->fd));
	case IO_FALLOCATE:
		return or_errno(fallocate(io->fd, io->flags, (off_t)io->off, (off_t)io->len));
	case IO_WORK:
		return io->work(io->arg);
	default:
		return -EOPNOTSUPP;
	}
}

static void *worker(void *arg)
{
	struct pool *p = arg;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (list_empty(&p->queued) && !p->stop) {
			p->idle++;
			pthread_cond_wait(&p->more, &p->lock);
			p->idle--;
		}
		if (list_empty(&p->queued))
			break;
		struct io *io = list_first(&p->queued, struct io, node);
		list_del(&io->node);
		p->queued_n--;
		pthread_mutex_unlock(&p->lock);
		do
			io->res = execute(io);
		while (io->res == -EINTR);
		pthread_mutex_lock(&p->lock);
		bool first = list_empty(&p->finished);
		list_push_back(&p->finished, &io->node);
		if (first)
			eventfd_write(p->event_fd, 1);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

struct pool *pool_new(int event_fd)
{
	struct pool *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->event_fd = event_fd;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->more, NULL);
	list_init(&p->queued);
	list_init(&p->finished);
	return p;
}

/* Signals are the loop's business: workers block them all. */
static void start_thread(struct pool *p)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&p->threads[p->threads_n], NULL, worker, p) == 0)
		p->threads_n++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void pool_start(struct pool *p, struct io *io)
{
	pthread_mutex_lock(&p->lock);
	list_push_back(&p->queued, &io->node); /* P1 */
	p->queued_n++;
	if (p->queued_n > p->idle && p->threads_n < POOL_THREADS) /* each finds a thread of its own: the one before may wait for it */
		start_thread(p);
	bool nobody = p->threads_n == 0;
	if (nobody) {
		list_del(&io->node);
		p->queued_n--;
	} else {
		pthread_cond_signal(&p->more);
	}
	pthread_mutex_unlock(&p->lock);
	if (nobody) /* no thread to be had: late is better than never */
		io_end(io, execute(io));
}

void pool_reap(struct pool *p)
{
	for (;;) {
		pthread_mutex_lock(&p->lock);
		struct io *io = NULL;
		if (!list_empty(&p->finished)) {
			io = list_first(&p->finished, struct io, node);
			list_del(&io->node);
		}
		pthread_mutex_unlock(&p->lock);
		if (!io)
			return;
		io_end(io, io->res);
	}
}

void pool_free(struct pool *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->more);
	pthread_mutex_unlock(&p->lock);
	for (unsigned i = 0; i < p->threads_n; i++)
		pthread_join(p->threads[i], NULL);
	pool_reap(p);
	pthread_mutex_destroy(&p->lock);
	pthread_cond_destroy(&p->more);
	free(p);
}
