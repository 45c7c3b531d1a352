/* wire.c - the writer fiber and the two ways a connection ends. See wire.h for W1, W2. */
#include "core/rpc/wire.h"

#include <stdio.h>

static void wire_flush_now(void *arg)
{
	struct wire *w = arg;

	if (w->idle)
		fiber_wake(w->idle);
}

static void wire_writer(void *arg)
{
	struct wire *w = arg;

	while (w->up) {
		if (tx_empty(&w->tx)) {
			if (w->draining)
				break;
			w->idle = fiber_self();
			fiber_park();
			w->idle = NULL;
			continue;
		}
		unsigned n = tx_peek(&w->tx, w->flight);
		int rc = stream_send(w->stream, w->flight, n);
		tx_sent(&w->tx);
		waitq_wake_all(&w->progress);
		if (rc != 0)
			wire_end(w, err_name(rc));
	}
	w->writing = false;
	wire_end(w, "closed");
	waitq_wake_all(&w->progress);
}

int wire_start(struct wire *w, struct loop *loop, struct stream *stream)
{
	w->stream = stream;
	w->up = true;
	w->why[0] = '\0';
	w->idle = NULL;
	w->draining = false;
	frame_rx_init(&w->rx);
	tx_init(&w->tx);
	deferred_init(&w->flush, wire_flush_now, w);
	waitq_init(&w->progress);

	int rc = fiber_spawn(loop, "rpc-writer", wire_writer, w);
	w->writing = rc == 0;
	if (rc != 0) {
		w->up = false;
		stream_close(stream);
		w->stream = NULL;
	}
	return rc;
}

static void wire_note_why(struct wire *w, const char *why)
{
	if (w->why[0] == '\0')
		snprintf(w->why, sizeof(w->why), "%s", why);
}

void wire_end(struct wire *w, const char *why)
{
	wire_note_why(w, why);
	if (!w->up)
		return;
	w->up = false;
	stream_shutdown(w->stream);
	wire_flush_now(w); /* so that an idle writer sees it */
}

void wire_drain(struct wire *w, const char *why)
{
	wire_note_why(w, why);
	if (!w->up)
		return;
	if (tx_empty(&w->tx)) {
		wire_end(w, why);
		return;
	}
	w->draining = true;
	wire_flush(w);
}

int wire_recv(struct wire *w)
{
	size_t cap;
	uint8_t *space = frame_rx_space(&w->rx, &cap);
	if (!space) {
		wire_end(w, err_name(-ENOMEM));
		return -ENOMEM;
	}

	ssize_t n = stream_recv(w->stream, space, cap);
	if (n <= 0) {
		wire_end(w, n == 0 ? "peer closed the connection" : err_name((int)n));
		return -MYFS_E_GONE;
	}
	frame_rx_filled(&w->rx, (size_t)n);
	return w->up ? 0 : -MYFS_E_GONE;
}

int wire_next(struct wire *w, struct frame *ret)
{
	int rc = frame_rx_next(&w->rx, ret);
	if (rc < 0)
		wire_end(w, w->rx.why);
	return rc;
}

void wire_finish(struct wire *w)
{
	wire_end(w, "closed");
	while (w->writing)
		waitq_wait(&w->progress);
	loop_defer_cancel(&w->flush);
	stream_close(w->stream);
	w->stream = NULL;
	frame_rx_release(&w->rx);
	tx_release(&w->tx);
}
