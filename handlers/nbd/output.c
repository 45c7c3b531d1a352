/* output.c - the sending side of a session: replies that become ready during one loop iteration leave in one system
 * call.
 *
 *      task done -> queue -> (end of iteration) flush wakes the sender -> stream_send -> task back to the session
 *
 * Invariants: T1 only the sender fiber sends, so replies never interleave. T2 after a failed send everything queued is
 * dropped and the stream is shut down, so that no half reply is followed by anything. */
#include "handlers/nbd/nbd_priv.h"

static void flush_fn(void *arg)
{
	struct nbd_session *s = arg;

	waitq_wake_all(&s->out.work);
}

void nbd_output_init(struct nbd_session *s)
{
	list_init(&s->out.queue);
	waitq_init(&s->out.work);
	deferred_init(&s->out.flush, flush_fn, s);
}

void nbd_output_add(struct nbd_session *s, struct nbd_task *t)
{
	t->sent_chunk = 0;
	t->sent_part = 0;
	list_push_back(&s->out.queue, &t->node);
	loop_defer(&s->out.flush);
}

static bool put(struct nbd_output *o, unsigned *n, void *base, size_t len)
{
	if (*n == NBD_IOV_MAX)
		return false;
	if (len > 0)
		o->iov[(*n)++] = (struct iovec){.iov_base = base, .iov_len = len};
	return true;
}

/* Puts the rest of t's reply into the iovec. False when that filled up first; the position is kept. */
static bool gather_task(struct nbd_output *o, struct nbd_task *t, unsigned *n)
{
	struct nbd_reply *p = &t->reply;

	for (; t->sent_chunk < p->chunks; t->sent_chunk++, t->sent_part = 0) {
		const struct nbd_chunk *c = &p->chunk[t->sent_chunk];
		if (t->sent_part == 0) {
			if (!put(o, n, p->heads + c->head_at, c->head_len))
				return false;
			t->sent_part = 1;
		}
		for (; t->sent_part <= c->slices; t->sent_part++) {
			const struct slice *sl = &p->data.v[c->first_slice + t->sent_part - 1];
			if (!put(o, n, sl->ptr, sl->len))
				return false;
		}
	}
	return true;
}

/* Fills the iovec from the queue; tasks that are wholly in it move to `sending`. */
static unsigned gather(struct nbd_output *o, struct list *sending)
{
	unsigned n = 0;

	while (!list_empty(&o->queue)) {
		struct nbd_task *t = list_first(&o->queue, struct nbd_task, node);
		if (!gather_task(o, t, &n))
			break;
		list_del(&t->node);
		list_push_back(sending, &t->node);
	}
	return n;
}

static void release(struct nbd_session *s, struct list *tasks)
{
	while (!list_empty(tasks)) {
		struct nbd_task *t = list_first(tasks, struct nbd_task, node);
		list_del(&t->node);
		nbd_session_task_done(s, t);
	}
}

static void sender_fiber(void *arg)
{
	struct nbd_session *s = arg;
	struct nbd_output *o = &s->out;
	struct list sending;
	int rc = 0;

	list_init(&sending);
	while (!o->stop) {
		while (rc == 0 && !list_empty(&o->queue)) {
			unsigned n = gather(o, &sending);
			rc = stream_send(s->stream, o->iov, n);
			release(s, &sending);
		}
		if (rc != 0) {
			nbd_session_cut(s);
			release(s, &o->queue); /* T2 */
		}
		if (list_empty(&o->queue) && !o->stop)
			waitq_wait(&o->work);
	}
	o->ended = true;
	waitq_wake_all(&s->room);
}

int nbd_output_start(struct nbd_session *s)
{
	return fiber_spawn(loop_self(), "nbd-send", sender_fiber, s);
}

void nbd_output_stop(struct nbd_session *s) YIELDS
{
	assert(list_empty(&s->out.queue));
	s->out.stop = true;
	waitq_wake_all(&s->out.work);
	while (!s->out.ended)
		waitq_wait(&s->room);
	loop_defer_cancel(&s->out.flush);
}
