/* carry.c - journal records of domains that make no progress, moved out of the ring's way.
 *
 *   carry.<id>   | records of stuck domains below trim |     ring   |trim ===== every domain's records ===== end|
 *
 * A transaction keeps its journal records until it is stable, and stability needs an owner. When a gateway is gone for
 * good, or a brick waits to be healed, the oldest records would hold the ring for ever and with it every other domain
 * of the brick. So the trim copies the records of such domains, as they are, with their positions, into a file;
 * recovery reads the file first, then the ring.
 *
 * Invariants: K1 a domain is carried with all its records below trim, or with none (what the base contains is known
 * from FOLD, DONE and HEAL records behind the ones they concern); so as long as it is in the file, every trim adds what
 * it cuts off. K2 the state file names the carry file that belongs to its trim; both change in one rename. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "brick/brick_priv.h"

#define WINDOW     (RECORD_BYTES_MAX * 2u)
#define PATH_BYTES 64u

static const char *carry_path(uint64_t id, char out[PATH_BYTES])
{
	snprintf(out, PATH_BYTES, TREE_PRIVATE_DIR "/carry.%llu", (unsigned long long)id);
	return out;
}

bool carry_needed(const struct brick *b, const struct domain *d, uint64_t lsn)
{
	if (tx_min_lsn(d, 0) < lsn)
		return true;
	list_for_each(s, &d->shards.list, struct oshard, node)
		for (uint32_t row = overlay_next_row(&b->overlay, s, 0); row != UINT32_MAX;
		     row = overlay_next_row(&b->overlay, s, row + 1))
			for (const struct row_ver *v = overlay_top(&b->overlay, s, row); v; v = v->older)
				if (v->min_lsn < lsn)
					return true;
	return false;
}

static bool carry_has(const struct carry *c, const struct gfid *domain)
{
	for (size_t i = 0; i < c->n; i++)
		if (gfid_eq(&c->domains[i], domain))
			return true;
	return false;
}

static int carry_add_domain(struct carry *c, const struct gfid *domain)
{
	if (carry_has(c, domain))
		return 0;
	struct gfid *v = realloc(c->domains, (c->n + 1) * sizeof(*v));
	if (!v)
		return -ENOMEM;
	c->domains = v;
	v[c->n++] = *domain;
	return 0;
}

void carry_close(struct carry *c)
{
	file_close(c->file);
	free(c->domains);
	*c = (struct carry){0};
}

/* ---- reading ---- */

/* Records of buf[0, have), which starts at byte off of the file. Returns the bytes used. */
static ssize_t scan_window(const uint8_t *buf, size_t have, uint64_t off, int (*fn)(void *, struct record *), void *arg)
{
	size_t at = 0;
	while (have - at >= RECORD_HEADER_BYTES) {
		struct record r;
		size_t need;
		struct rcur lsn =
		    rcur_of(buf + at + 16, 8); /* records here are not in a row: each says its own position */
		int rc = record_parse(buf + at, have - at, rcur_le64(&lsn), NULL, &r, &need);
		if (rc == -EAGAIN)
			break;
		if (rc < 0 || r.type == REC_PAD)
			return -EUCLEAN;
		r.carried = true;
		r.carry_off = off + at;
		rc = fn(arg, &r);
		if (rc < 0)
			return rc;
		at += r.total;
	}
	return (ssize_t)at;
}

static int scan_file(struct file *f, uint64_t bytes, int (*fn)(void *, struct record *), void *arg) YIELDS
{
	uint8_t *win = malloc(WINDOW);
	if (!win)
		return -ENOMEM;
	ssize_t used = 0;
	for (uint64_t off = 0; off < bytes && used >= 0; off += (uint64_t)used) {
		ssize_t n = file_pread(f, win, (size_t)min_u64(WINDOW, bytes - off), off);
		used = n < 0 ? n : scan_window(win, (size_t)n, off, fn, arg);
		if (used == 0)
			used = -EUCLEAN; /* a record that is not all there */
	}
	free(win);
	return used < 0 ? (int)used : 0;
}

int carry_scan(struct brick *b, int (*fn)(void *arg, struct record *r), void *arg) YIELDS
{
	return b->carry.file ? scan_file(b->carry.file, b->carry.bytes, fn, arg) : 0;
}

static int note_domain(void *arg, struct record *r)
{
	return r->type == REC_DONE ? 0 : carry_add_domain(arg, &r->domain);
}

int carry_open(struct brick *b, uint64_t id, uint64_t bytes, struct err *e) YIELDS
{
	char path[PATH_BYTES];
	struct file_info info;
	b->last_carry_id = id;
	if (!id)
		return 0;
	struct carry c = {.id = id, .bytes = bytes};
	int rc = store_open(b->store, carry_path(id, path), O_RDONLY, 0, &c.file);
	if (rc == 0)
		rc = file_stat(c.file, &info);
	if (rc == 0)
		rc = info.size_bytes < bytes ? -EUCLEAN : scan_file(c.file, bytes, note_domain, &c);
	if (rc < 0) {
		carry_close(&c);
		return err_set(e, rc, "carried journal records %s: %s", path,
			       rc == -EUCLEAN || rc == -ENOENT ? "damaged: the brick must be rebuilt" : err_name(rc));
	}
	b->carry = c;
	return 0;
}

/* ---- building ---- */

struct build {
	struct brick *b;
	struct carry *c;
	uint8_t *out;
	size_t used;
	uint64_t limit;
	bool from_ring; /* something of the ring was copied */
	int rc;
};

/* DONE belongs to no domain: it is kept whenever a FOLD of the domains may be. */
static bool wanted(struct build *w, const struct record *r)
{
	return r->type == REC_DONE || carry_has(w->c, &r->domain);
}

static int keep_record(void *arg, struct record *r) YIELDS
{
	struct build *w = arg;
	if (!wanted(w, r))
		return 0;
	if (w->c->bytes + w->used + r->total > w->limit)
		return -ENOSPC;
	w->from_ring = w->from_ring || (!r->carried && r->type != REC_DONE);
	if (w->used + r->total > WINDOW) {
		int rc = file_pwrite(w->c->file, w->out, w->used, w->c->bytes);
		if (rc < 0)
			return rc;
		w->c->bytes += w->used;
		w->used = 0;
	}
	memcpy(w->out + w->used, r->raw, r->total);
	w->used += r->total;
	return 0;
}

static int build_file(struct build *w, uint64_t upto) YIELDS
{
	struct brick *b = w->b;
	int rc = carry_scan(b, keep_record, w);
	if (rc == 0)
		rc = journal_scan(b->journal, journal_trim_pos(b->journal), upto, keep_record, w);
	if (rc == 0 && w->used) {
		rc = file_pwrite(w->c->file, w->out, w->used, w->c->bytes);
		w->c->bytes += w->used;
	}
	if (rc == 0)
		rc = file_datasync(w->c->file);
	return rc == 0 ? store_sync_dir(b->store, TREE_PRIVATE_DIR)
		       : rc; /* its name must be there before the state names it */
}

static int pick_domains(struct brick *b, uint64_t upto, struct carry *c)
{
	list_for_each(d, &b->domains, struct domain, node)
		if (carry_needed(b, d, upto)) {
			int rc = carry_add_domain(c, &d->gfid);
			if (rc < 0)
				return rc;
		}
	return 0;
}

static bool same_domains(const struct carry *a, const struct carry *c)
{
	for (size_t i = 0; i < a->n; i++)
		if (!carry_has(c, &a->domains[i]))
			return false;
	return a->n == c->n;
}

int carry_build(struct brick *b, uint64_t upto, struct carry *ret, bool *ret_same) YIELDS
{
	char path[PATH_BYTES];
	struct carry c = {.id = ++b->last_carry_id};
	struct build w = {.b = b, .c = &c, .limit = journal_size(b->journal)};
	int rc = pick_domains(b, upto, &c);
	*ret_same = !c.n && !b->carry.file;
	if (rc < 0 || !c.n) {
		carry_close(&c);
		return rc;
	}
	w.out = malloc(WINDOW);
	rc = w.out ? store_open(b->store, carry_path(c.id, path), O_RDWR | O_CREAT | O_TRUNC, 0600, &c.file) : -ENOMEM;
	if (rc == 0)
		rc = build_file(&w, upto);
	free(w.out);
	*ret_same = rc == 0 && b->carry.file && !w.from_ring && same_domains(&b->carry, &c);
	if (rc < 0 || *ret_same) {
		carry_discard(b, &c);
		return rc;
	}
	*ret = c;
	return 0;
}

void carry_discard(struct brick *b, struct carry *c) YIELDS
{
	char path[PATH_BYTES];
	bool made = c->file != NULL;
	uint64_t id = c->id;
	carry_close(c);
	if (made)
		(void)store_unlink(b->store, carry_path(id, path));
}

void carry_replace(struct brick *b, struct carry *c) YIELDS
{
	struct carry old = b->carry;
	b->carry = *c;
	carry_discard(b, &old);
}
