/* iov_cursor.h - walks a borrowed iovec array across short transfers, without changing it.
 *
 * Windows of at most IOV_WINDOW entries: enough to keep a system call busy, small enough for a fiber's stack. */
#ifndef MYFS_IOV_CURSOR_H
#define MYFS_IOV_CURSOR_H

#include <sys/uio.h>

#include "core/base/base.h"

#define IOV_WINDOW 64u

struct iov_cursor {
	const struct iovec *v;
	unsigned n;
	size_t skip; /* bytes of v[0] already done */
};

static inline void iov_cursor_advance(struct iov_cursor *c, size_t bytes)
{
	while (c->n > 0 && bytes >= c->v->iov_len - c->skip) {
		bytes -= c->v->iov_len - c->skip;
		c->skip = 0;
		c->v++;
		c->n--;
	}
	assert(c->n > 0 || bytes == 0);
	c->skip += bytes;
}

/* The next piece of work: borrowed entries when nothing is skipped, else a copy in out. Returns how many. */
static inline unsigned iov_cursor_window(const struct iov_cursor *c, struct iovec out[IOV_WINDOW], const struct iovec **ret)
{
	unsigned n = c->n < IOV_WINDOW ? c->n : IOV_WINDOW;

	if (c->skip == 0) {
		*ret = c->v;
		return c->n < 1024 ? c->n : 1024; /* IOV_MAX */
	}
	memcpy(out, c->v, n * sizeof(*out));
	out[0].iov_base = (uint8_t *)out[0].iov_base + c->skip;
	out[0].iov_len -= c->skip;
	*ret = out;
	return n;
}

#endif
