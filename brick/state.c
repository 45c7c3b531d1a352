/* state.c - the state file: what every record before state_lsn said about promises, views, floors and missed regions.
 *
 *   magic | format | length | crc32c of the rest | head | domains...          little-endian, layout in FORMAT.md
 *
 * It is replaced as a whole (write, fdatasync, rename, sync the directory) when the journal is trimmed and at start and
 * stop. The journal is synced up to state_lsn first: were it to lose records the snapshot already contains, new records
 * would get positions below state_lsn and be taken for old ones. */
#include <fcntl.h>
#include <stdlib.h>

#include "brick/brick_priv.h"
#include "core/base/crc32c.h"

#define STATE_MAGIC  UINT32_C(0x3153594D) /* "MYS1" */
#define STATE_FORMAT 2u   /* 1, without loss generation and clean, is read too */
#define STATE_PRE    16u
#define STATE_HEAD   96u
#define STATE_DOMAIN 112u /* without boots and missed */
#define STATE_MAX    (256u * 1024u * 1024u)

/* ---- out ---- */

static size_t domain_bytes(const struct domain *d)
{
	return STATE_DOMAIN + 16u * (size_t)d->view.nboot + 16u * d->missed.n;
}

static bool domain_kept(const struct domain *d)
{
	return d->promise_epoch || d->has_view || d->missed.n;
}

static void put_gfid(struct wcur *c, const struct gfid *g)
{
	wcur_copy(c, g->b, 16);
}

static void put_domain(struct wcur *c, const struct domain *d)
{
	put_gfid(c, &d->gfid);
	wcur_le64(c, d->promise_epoch);
	put_gfid(c, &d->promise_owner);
	record_put_tx(c, d->floor);
	wcur_le32(c, d->has_view);
	wcur_le64(c, d->view.epoch);
	wcur_le64(c, d->view.ver);
	wcur_le32(c, d->view.state);
	wcur_le32(c, d->view.insync);
	wcur_le32(c, d->view.layout_gen);
	wcur_le32(c, d->view.nboot);
	wcur_le64(c, d->view.loss_gen);
	wcur_le32(c, d->view.clean);
	wcur_le64(c, d->missed.n);
	for (uint32_t i = 0; i < d->view.nboot; i++)
		put_gfid(c, &d->view.boot[i]);
	for (size_t i = 0; i < d->missed.n; i++)
		record_put_missed(c, &d->missed.v[i]);
}

static uint8_t *state_encode(const struct brick *b, const struct state_head *h, size_t *ret_len)
{
	size_t len = STATE_PRE + STATE_HEAD;
	uint64_t n = 0;
	list_for_each(d, &b->domains, struct domain, node)
		if (domain_kept(d)) {
			len += domain_bytes(d);
			n++;
		}
	uint8_t *p = malloc(len);
	if (!p)
		return NULL;
	struct wcur c = wcur_of(p, len);
	wcur_le32(&c, STATE_MAGIC);
	wcur_le32(&c, STATE_FORMAT);
	wcur_le32(&c, (uint32_t)len);
	wcur_le32(&c, 0);
	put_gfid(&c, &h->boot);
	put_gfid(&c, &h->incarnation);
	wcur_le64(&c, h->trim);
	wcur_le64(&c, h->state_lsn);
	wcur_le64(&c, h->round);
	wcur_le64(&c, h->clean);
	wcur_le64(&c, h->clean_end);
	wcur_le64(&c, h->carry_id);
	wcur_le64(&c, h->carry_bytes);
	wcur_le64(&c, n);
	list_for_each(d, &b->domains, struct domain, node)
		if (domain_kept(d))
			put_domain(&c, d);
	assert(!c.bad && c.left == 0);
	struct wcur at = wcur_of(p + 12, 4);
	wcur_le32(&at, crc32c(p + STATE_PRE, len - STATE_PRE));
	*ret_len = len;
	return p;
}

static int state_write(struct brick *b, const uint8_t *p, size_t len) YIELDS
{
	struct file *f = NULL;
	int rc = store_open(b->store, TREE_STATE_TMP_PATH, O_RDWR | O_CREAT | O_TRUNC, 0600, &f);
	if (rc == 0)
		rc = file_pwrite(f, p, len, 0);
	if (rc == 0)
		rc = file_datasync(f);
	file_close(f);
	if (rc == 0)
		rc = store_rename(b->store, TREE_STATE_TMP_PATH, TREE_STATE_PATH);
	return rc == 0 ? store_sync_dir(b->store, TREE_PRIVATE_DIR) : rc;
}

int state_save(struct brick *b, uint64_t trim, bool clean, const struct carry *carry) YIELDS
{
	fmutex_lock(&b->state_lock);
	uint64_t end = journal_end(b->journal);
	struct state_head h = {.boot = b->opt.boot,
			       .incarnation = b->incarnation,
			       .trim = trim,
			       .state_lsn = end,
			       .round = b->round,
			       .clean = clean,
			       .clean_end = clean ? end : 0,
			       .carry_id = carry->file ? carry->id : 0,
			       .carry_bytes = carry->file ? carry->bytes : 0};
	size_t len;
	uint8_t *p = state_encode(b, &h, &len);
	int rc = p ? journal_sync(b->journal, end) : -ENOMEM;
	if (rc == 0)
		rc = state_write(b, p, len);
	free(p);
	fmutex_unlock(&b->state_lock);
	return rc;
}

/* ---- in ---- */

static struct gfid get_gfid(struct rcur *c)
{
	struct gfid g = {{0}};
	rcur_copy(c, g.b, 16);
	return g;
}

static int get_domain(struct brick *b, struct rcur *c, uint32_t format)
{
	struct gfid g = get_gfid(c);
	struct domain *d;
	if (c->bad || domain_find(b, &g))
		return -EUCLEAN;
	int rc = domain_get(b, &g, &d);
	if (rc < 0)
		return rc;
	d->promise_epoch = rcur_le64(c);
	d->promise_owner = get_gfid(c);
	d->floor.epoch = rcur_le64(c);
	d->floor.n = rcur_le64(c);
	d->has_view = rcur_le32(c) != 0;
	d->view.epoch = rcur_le64(c);
	d->view.ver = rcur_le64(c);
	d->view.state = rcur_le32(c);
	d->view.insync = rcur_le32(c);
	d->view.layout_gen = rcur_le32(c);
	uint32_t nboot = rcur_le32(c);
	if (format >= 2) {
		d->view.loss_gen = rcur_le64(c);
		d->view.clean = rcur_le32(c) != 0;
	}
	uint64_t missed = rcur_le64(c);
	if (c->bad || nboot > BP_MAX_BRICKS || missed > c->left / 16)
		return -EUCLEAN;
	d->view.nboot = nboot;
	for (uint32_t i = 0; i < nboot; i++)
		d->view.boot[i] = get_gfid(c);
	for (uint64_t i = 0; i < missed && rc >= 0; i++) {
		uint32_t shard = rcur_le32(c), brick = rcur_le32(c);
		uint64_t regions = rcur_le64(c);
		rc = brick < BP_MAX_BRICKS ? missed_add(&d->missed, shard, brick, regions) : -EUCLEAN;
	}
	return rc < 0 ? rc : c->bad ? -EUCLEAN : 0;
}

static int state_decode(struct brick *b, const uint8_t *p, size_t len, struct state_head *h)
{
	struct rcur c = rcur_of(p, len);
	uint32_t magic = rcur_le32(&c), format = rcur_le32(&c), says = rcur_le32(&c), crc = rcur_le32(&c);
	if (c.bad || magic != STATE_MAGIC || format < 1 || format > STATE_FORMAT || says != len || crc32c(c.p, c.left) != crc)
		return -EUCLEAN;
	h->boot = get_gfid(&c);
	h->incarnation = get_gfid(&c);
	h->trim = rcur_le64(&c);
	h->state_lsn = rcur_le64(&c);
	h->round = rcur_le64(&c);
	h->clean = rcur_le64(&c) != 0;
	h->clean_end = rcur_le64(&c);
	h->carry_id = rcur_le64(&c);
	h->carry_bytes = rcur_le64(&c);
	uint64_t n = rcur_le64(&c);
	int rc = c.bad || h->trim > h->state_lsn ? -EUCLEAN : 0;
	for (uint64_t i = 0; i < n && rc == 0; i++)
		rc = get_domain(b, &c, format);
	return rc == 0 && c.left ? -EUCLEAN : rc;
}

int state_load(struct brick *b, struct state_head *ret, struct err *e) YIELDS
{
	struct file *f = NULL;
	int rc = store_open(b->store, TREE_STATE_PATH, O_RDONLY, 0, &f);
	if (rc == -ENOENT)
		return rc;
	struct file_info info = {0};
	if (rc == 0)
		rc = file_stat(f, &info);
	uint8_t *p = NULL;
	if (rc == 0 && info.size_bytes <= STATE_MAX)
		p = malloc((size_t)info.size_bytes + 1);
	ssize_t n = p ? file_pread(f, p, (size_t)info.size_bytes, 0) : rc < 0 ? rc : -EUCLEAN;
	file_close(f);
	rc = n < 0 ? (int)n : state_decode(b, p, (size_t)n, ret);
	free(p);
	if (rc < 0)
		err_set(e, rc, "state file %s: %s", TREE_STATE_PATH,
			rc == -EUCLEAN ? "damaged: promises may be lost, the brick must be rebuilt" : err_name(rc));
	return rc;
}
