/* file_posix.c - data of kernel files: what the page cache has is served in place, the rest goes through the loop.
 *
 * Reads: preadv2(RWF_NOWAIT) takes what is cached without sleeping; the first byte that is not goes to the backend.
 * Writes: made in place, in pieces: copying into the page cache costs less than handing the work to a kernel thread. When two of them within a short time sleep (the system throttles writers, or a page must be read), the
 * following writes go through the backend for a while, so that one busy disk does not stop the loop.
 * Syncs, allocation and truncation always leave the loop free. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "core/loop/backend.h"
#include "core/loop/file_posix.h"
#include "core/loop/iov_cursor.h"

/* One system call. The kernel makes folios of what it is given, and a later small write into a large folio walks all of its blocks: 4 KiB
 * cost 26 us in folios of 1 MiB, 9 in 256 KiB, 4 in 64 KiB (ext4, kernel 6.18). */
#define WRITE_PIECE KIB(64)
#define WRITE_BREATH KIB(256) /* copied by one caller before others run */
#define SLOW_WRITE_NS (2 * NS_PER_MS)
#define SLOW_PAUSE_NS (50 * NS_PER_MS)

struct posix_file {
	struct file f;
	int fd;
	bool no_nowait;            /* this file system knows no RWF_NOWAIT reads */
	bool in_memory;            /* tmpfs: a read is a copy */
	uint64_t write_aside_until; /* writes go through the backend until then */
	uint64_t suspicious_until;  /* a write was slow a short while ago */
};

static struct posix_file *posix_file(struct file *f)
{
	return CONTAINER_OF(f, struct posix_file, f);
}

void file_info_fill(const struct stat *st, struct file_info *ret)
{
	*ret = (struct file_info){
	    .mode = st->st_mode,
	    .nlink = (uint32_t)st->st_nlink,
	    .size_bytes = (uint64_t)st->st_size,
	    .alloc_bytes = (uint64_t)st->st_blocks * 512,
	    .ino = st->st_ino,
	};
}

static void posix_file_close(struct file *f)
{
	struct posix_file *p = posix_file(f);

	close(p->fd);
	free(p);
}

static void nowait_refused(struct posix_file *p)
{
	struct statfs fs;

	if (fstatfs(p->fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC)
		p->in_memory = true;
	else
		p->no_nowait = true;
}

/* Bytes read in place, 0 at the end of the file, -EAGAIN when the disk is needed. */
static int64_t read_cached(struct posix_file *p, void *dst, size_t len, uint64_t off)
{
	struct iovec v = {.iov_base = dst, .iov_len = len};

	if (p->no_nowait)
		return -EAGAIN;
	loop_counters.reads++;
	ssize_t n = preadv2(p->fd, &v, 1, (off_t)off, p->in_memory ? 0 : RWF_NOWAIT);
	if (n >= 0)
		return n;
	if (errno == EOPNOTSUPP || errno == ENOSYS)
		nowait_refused(p);
	return errno == EINTR || p->no_nowait || p->in_memory ? -EAGAIN : -errno;
}

static ssize_t posix_pread(struct file *f, void *dst, size_t len, uint64_t off)
{
	struct posix_file *p = posix_file(f);
	size_t done = 0;

	if (off > INT64_MAX || len > INT64_MAX - off)
		return -EINVAL;
	while (done < len) {
		uint8_t *to = (uint8_t *)dst + done;
		int64_t n = read_cached(p, to, len - done, off + done);
		if (n == -EAGAIN) {
			struct io io = {.kind = IO_PREAD, .fd = p->fd, .buf = to, .len = len - done, .off = off + done};
			n = io_run(&io);
		} else {
			io_inline_done();
		}
		if (n == -EINTR || n == -EAGAIN)
			continue;
		if (n < 0)
			return (ssize_t)n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

/* How often this thread has gone to sleep; being preempted does not count. */
static long sleeps(void)
{
	struct rusage u;

	return getrusage(RUSAGE_THREAD, &u) < 0 ? 0 : u.ru_nvcsw;
}

/* A write that takes long has slept (throttled, waiting for a page), or somebody else had the processor. Only the first says something
 * about the disk, so after a slow write the next ones are looked at more closely, which costs two system calls each. */
static int64_t write_in_place(struct posix_file *p, const struct iovec *v, unsigned n, uint64_t off)
{
	uint64_t start = loop_precise_ns();
	loop_counters.writes++;
	bool suspicious = start < p->suspicious_until;
	long slept = suspicious ? sleeps() : 0;
	ssize_t done = pwritev(p->fd, v, (int)n, (off_t)off);
	int64_t res = done < 0 ? -errno : done;
	uint64_t end = loop_precise_ns();

	if (end - start > SLOW_WRITE_NS) {
		if (suspicious && sleeps() > slept)
			p->write_aside_until = end + SLOW_PAUSE_NS;
		p->suspicious_until = end + 2 * SLOW_PAUSE_NS;
	}
	return res;
}

static size_t bytes_of(const struct iovec *v, unsigned n)
{
	size_t sum = 0;

	for (unsigned i = 0; i < n; i++)
		sum += v[i].iov_len;
	return sum;
}

/* What one call writes at off: up to the next multiple of WRITE_PIECE. Returns how many entries. */
static unsigned next_piece(const struct iov_cursor *at, uint64_t off, struct iovec out[IOV_WINDOW], size_t *ret_len)
{
	size_t room = WRITE_PIECE - off % WRITE_PIECE, len = 0;
	unsigned n = 0;

	for (; n < at->n && n < IOV_WINDOW && len < room; n++) {
		size_t skip = n == 0 ? at->skip : 0;
		out[n].iov_base = (uint8_t *)at->v[n].iov_base + skip;
		out[n].iov_len = min_u64(at->v[n].iov_len - skip, room - len);
		len += out[n].iov_len;
	}
	*ret_len = len;
	return n;
}

static int64_t write_piece(struct posix_file *p, const struct iovec *v, unsigned n, uint64_t off) YIELDS
{
	if (loop_now_ns() >= p->write_aside_until) {
		int64_t done = write_in_place(p, v, n, off);
		io_inline_done();
		return done;
	}
	struct io io = {.kind = IO_PWRITEV, .fd = p->fd, .iov = v, .iov_n = n, .off = off};
	return io_run(&io);
}

static int posix_pwritev(struct file *f, const struct iovec *v, unsigned n, uint64_t off)
{
	struct posix_file *p = posix_file(f);
	struct iov_cursor at = {.v = v, .n = n};
	size_t left = bytes_of(v, n), since_breath = 0;

	if (off > INT64_MAX || left > INT64_MAX - off)
		return -EINVAL;
	iov_cursor_advance(&at, 0);
	while (left > 0) {
		struct iovec piece[IOV_WINDOW];
		size_t len;
		unsigned pieces = next_piece(&at, off, piece, &len);
		int64_t done = write_piece(p, piece, pieces, off);
		if (done == -EINTR || done == -EAGAIN)
			continue;
		if (done <= 0)
			return done < 0 ? (int)done : -EIO;
		off += (uint64_t)done;
		left -= (size_t)done;
		iov_cursor_advance(&at, (size_t)done);
		since_breath += (size_t)done;
		if (since_breath >= WRITE_BREATH && left > 0) {
			since_breath = 0;
			fiber_yield();
		}
	}
	return 0;
}

int file_posix_sync(int fd, bool data_only)
{
	struct io io = {.kind = IO_FSYNC, .fd = fd, .flags = data_only ? IO_DATASYNC : 0};

	return (int)io_run(&io);
}

static int posix_datasync(struct file *f)
{
	return file_posix_sync(posix_file(f)->fd, true);
}

static int posix_allocate(struct file *f, enum file_alloc_mode mode, uint64_t off, uint64_t len)
{
	static const int modes[] = {
	    [FILE_PREALLOCATE] = 0,
	    [FILE_PUNCH_HOLE] = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
	    [FILE_ZERO_RANGE] = FALLOC_FL_ZERO_RANGE,
	};
	struct io io = {.kind = IO_FALLOCATE, .fd = posix_file(f)->fd, .flags = modes[mode], .off = off, .len = len};

	return (int)io_run(&io);
}

struct truncate_args {
	int fd;
	uint64_t size;
};

static int64_t truncate_run(void *arg)
{
	const struct truncate_args *a = arg;

	return ftruncate(a->fd, (off_t)a->size) < 0 ? -errno : 0;
}

static int posix_truncate(struct file *f, uint64_t size)
{
	struct truncate_args args = {posix_file(f)->fd, size};

	if (size > INT64_MAX)
		return -EFBIG;
	return (int)loop_offload(truncate_run, &args);
}

static int posix_file_stat(struct file *f, struct file_info *ret)
{
	struct stat st;

	if (fstat(posix_file(f)->fd, &st) < 0)
		return -errno;
	file_info_fill(&st, ret);
	return 0;
}

static int64_t seek(struct file *f, uint64_t off, int whence)
{
	if (off > INT64_MAX)
		return -ENXIO;
	off_t at = lseek(posix_file(f)->fd, (off_t)off, whence);
	return at < 0 ? -errno : at;
}

static int64_t posix_seek_data(struct file *f, uint64_t off)
{
	return seek(f, off, SEEK_DATA);
}

static int64_t posix_seek_hole(struct file *f, uint64_t off)
{
	return seek(f, off, SEEK_HOLE);
}

static void posix_uncache(struct file *f, uint64_t off, uint64_t len)
{
	(void)posix_fadvise(posix_file(f)->fd, (off_t)off, (off_t)len, POSIX_FADV_DONTNEED);
}

static const struct file_ops posix_file_ops = {
    .close = posix_file_close,
    .pread = posix_pread,
    .pwritev = posix_pwritev,
    .datasync = posix_datasync,
    .allocate = posix_allocate,
    .truncate = posix_truncate,
    .stat = posix_file_stat,
    .seek_data = posix_seek_data,
    .seek_hole = posix_seek_hole,
};

int file_posix_new(int fd, struct file **ret)
{
	struct posix_file *p = calloc(1, sizeof(*p));

	if (!p)
		return -ENOMEM;
	p->f.ops = &posix_file_ops;
	p->f.uncache = posix_uncache;
	p->fd = fd;
	*ret = &p->f;
	return 0;
}
