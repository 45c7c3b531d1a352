/* backend.h - what a loop asks of the world: one operation at a time per struct io, waiting, clocks, randomness.
 *
 * Private to core/loop and to the simulator, which passes its own backend (virtual time) to loop_new_with_backend().
 * An io lives in its user's memory (a fiber's frame, a stream) from io_start() until it is done; the kernel or a pool
 * thread may touch its buffers in between, so nobody may leave before `done`. io_cancel() only asks: the io still ends,
 * with -ECANCELED or with what it did meanwhile.
 *
 * Sockets are blocking descriptors under io_uring (it refuses to wait on O_NONBLOCK ones) and non-blocking under epoll:
 * io_adopt_fd() sets what the backend needs. Inline attempts use MSG_DONTWAIT and RWF_NOWAIT under both. */
#ifndef MYFS_BACKEND_H
#define MYFS_BACKEND_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "core/base/base.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/loop/loop.h"

enum io_kind {
	IO_RECV,      /* buf, len: any number of bytes */
	IO_SENDMSG,   /* msg: any number of bytes */
	IO_ACCEPT,    /* new descriptor, close-on-exec */
	IO_CONNECT,   /* addr, addr_len */
	IO_POLL_IN,   /* readable */
	IO_PREAD,     /* buf, len, off: any number of bytes */
	IO_PWRITEV,   /* iov, iov_n, off: any number of bytes */
	IO_FSYNC,     /* flags: 0 or IO_DATASYNC */
	IO_FALLOCATE, /* flags: fallocate(2) mode; off, len */
	IO_WORK,      /* work(arg) on a pool thread; its return value is the result */
};
#define IO_DATASYNC 1
#define IO_WOULD_BLOCK 2 /* hint for IO_RECV: nothing is likely to be there yet, wait first */

struct io {
	enum io_kind kind;
	int fd;
	int flags;
	union {
		struct {
			void *buf;
			size_t len;
		};
		struct msghdr *msg;
		struct {
			const struct sockaddr *addr;
			socklen_t addr_len;
		};
		struct {
			const struct iovec *iov;
			unsigned iov_n;
		};
		struct {
			int64_t (*work)(void *arg);
			void *arg;
		};
	};
	uint64_t off;

	/* state */
	bool started, done;
	int64_t res;            /* >= 0 or -errno once done */
	struct fiber *waiter;
	void (*fn)(struct io *io); /* instead of a waiter: called on the loop when done; starts no I/O */
	struct list node;       /* backend's */
};

struct backend {
	const char *name;
	bool real_time; /* waiting costs what it costs in the kernel; false: time moves only in wait() */
	/* Queues; never fails: what cannot be queued ends with an error at once. */
	void (*start)(struct backend *b, struct io *io);
	void (*cancel)(struct backend *b, struct io *io);
	/* Hands everything queued to the kernel and ends what is done; sleeps until something ends, wake() or the deadline.
	 * 0 = do not sleep, UINT64_MAX = no deadline. */
	void (*wait)(struct backend *b, uint64_t deadline_ns);
	void (*wake)(struct backend *b);           /* from any thread */
	int (*adopt_fd)(struct backend *b, int fd); /* a socket will be used with this loop; NULL = nothing to do */
	void (*forget_fd)(struct backend *b, int fd); /* before close(2) of a socket; NULL = nothing to do */
	uint64_t (*now_ns)(struct backend *b);
	uint64_t (*wall_ns)(struct backend *b);
	void (*random)(struct backend *b, void *dst, size_t len);
	/* No io is under way any more when it returns. */
	void (*free)(struct backend *b);
};

/* b is owned by the loop, also on failure. */
int loop_new_with_backend(struct backend *b, const struct loop_options *opt, struct loop **ret, struct err *e);

/* The production backends. 0 or -errno with text. */
int uring_backend_new(struct backend **ret, struct err *e);
int epoll_backend_new(struct backend **ret, struct err *e);
/* Their common clocks and randomness. */
uint64_t kernel_now_ns(struct backend *b);
uint64_t kernel_wall_ns(struct backend *b);
void kernel_random(struct backend *b, void *dst, size_t len);

/* For backends: io ended with res. */
void io_end(struct io *io, int64_t res);

/* For users, on the loop of this thread. */
void io_start(struct io *io);  /* at most one start per io until done */
void io_cancel(struct io *io); /* no-op unless under way */
int64_t io_wait(struct io *io) YIELDS;
static inline int64_t io_run(struct io *io) YIELDS
{
	io_start(io);
	return io_wait(io);
}
/* Cancels at the deadline; -ETIMEDOUT when that ended it. */
int64_t io_run_until(struct io *io, uint64_t deadline_ns) YIELDS;
/* To be called after an operation that was done in place, without the backend: a fiber that has had INLINE_RUN_MAX of them since
 * it last suspended yields here, so that a scrub of cached data cannot keep everybody else waiting. */
#define INLINE_RUN_MAX 64u
void io_inline_done(void) YIELDS;
int io_adopt_fd(int fd);
void io_close_socket(int fd);

#endif
