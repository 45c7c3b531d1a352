/* space.c - disk and journal room, asked before a PREP is acknowledged so that nothing fails for space after it (I12).
 *
 *   file system free - promised (overlay + prepared payload) - reserve >= payload     else ENOSPC
 *   inodes free - what promised shards may need - reserve >= a shard's               else ENOSPC, where the shard has no files yet
 *   journal free >= 1/8 after the record                                             else wait for a checkpoint, in
 * order
 *   journal free < 1/4                                                               records enter at the pace of sweeps
 *
 * The journal's last eighth is for decisions, views and checkpoints: those never wait. */
#include "brick/brick_priv.h"

#define SPACE_FRESH_NS NS_PER_S
#define RESERVE_MIN    MIB(32)
#define SHARD_INODES   UINT64_C(4)  /* data, checksums, two directories on the way */
#define RESERVE_INODES 64u /* state and carry files, names */
#define PACE_MIN       MIB(4) /* a second: whatever the last sweep took, a record waits for the next one, not for minutes */

void space_refresh(struct brick *b) YIELDS
{
	if (b->space_asking)
		return;
	b->space_asking = true;
	struct store_space sp;
	int rc = store_space(b->store, &sp);
	b->space_asking = false;
	b->free_at_ns = loop_now_ns();
	if (rc < 0)
		return; /* keep the last answer; a broken directory shows up elsewhere */
	uint64_t reserve = b->opt.reserve_bytes ? b->opt.reserve_bytes : max_u64(sp.total_bytes / 100, RESERVE_MIN);
	b->free_bytes = sp.free_bytes > reserve ? sp.free_bytes - reserve : 0;
	b->free_inodes = sp.free_inodes;
}

/* Every shard in the overlay may be a new one. */
bool space_inodes_short(const struct brick *b)
{
	uint64_t shards = b->overlay.versions; /* at most so many */

	if (b->free_inodes >= RESERVE_INODES + SHARD_INODES * (shards + 1))
		return false;
	shards = 0;
	list_for_each(d, &b->domains, struct domain, node)
		list_for_each(s, &d->shards.list, struct oshard, node)
			shards++;
	return b->free_inodes < RESERVE_INODES + SHARD_INODES * (shards + 1);
}

/* A shard with files, or promised some, needs no more. */
static int inodes_check(struct brick *b, struct domain *d, uint32_t shard) YIELDS
{
	if (!space_inodes_short(b) || oshard_find(&d->shards, shard, false))
		return 0;
	struct frag *f;
	int rc = frag_get(b->tree, &d->gfid, shard, false, &f);
	if (rc == 0)
		frag_put(f);
	return rc == -ENOENT ? -ENOSPC : rc;
}

void space_used(struct brick *b, uint64_t bytes)
{
	b->free_bytes -= min_u64(b->free_bytes, bytes);
}

int space_check(struct brick *b, struct domain *d, uint32_t shard, uint32_t nrows) YIELDS
{
	if (loop_now_ns() - b->free_at_ns > SPACE_FRESH_NS)
		space_refresh(b);
	uint64_t promised = b->overlay.bytes + b->prep_bytes;
	bool fits = promised + (uint64_t)nrows * MYFS_BLOCK <= b->free_bytes;
	b->full = !fits;
	return MUTATED(H17) ? 0 : fits ? inodes_check(b, d, shard) : -ENOSPC;
}

static bool room_now(const struct brick *b, uint32_t body_len, uint32_t payload_len)
{
	return journal_has_room(b->journal, body_len, payload_len, journal_size(b->journal) / 8);
}

/* Writers feel a checkpoint that cannot keep up before the journal is full: from 3/4 on records come in at twice the rate
 * at which sweeps free room, at 7/8 at a quarter of it. Somewhere between both are equal; without this all would stop at
 * 7/8 until a sweep ends. */
static bool nearly_full(const struct brick *b)
{
	return journal_used(b->journal) > journal_size(b->journal) / 8 * 6;
}

static void slow_down(struct brick *b, uint64_t bytes) YIELDS
{
	uint64_t eighth = journal_size(b->journal) / 8, used = journal_used(b->journal);

	if (!nearly_full(b))
		return;
	uint64_t full = min_u64(used - eighth * 6, eighth) * 256 / eighth; /* 0 at 3/4, 256 at 7/8 */
	uint64_t per_s = max_u64(b->freed_per_s / 256 * (512 - full / 4 * 7), PACE_MIN);
	b->pace_ns = max_u64(b->pace_ns, loop_now_ns()) + bytes * NS_PER_S / per_s;
	(void)waitq_wait_until(&b->pace_q, b->pace_ns);
}

int room_wait(struct brick *b, uint32_t body_len, uint32_t payload_len) YIELDS
{
	bool first = true;
	slow_down(b, (uint64_t)body_len + payload_len);
	while (!b->stopping && !b->failed[0]) {
		if ((!first || !b->room_waiters) && room_now(b, body_len, payload_len))
			break;
		first = false;
		b->room_waiters++;
		checkpoint_kick(b);
		waitq_wait(&b->room_q);
		b->room_waiters--;
	}
	/* the next in line may fit as well */
	if (b->room_waiters)
		waitq_wake_one(&b->room_q);
	return b->failed[0] ? -EIO : b->stopping ? -ESHUTDOWN : 0;
}

void room_wake(struct brick *b)
{
	waitq_wake_one(&b->room_q);
	if (nearly_full(b))
		return;
	b->pace_ns = 0;
	waitq_wake_all(&b->pace_q);
}

void room_wake_all(struct brick *b)
{
	waitq_wake_all(&b->room_q);
	waitq_wake_all(&b->pace_q);
}
