/* verify.c - the end of a run: every block holds a legal value, every row of every touched region is a code word on all bricks, overlay included, so that
 * any K bricks give the same bytes; and the bricks agree on the view. */
#include <stdio.h>

#include "core/base/crc32c.h"
#include "ec/ec_priv.h"
#include "tests/sim/schedule.h"

#define PIECE_SECTORS 512u

struct verify {
	struct schedule *s;
	struct ec_domain *d;
	uint8_t *rows;     /* n fragments of one region, then r computed ones */
	uint8_t *bad;      /* per brick and row: checksum wrong */
};

static void read_area(struct verify *v, unsigned area) YIELDS
{
	struct schedule *s = v->s;
	const struct oracle_area *a = &s->areas[area];
	uint8_t *buf = v->rows;
	for (uint64_t at = 0, all = (uint64_t)a->nblocks * ORACLE_SECTORS; at < all; at += PIECE_SECTORS) {
		struct oracle_range x = {area, (uint64_t)a->lba * ORACLE_SECTORS + at, (uint32_t)min_u64(PIECE_SECTORS, all - at)};
		uint64_t begun = world_now_ns(s->world);
		struct bufs out;
		bufs_init(&out);
		int rc = ec_read(v->d, a->shard, x.sector * ORACLE_SECTOR, x.nsectors * ORACLE_SECTOR, &out);
		if (rc < 0 && s->live)
			schedule_violation(s, "shard %u sector %llu cannot be read at the end: %s", a->shard, (unsigned long long)x.sector, err_name(rc));
		if (rc == 0) {
			bufs_copy_out(&out, 0, buf, out.bytes);
			oracle_read(s->oracle, x, buf, begun, world_now_ns(s->world));
		}
		bufs_release(&out);
	}
}

/* One brick's rows of a region into v->rows; wrong checksums into v->bad. */
static void take_leg(struct verify *v, struct ec_reads *r, uint32_t b, uint32_t n, uint32_t chunk)
{
	struct ec_read_leg *leg = &r->legs[b];
	uint8_t *dst = v->rows + (size_t)chunk * n * MYFS_BLOCK;
	int rc = ec_read_verify(leg);
	memset(v->bad + (size_t)chunk * n, 0, n);
	if (rc == -EIO && mask_has(v->s->rotten, b)) {
		memset(v->bad + (size_t)chunk * n, 1, n);
		return;
	}
	if (rc < 0 && rc != -MYFS_E_BADSUM)
		schedule_violation(v->s, "b%u cannot be read at the end: %s", b, err_name(rc));
	if (leg->res.zero) {
		memset(dst, 0, (size_t)n * MYFS_BLOCK);
		return;
	}
	memcpy(dst, leg->call.payload_in.ptr, (size_t)n * MYFS_BLOCK);
	for (uint32_t i = 0; i < n; i++) {
		if (crc32c(dst + (size_t)i * MYFS_BLOCK, MYFS_BLOCK) == leg->crc[i])
			continue;
		if (!mask_has(v->s->rotten, b))
			schedule_violation(v->s, "b%u: a block has a wrong checksum although its disk never lied (row %u)", b, leg->args.row + i);
		v->bad[(size_t)chunk * n + i] = 1;
	}
}

static void check_row(struct verify *v, uint32_t shard, uint32_t row, uint32_t n, uint32_t i)
{
	const struct ec_geometry *g = &v->d->set->geo;
	const uint8_t *data[EC_MAX_BRICKS];
	uint8_t *parity[EC_MAX_BRICKS];
	for (uint32_t c = 0; c < g->k; c++)
		if (v->bad[(size_t)c * n + i])
			return; /* a rotten one among them: reads and repair answer for it */
	for (uint32_t c = 0; c < g->k; c++)
		data[c] = v->rows + ((size_t)c * n + i) * MYFS_BLOCK;
	for (uint32_t p = 0; p < g->r; p++)
		parity[p] = v->rows + ((size_t)g->n * n + p) * MYFS_BLOCK;
	ec_codec_encode(v->d->set->codec, data, parity, MYFS_BLOCK);
	for (uint32_t p = 0; p < g->r; p++)
		if (!v->bad[(size_t)(g->k + p) * n + i] && memcmp(parity[p], v->rows + ((size_t)(g->k + p) * n + i) * MYFS_BLOCK, MYFS_BLOCK) != 0)
			schedule_violation(v->s, "shard %u row %u: parity %u (b%u) does not belong to the data", shard, row + i, p,
					   ec_brick_of(g, ec_rotation_start(g, &v->d->gfid, shard), row / g->region_rows, g->k + p));
}

/* Rows [row, +n) of one region. */
static void check_rows(struct verify *v, uint32_t shard, uint32_t row, uint32_t n) YIELDS
{
	const struct ec_geometry *g = &v->d->set->geo;
	uint32_t start = ec_rotation_start(g, &v->d->gfid, shard), region = row / g->region_rows;
	struct ec_reads *r = ec_reads_get(v->d->set, false);
	assert(r != NULL);
	for (uint32_t b = 0; b < g->n; b++)
		ec_read_start(v->d, r, b, shard, row, n);
	rpc_group_wait_all(&r->group);
	for (uint32_t b = 0; b < g->n; b++)
		take_leg(v, r, b, n, ec_chunk_of(g, start, region, b));
	ec_reads_put(v->d->set, r);
	for (uint32_t i = 0; i < n; i++)
		check_row(v, shard, row, n, i);
}

static void check_code(struct verify *v) YIELDS
{
	const struct ec_geometry *g = &v->d->set->geo;
	for (unsigned a = 0; a < SIM_AREAS; a++) {
		const struct oracle_area *x = &v->s->areas[a];
		uint32_t stripe = g->rows_per_chunk * g->k;
		uint32_t row = x->lba / stripe * g->rows_per_chunk, end = ((x->lba + x->nblocks - 1) / stripe + 1) * g->rows_per_chunk;
		for (uint32_t n; row < end; row += n) {
			n = (uint32_t)min_u64(end, (row / g->region_rows + 1) * g->region_rows) - row;
			check_rows(v, x->shard, row, n);
		}
	}
}

/* After a flush all bricks agree on who is in sync, and nothing is undecided. (A brick may still remember regions of members: a CLEAR that
 * was lost is never repeated, it only makes a later healing longer.) */
static void check_books(struct verify *v)
{
	struct schedule *s = v->s;
	uint32_t there = mask_all(s->cluster.n) & ~s->gone;
	for (uint32_t b = 0; b < s->cluster.n; b++) {
		struct brick_domain_info info;
		if (!mask_has(there, b))
			continue;
		if (s->cluster.bricks[b].brick == NULL || brick_domain_info(s->cluster.bricks[b].brick, &s->cluster.lun, &info) < 0)
			schedule_violation(s, "b%u holds no promise for the LUN at the end", b);
		if (s->gone != 0) /* reads need not have met it, so it may still be counted in */
			continue;
		if (!info.has_view || !info.ready || !info.insync || info.view_insync != there)
			schedule_violation(s, "b%u: view at the end: has %d ready %d mask %x", b, info.has_view, info.ready, info.view_insync);
		if (info.tx_undecided != 0 && s->rotten == 0) /* else a repair may be under way */
			schedule_violation(s, "b%u has %u undecided transactions after the last flush", b, info.tx_undecided);
	}
}

void verify_all(struct schedule *s) YIELDS
{
	struct sim_gateway *gw = cluster_owner(&s->cluster);
	if (gw == NULL)
		return;
	struct verify v = {.s = s, .d = gw->domain};
	const struct ec_geometry *g = &v.d->set->geo;
	size_t region = (size_t)g->region_rows * MYFS_BLOCK;
	v.rows = malloc(max_u64(region * g->n + g->r * (size_t)MYFS_BLOCK, PIECE_SECTORS * ORACLE_SECTOR));
	v.bad = malloc((size_t)g->n * g->region_rows);
	assert(v.rows != NULL && v.bad != NULL);
	for (unsigned a = 0; a < SIM_AREAS; a++)
		read_area(&v, a);
	if (s->live) {
		if (s->gone == 0) /* else reads decode what is there */
			check_code(&v);
		uint64_t begun = world_now_ns(s->world);
		int rc = ec_flush(v.d);
		if (rc == 0)
			oracle_flushed(s->oracle, begun);
		else if (s->result->rollbacks == 0)
			schedule_violation(s, "the last flush failed: %s", err_name(rc));
		check_books(&v);
	}
	free(v.rows);
	free(v.bad);
}
