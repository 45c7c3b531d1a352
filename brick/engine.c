/* engine.c - life of a brick: open, fail, close; and what it tells people about itself. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "brick/brick_priv.h"

#define CHECKPOINT_BYTES MIB(64)
#define FREED_PER_S      MIB(64) /* until a sweep was timed */

/* Frees memory and handles; nothing is written but, with write_out, what the journal still has pending. */
static void brick_free(struct brick *b, bool write_out) YIELDS
{
	while (!list_empty(&b->sessions))
		session_free(list_first(&b->sessions, struct session, node));
	journal_close(b->journal, write_out);
	carry_close(&b->carry);
	while (!list_empty(&b->domains)) {
		struct domain *d = list_first(&b->domains, struct domain, node);
		assert(d->refs == 1); /* no handler is left */
		domain_drop(b, d);
	}
	overlay_release(&b->overlay);
	while (b->tx_pool) {
		struct tx *t = b->tx_pool;
		b->tx_pool = t->hash_next;
		free(t);
	}
	tree_close(b->tree);
	free(b->scratch_txs);
	free(b->scratch_floors);
	free(b);
}

/* A brick that was served without its journal may have forgotten what it promised, and which regions others miss: never again. */
static int check_journaled(struct brick *b, struct err *e) YIELDS
{
	struct file *f;
	int rc = store_open(b->store, TREE_UNJOURNALED, O_RDONLY, 0, &f);

	if (rc == 0) {
		file_close(f);
		return err_set(e, -EUCLEAN, "the brick was served without a journal (--debug-no-journal): what it holds cannot be trusted");
	}
	if (rc != -ENOENT || !b->opt.unjournaled)
		return rc == -ENOENT ? 0 : err_set(e, rc, "%s: %s", TREE_UNJOURNALED, err_name(rc));
	rc = store_open(b->store, TREE_UNJOURNALED, O_RDWR | O_CREAT, 0600, &f);
	if (rc == 0) {
		file_close(f);
		rc = store_sync_dir(b->store, TREE_PRIVATE_DIR);
	}
	return rc < 0 ? err_set(e, rc, "%s: %s", TREE_UNJOURNALED, err_name(rc)) : 0;
}

int brick_open(struct store *s, const struct brick_options *o, struct brick **ret, struct err *e) YIELDS
{
	struct brick *b = calloc(1, sizeof(*b));
	if (!b)
		return err_set(e, -ENOMEM, "no memory for a brick");
	b->opt = *o;
	b->store = s;
	if (!b->opt.checkpoint_bytes)
		b->opt.checkpoint_bytes = CHECKPOINT_BYTES;
	list_init(&b->domains);
	list_init(&b->sessions);
	list_init(&b->host_node);
	waitq_init(&b->session_gone);
	waitq_init(&b->ckpt_gone);
	waitq_init(&b->room_q);
	waitq_init(&b->pace_q);
	b->freed_per_s = FREED_PER_S;
	fmutex_init(&b->ckpt_lock);
	fmutex_init(&b->state_lock);
	loop_random(&b->start_id, sizeof(b->start_id));
	b->scratch_txs = malloc(BP_MAX_TX * sizeof(*b->scratch_txs));
	b->scratch_floors = malloc(BP_MAX_DOMAINS * sizeof(*b->scratch_floors));
	int rc = b->scratch_txs && b->scratch_floors ? tree_open(s, &b->tree, &b->id, e) : err_set(e, -ENOMEM, "no memory for a brick");
	if (rc == 0)
		rc = check_journaled(b, e);
	if (rc == 0) {
		overlay_init(&b->overlay, b->id.region_rows);
		rc = recover(b, e);
	}
	if (rc == 0) {
		space_refresh(b);
		rc = o->manual ? 0 : checkpoint_start(b);
		if (rc < 0)
			err_set(e, rc, "cannot start the checkpoint fiber: %s", err_name(rc));
	}
	if (rc < 0) {
		brick_free(b, false);
		return rc;
	}
	*ret = b;
	return 0;
}

static void brick_quiesce(struct brick *b) YIELDS
{
	b->stopping = true;
	room_wake_all(b);
	checkpoint_stop(b);
}

void brick_close(struct brick *b) YIELDS
{
	if (!b)
		return;
	brick_quiesce(b);
	/* Failing to tidy up costs a longer replay, or heal, at the next start; there is nobody left to tell. */
	if (!b->failed[0] && brick_checkpoint(b, true) == 0)
		(void)state_save(b, journal_trim_pos(b->journal), true, &b->carry);
	brick_free(b, true);
}

void brick_abandon(struct brick *b) YIELDS
{
	if (!b)
		return;
	brick_quiesce(b);
	brick_free(b, false);
}

void brick_fail(struct brick *b, const char *why)
{
	if (b->failed[0])
		return;
	snprintf(b->failed, sizeof(b->failed), "%s", why);
	room_wake_all(b);
	if (b->ckpt_fiber && !b->ckpt_running)
		fiber_wake(b->ckpt_fiber);
	if (b->opt.on_failed)
		b->opt.on_failed(b->opt.arg, b, b->failed);
}

const char *brick_failure(const struct brick *b)
{
	return b->failed[0] ? b->failed : NULL;
}

const struct brick_identity *brick_identity_of(const struct brick *b)
{
	return &b->id;
}

struct tree *brick_tree(struct brick *b)
{
	return b->tree;
}

void brick_stat(struct brick *b, struct bp_stat_res *ret) YIELDS
{
	struct store_space sp = {0};
	(void)store_space(b->store, &sp);
	space_refresh(b);
	*ret = (struct bp_stat_res){
	    .total_bytes = sp.total_bytes,
	    .free_bytes = sp.free_bytes,
	    .journal_bytes = journal_size(b->journal),
	    .journal_used = journal_used(b->journal),
	    .overlay_bytes = b->overlay.bytes + b->prep_bytes,
	    .reads = b->count.reads,
	    .preps = b->count.preps,
	    .commits = b->count.commits,
	    .syncs = b->count.syncs,
	    .checkpoints = b->count.checkpoints,
	    .bytes_read = b->count.bytes_read,
	    .bytes_written = b->count.bytes_written,
	    .checksum_errors = b->count.checksum_errors,
	    .repaired_blocks = b->count.repaired,
	    .domains = b->n_domains,
	    .full = b->full || b->overlay.bytes + b->prep_bytes >= b->free_bytes || space_inodes_short(b),
	};
}

int brick_domain_info(const struct brick *b, const struct gfid *domain, struct brick_domain_info *ret)
{
	const struct domain *d = domain_find(b, domain);
	if (!d || !d->promise_epoch)
		return -ENOENT;
	*ret = (struct brick_domain_info){
	    .promise_epoch = d->promise_epoch,
	    .promise_owner = d->promise_owner,
	    .has_view = d->has_view,
	    .ready = d->view.state == BP_VIEW_READY,
	    .insync = domain_is_insync(b, d),
	    .view_epoch = d->view.epoch,
	    .view_ver = d->view.ver,
	    .view_insync = d->view.insync,
	    .floor_epoch = d->floor.epoch,
	    .floor_n = d->floor.n,
	    .tx_undecided = d->n_undecided,
	    .tx_unstable = d->n_txs,
	    .missed_entries = (unsigned)d->missed.n,
	};
	return 0;
}

void brick_domain_missed(const struct brick *b, const struct gfid *domain,
			 void (*fn)(void *arg, uint32_t shard, uint32_t brick, uint64_t regions), void *arg)
{
	const struct domain *d = domain_find(b, domain);
	for (size_t i = 0; d && i < d->missed.n; i++)
		fn(arg, d->missed.v[i].shard, d->missed.v[i].brick, d->missed.v[i].regions);
}
