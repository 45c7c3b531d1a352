/* journal.c - the ring file behind journal.h.
 *
 * Appending only fills the pending batch (an arena for headers and bodies, references for payloads). At the end of the
 * loop iteration a writer fiber takes the batch and writes it with one call per contiguous run; records appended
 * meanwhile wait in the other batch. COMMITs do not wait for records in need of an answer either: they would lengthen
 * that answer, alone they are written while the gateway is busy. A sync is led by whoever asks first: it covers
 * everything written when it starts, later askers wait for the next. */
#include "brick/journal.h"

#include <stdlib.h>

#include "core/base/mutate.h"

#define BATCH_IOVS  512u
#define SCAN_WINDOW (4u * 1024u * 1024u)
#define SCAN_FIRST  (16u * 1024u) /* the first read; each next one is twice as large, up to the window */

struct piece { /* one record of a batch: head+body in the arena, then payload, then padding */
	uint64_t lsn;
	size_t arena_off, arena_len;
	struct slice payload;
	uint32_t pad;
};

struct batch {
	uint8_t *arena;
	size_t arena_cap, arena_used;
	struct piece *v;
	size_t n, cap;
};

struct journal {
	struct journal_config cfg;
	struct batch batch[2];
	unsigned filling; /* index of the batch appends go to */
	uint64_t trim, end, written, durable;
	uint32_t prev_crc;
	bool writer_running, syncing, write_out;
	bool closing;
	int failed;
	struct fiber *writer;
	struct deferred kick;
	struct waitq written_q, sync_q, idle_q;
	uint64_t syncs;
};

static const uint8_t zero_pad[RECORD_ALIGN];

static void journal_fail(struct journal *j, int rc, const char *what)
{
	if (j->failed)
		return;
	j->failed = rc;
	waitq_wake_all(&j->written_q);
	waitq_wake_all(&j->sync_q);
	if (j->cfg.on_error)
		j->cfg.on_error(j->cfg.arg, rc, what);
}

/* ---- scan ---- */

struct scan {
	uint8_t *win;
	size_t cap, have; /* win holds ring bytes [pos, pos + have) */
	uint64_t pos;     /* lsn of win[0] */
	size_t ahead;     /* how much the next read wants */
};

/* Makes `need` bytes at lsn available, or as many as lie before the end of the ring. */
static int scan_fill(struct journal *j, struct scan *s, uint64_t lsn, size_t need) YIELDS
{
	if (lsn < s->pos || lsn > s->pos + s->have) {
		s->pos = lsn;
		s->have = 0;
	}
	size_t skip = (size_t)(lsn - s->pos);
	if (s->have - skip >= need)
		return 0;
	memmove(s->win, s->win + skip, s->have - skip);
	s->have -= skip;
	s->pos = lsn;
	uint64_t at = lsn % j->cfg.size_bytes;
	size_t want = (size_t)min_u64(max_u64(need, s->ahead), j->cfg.size_bytes - at);
	if (s->have >= want)
		return 0;
	s->ahead = (size_t)min_u64(s->cap, 2 * s->ahead);
	ssize_t n = file_pread(j->cfg.file, s->win + s->have, want - s->have, at + s->have);
	if (n < 0)
		return (int)n;
	s->have += (size_t)n;
	return 0;
}

/* *ret_end: behind the last good record; *ret_prev (may be NULL): its crc, untouched when there was none. */
static int scan_run(struct journal *j, uint64_t from, uint64_t limit, int (*fn)(void *, struct record *), void *arg,
		    uint64_t *ret_end, uint32_t *ret_prev) YIELDS
{
	struct scan s = {.cap = SCAN_WINDOW, .pos = from, .ahead = SCAN_FIRST};
	s.win = malloc(s.cap);
	if (!s.win)
		return -ENOMEM;
	uint64_t lsn = from;
	uint32_t prev = 0;
	bool have_prev = false;
	int rc = 0;
	size_t need = RECORD_HEADER_BYTES;
	while (lsn < limit) {
		struct record r;
		rc = scan_fill(j, &s, lsn, need);
		if (rc < 0)
			break;
		size_t ask = 0; /* scan_fill left win covering lsn */
		rc = record_parse(s.win + (lsn - s.pos), s.have - (size_t)(lsn - s.pos), lsn, have_prev ? &prev : NULL,
				  &r, &ask);
		if (rc == -EAGAIN && ask > need) {
			need = ask; /* more of this record, unless the ring ends first */
			continue;
		}
		if (rc < 0 || lsn % j->cfg.size_bytes + r.total > j->cfg.size_bytes) {
			rc = 0;
			break;
		}
		if (r.type != REC_PAD)
			rc = fn(arg, &r);
		if (rc < 0)
			break;
		prev = r.crc;
		have_prev = true;
		lsn += r.total;
		need = RECORD_HEADER_BYTES;
	}
	free(s.win);
	*ret_end = lsn;
	if (have_prev && ret_prev)
		*ret_prev = prev;
	return rc;
}

int journal_scan(struct journal *j, uint64_t from, uint64_t to, int (*fn)(void *, struct record *), void *arg) YIELDS
{
	assert(from >= j->trim && to <= j->end);
	uint64_t ended;
	int rc = journal_wait_written(j, to);
	if (rc == 0)
		rc = scan_run(j, from, to, fn, arg, &ended, NULL);
	if (rc == 0 && ended < to)
		rc = -EIO; /* what we wrote cannot be read back */
	return rc;
}

/* ---- write ---- */

static void batch_reset(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		buf_unref(b->v[i].payload.owner);
	b->n = 0;
	b->arena_used = 0;
}

static void batch_free(struct batch *b)
{
	batch_reset(b);
	free(b->arena);
	free(b->v);
}

static unsigned piece_iov(const struct batch *b, const struct piece *p, struct iovec *out)
{
	unsigned n = 0;
	out[n++] = (struct iovec){.iov_base = b->arena + p->arena_off, .iov_len = p->arena_len};
	if (p->payload.len)
		out[n++] = (struct iovec){.iov_base = p->payload.ptr, .iov_len = p->payload.len};
	if (p->pad)
		out[n++] = (struct iovec){.iov_base = (void *)(uintptr_t)zero_pad, .iov_len = p->pad};
	return n;
}

static uint64_t piece_len(const struct piece *p)
{
	return p->arena_len + p->payload.len + p->pad;
}

/* Writes runs of records that are contiguous in the file. A PAD is written as its header only, so a run ends behind it.
 */
static int batch_write(struct journal *j, const struct batch *b, struct iovec *iov) YIELDS
{
	size_t i = 0;
	while (i < b->n) {
		uint64_t start = b->v[i].lsn, len = 0;
		unsigned n = 0;
		for (; i < b->n && n + 3 <= BATCH_IOVS && b->v[i].lsn == start + len; i++) {
			if (len && (start + len) % j->cfg.size_bytes == 0)
				break;
			n += piece_iov(b, &b->v[i], iov + n);
			len += piece_len(&b->v[i]);
		}
		int rc = file_pwritev(j->cfg.file, iov, n, start % j->cfg.size_bytes);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static void writer_main(void *arg) YIELDS
{
	struct journal *j = arg;
	struct iovec *iov = malloc(sizeof(*iov) * BATCH_IOVS);
	if (!iov)
		journal_fail(j, -ENOMEM, "no memory for the journal writer");
	while (!j->failed && iov) {
		struct batch *b = &j->batch[j->filling];
		if (!b->n) {
			if (j->closing)
				break;
			fiber_park();
			continue;
		}
		if (j->closing && !j->write_out)
			break;
		uint64_t upto = j->end;
		j->filling ^= 1;
		int rc = batch_write(j, b, iov);
		batch_reset(b);
		if (rc < 0) {
			journal_fail(j, rc, "journal write");
			break;
		}
		if (j->cfg.witness)
			__atomic_store_n(j->cfg.witness, upto, __ATOMIC_RELEASE); /* before any answer can rest on it */
		j->written = upto;
		waitq_wake_all(&j->written_q);
	}
	free(iov);
	j->writer_running = false;
	j->writer = NULL;
	waitq_wake_all(&j->idle_q);
}

static void writer_entry(void *arg) /* fiber */
{
	struct journal *j = arg;
	j->writer = fiber_self();
	writer_main(j);
}

static void writer_kick(void *arg)
{
	struct journal *j = arg;
	if (j->writer)
		fiber_wake(j->writer);
}

/* ---- append ---- */

static bool arena_reserve(struct batch *b, size_t len)
{
	if (b->arena_cap - b->arena_used >= len)
		return true;
	size_t cap = b->arena_cap ? b->arena_cap : 64 * 1024;
	while (cap - b->arena_used < len)
		cap *= 2;
	uint8_t *p = realloc(b->arena, cap);
	if (!p)
		return false;
	b->arena = p;
	b->arena_cap = cap;
	return true;
}

static struct piece *piece_new(struct batch *b)
{
	if (b->n == b->cap) {
		size_t cap = b->cap ? b->cap * 2 : 64;
		struct piece *v = realloc(b->v, cap * sizeof(*v));
		if (!v)
			return NULL;
		b->v = v;
		b->cap = cap;
	}
	return &b->v[b->n];
}

/* Room for a PAD header, then the record's own header and body. */
uint8_t *journal_body(struct journal *j, uint32_t body_len)
{
	assert(body_len <= RECORD_BODY_MAX);
	struct batch *b = &j->batch[j->filling];
	if (j->failed || !arena_reserve(b, RECORD_HEADER_BYTES + record_total(body_len, 0)))
		return NULL;
	return b->arena + b->arena_used + 2u * RECORD_HEADER_BYTES;
}

static int append_at(struct journal *j, enum record_type type, size_t arena_off, uint32_t body_len,
		     const struct slice *payload, uint32_t skip)
{
	struct batch *b = &j->batch[j->filling];
	struct piece *p = piece_new(b);
	if (!p)
		return -ENOMEM;
	uint32_t payload_len = payload ? (uint32_t)payload->len : 0;
	j->prev_crc = record_seal(b->arena + arena_off, type, body_len, type == REC_PAD ? skip : payload_len, j->end,
				  j->prev_crc, j->cfg.salt);
	*p = (struct piece){.lsn = j->end, .arena_off = arena_off, .arena_len = record_total(body_len, 0)};
	if (payload_len) {
		p->payload = *payload;
		if (p->payload.owner)
			buf_ref(p->payload.owner);
		p->pad = (uint32_t)(round_up_u64(payload_len, RECORD_ALIGN) - payload_len);
	}
	b->n++;
	b->arena_used = arena_off + p->arena_len;
	j->end += type == REC_PAD ? RECORD_HEADER_BYTES + skip : record_total(body_len, payload_len);
	return 0;
}

static uint64_t ring_left(const struct journal *j)
{
	return j->cfg.size_bytes - j->end % j->cfg.size_bytes;
}

bool journal_has_room(const struct journal *j, uint32_t body_len, uint32_t payload_len, uint64_t headroom)
{
	uint64_t total = record_total(body_len, payload_len);
	if (total > ring_left(j))
		total += ring_left(j);
	return journal_used(j) + total + headroom <= j->cfg.size_bytes;
}

int journal_append(struct journal *j, enum record_type type, uint32_t body_len, const struct slice *payload,
		   uint64_t *ret_lsn)
{
	if (j->failed)
		return -EIO;
	uint32_t payload_len = payload ? (uint32_t)payload->len : 0;
	if (!journal_has_room(j, body_len, payload_len, 0))
		return -ENOSPC;
	struct batch *b = &j->batch[j->filling];
	size_t off = b->arena_used;
	uint8_t *body = b->arena + off + 2u * RECORD_HEADER_BYTES;
	memset(body + body_len, 0, record_total(body_len, 0) - RECORD_HEADER_BYTES - body_len);
	uint64_t left = ring_left(j);
	if (record_total(body_len, payload_len) > left) {
		int rc = append_at(j, REC_PAD, off, 0, NULL, (uint32_t)(left - RECORD_HEADER_BYTES));
		if (rc < 0)
			return rc;
	} else {
		/* no PAD in front: the header goes where the PAD's would have been, the body follows it down */
		memmove(body - RECORD_HEADER_BYTES, body, record_total(body_len, 0) - RECORD_HEADER_BYTES);
	}
	uint64_t lsn = j->end;
	int rc = append_at(j, type, b->arena_used, body_len, payload, 0);
	if (rc < 0)
		return rc;
	*ret_lsn = lsn;
	loop_defer(&j->kick);
	return 0;
}

/* ---- positions, waiting ---- */

uint64_t journal_end(const struct journal *j)
{
	return j->end;
}
uint64_t journal_trim_pos(const struct journal *j)
{
	return j->trim;
}
uint64_t journal_durable_pos(const struct journal *j)
{
	return j->durable;
}
uint64_t journal_size(const struct journal *j)
{
	return j->cfg.size_bytes;
}
uint64_t journal_used(const struct journal *j)
{
	return j->end - j->trim;
}
uint64_t journal_syncs(const struct journal *j)
{
	return j->syncs;
}

void journal_set_trim(struct journal *j, uint64_t lsn)
{
	assert(lsn >= j->trim && lsn <= j->written); /* J1 */
	j->trim = lsn;
}

int journal_wait_written(struct journal *j, uint64_t lsn) YIELDS
{
	assert(lsn <= j->end);
	while (!j->failed && j->written < lsn) {
		if (j->closing && !j->write_out)
			return -ESHUTDOWN;
		waitq_wait(&j->written_q);
	}
	return j->failed ? -EIO : 0;
}

int journal_sync(struct journal *j, uint64_t lsn) YIELDS
{
	int rc = journal_wait_written(j, lsn);
	while (rc == 0 && j->durable < lsn) {
		if (j->syncing) {
			waitq_wait(&j->sync_q);
		} else {
			uint64_t covers = j->written;
			j->syncing = true;
			rc = file_datasync(j->cfg.file);
			if (MUTATED(H18))
				rc = 0;
			j->syncing = false;
			if (rc < 0) {
				journal_fail(j, rc, "journal fdatasync"); /* never retried: pages may be marked clean */
			} else {
				j->syncs++;
				j->durable = max_u64(j->durable, covers);
			}
			waitq_wake_all(&j->sync_q);
		}
		if (j->failed)
			return -EIO;
	}
	return rc;
}

int journal_read_payload(struct journal *j, uint64_t lsn, uint32_t payload_off, void *dst, size_t len) YIELDS
{
	ssize_t n = file_pread(j->cfg.file, dst, len, lsn % j->cfg.size_bytes + payload_off);
	if (n < 0)
		return (int)n;
	return (size_t)n == len ? 0 : -EIO;
}

/* ---- life ---- */

/* What the scan found is written once more. After a failed sync the kernel shows bytes that it takes for written and the disk never got: only what is
 * written anew does the next sync write. What it does not show any more is found missing by the witness (recover.c). */
static int rewrite(struct journal *j) YIELDS
{
	uint8_t *p = malloc(SCAN_WINDOW / 4);
	int rc = p ? 0 : -ENOMEM;
	for (uint64_t at = j->trim; at < j->end && rc == 0;) {
		uint64_t off = at % j->cfg.size_bytes;
		size_t want = (size_t)min_u64(min_u64(j->end - at, SCAN_WINDOW / 4), j->cfg.size_bytes - off);
		ssize_t n = file_pread(j->cfg.file, p, want, off);
		rc = n < 0 ? (int)n : (size_t)n < want ? -EIO : file_pwrite(j->cfg.file, p, want, off);
		at += want;
	}
	free(p);
	return rc;
}

int journal_open(const struct journal_config *cfg, int (*fn)(void *, struct record *), void *arg, struct journal **ret,
		 struct err *e) YIELDS
{
	struct journal *j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(e, -ENOMEM, "no memory for the journal");
	j->cfg = *cfg;
	j->trim = cfg->trim;
	deferred_init(&j->kick, writer_kick, j);
	waitq_init(&j->written_q);
	waitq_init(&j->sync_q);
	waitq_init(&j->idle_q);
	int rc = scan_run(j, j->trim, j->trim + cfg->size_bytes, fn, arg, &j->end, &j->prev_crc);
	j->written = j->end;
	if (rc == 0)
		rc = rewrite(j);
	if (rc == 0)
		rc = file_datasync(cfg->file); /* a process crash left it in the page cache only */
	j->durable = j->end;
	if (rc < 0) {
		err_set(e, rc, "journal scan at position %llu: %s", (unsigned long long)j->end, err_name(rc));
		free(j);
		return rc;
	}
	j->writer_running = true;
	rc = fiber_run(cfg->loop, "journal-writer", writer_entry, j);
	if (rc < 0) {
		free(j);
		return err_set(e, rc, "cannot start the journal writer: %s", err_name(rc));
	}
	*ret = j;
	return 0;
}

void journal_close(struct journal *j, bool write_out) YIELDS
{
	if (!j)
		return;
	j->closing = true;
	j->write_out = write_out;
	if (j->writer)
		fiber_wake(j->writer);
	waitq_wake_all(&j->written_q);
	while (j->writer_running || j->syncing)
		waitq_wait(j->writer_running ? &j->idle_q : &j->sync_q);
	loop_defer_cancel(&j->kick);
	batch_free(&j->batch[0]);
	batch_free(&j->batch[1]);
	file_close(j->cfg.file);
	free(j);
}
