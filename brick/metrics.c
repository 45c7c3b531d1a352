/* metrics.c - first every online brick is looked at (that may suspend, and bricks may come and go meanwhile), then the page is written
 * from the copies in one go, family by family. */
#include "brick/metrics.h"

#include <brick.h>
#include <stdio.h>

struct brick_look {
	struct gfid id;
	char volume[REG_NAME], path[REG_PATH], set[12], index[12];
	bool online;
	struct bp_stat_res stat;
	struct brick_activity act;
};

static struct node_brick *find(struct node *n, const struct gfid *id)
{
	list_for_each(b, &n->bricks, struct node_brick, node)
		if (gfid_eq(&b->reg.uuid, id))
			return b;
	return NULL;
}

static void look_online(struct node *n, struct brick_look *l) YIELDS
{
	struct node_brick *b = find(n, &l->id);

	if (!b || b->state != NODE_BRICK_ONLINE)
		return;
	node_brick_hold(b);
	brick_stat(b->brick, &l->stat);
	l->act = *brick_activity_of(b->brick);
	l->online = true;
	node_brick_release(b);
}

/* Owned array. NULL when there is none, or no memory. */
static struct brick_look *look(struct node *n, size_t *ret_n) YIELDS
{
	size_t cap = 0, at = 0;

	list_for_each(b, &n->bricks, struct node_brick, node)
		cap++;
	struct brick_look *all = calloc(cap ? cap : 1, sizeof(*all));
	*ret_n = 0;
	if (!all)
		return NULL;
	list_for_each(b, &n->bricks, struct node_brick, node) {
		struct brick_look *l = &all[at++];
		l->id = b->reg.uuid;
		snprintf(l->volume, sizeof(l->volume), "%s", b->reg.volume);
		snprintf(l->path, sizeof(l->path), "%s", b->reg.path);
		snprintf(l->set, sizeof(l->set), "%u", b->reg.set_index);
		snprintf(l->index, sizeof(l->index), "%u", b->reg.brick_index);
	}
	for (size_t i = 0; i < at; i++)
		look_online(n, &all[i]);
	*ret_n = at;
	return all;
}

#define LABELS(l) METRICS_LABELS({"volume", (l)->volume}, {"set", (l)->set}, {"index", (l)->index}, {"path", (l)->path})

static void operations(const struct brick_look *all, size_t n, struct metrics *m)
{
	metrics_family(m, "myfs_brick_online", METRICS_GAUGE, "1 while the brick is served.");
	for (size_t i = 0; i < n; i++)
		metrics_u64(m, all[i].online, LABELS(&all[i]));
	metrics_family(m, "myfs_brick_operation_duration_seconds", METRICS_HISTOGRAM,
		       "Requests of gateways, from their arrival at the brick to their answer. prepare is a write in the journal.");
	for (size_t i = 0; i < n; i++)
		for (unsigned op = 0; all[i].online && op < BRICK_OPS; op++)
			metrics_histogram(m, &all[i].act.op[op],
					  METRICS_LABELS({"volume", all[i].volume}, {"set", all[i].set}, {"index", all[i].index}, {"path", all[i].path},
							 {"op", brick_op_names[op]}));
	metrics_family(m, "myfs_brick_prepared_bytes_total", METRICS_COUNTER, "Bytes of payload that gateways sent to be written, parity included.");
	for (size_t i = 0; i < n; i++)
		if (all[i].online)
			metrics_u64(m, all[i].act.prepared_bytes, LABELS(&all[i]));
	metrics_family(m, "myfs_brick_running_operations", METRICS_GAUGE, "Requests being executed now.");
	for (size_t i = 0; i < n; i++)
		if (all[i].online)
			metrics_u64(m, all[i].act.running, LABELS(&all[i]));
}

static void stats(const struct brick_look *all, size_t n, struct metrics *m)
{
	static const struct {
		const char *name, *help;
		enum metrics_type type;
		size_t field, size;
	} rows[] = {
#define ROW(name, help, type, field) {name, help, type, offsetof(struct bp_stat_res, field), sizeof(((struct bp_stat_res *)NULL)->field)}
	    ROW("myfs_brick_read_bytes_total", "Bytes read by gateways.", METRICS_COUNTER, bytes_read),
	    ROW("myfs_brick_written_bytes_total", "Bytes written to fragments, by checkpoints and healing.", METRICS_COUNTER, bytes_written),
	    ROW("myfs_brick_commits_total", "Transactions committed.", METRICS_COUNTER, commits),
	    ROW("myfs_brick_checkpoints_total", "Checkpoint rounds: journal moved to fragments.", METRICS_COUNTER, checkpoints),
	    ROW("myfs_brick_checksum_errors_total", "Blocks the brick found wrong itself.", METRICS_COUNTER, checksum_errors),
	    ROW("myfs_brick_repaired_blocks_total", "Blocks rewritten by a gateway because they were wrong.", METRICS_COUNTER, repaired_blocks),
	    ROW("myfs_brick_capacity_bytes", "Size of the file system the brick is on.", METRICS_GAUGE, total_bytes),
	    ROW("myfs_brick_free_bytes", "Free there.", METRICS_GAUGE, free_bytes),
	    ROW("myfs_brick_journal_size_bytes", "Size of the journal.", METRICS_GAUGE, journal_bytes),
	    ROW("myfs_brick_journal_used_bytes", "Of it, not yet given back by a checkpoint.", METRICS_GAUGE, journal_used),
	    ROW("myfs_brick_overlay_bytes", "Memory holding what is not yet in the fragments.", METRICS_GAUGE, overlay_bytes),
	    ROW("myfs_brick_full", "1 while writes are refused for lack of space.", METRICS_GAUGE, full),
#undef ROW
	};

	for (size_t r = 0; r < ARRAY_LEN(rows); r++) {
		metrics_family(m, rows[r].name, rows[r].type, rows[r].help);
		for (size_t i = 0; i < n; i++) {
			uint64_t wide = 0;
			if (!all[i].online)
				continue;
			if (rows[r].size == sizeof(uint64_t))
				memcpy(&wide, (const char *)&all[i].stat + rows[r].field, sizeof(wide));
			else {
				uint32_t narrow;
				assert(rows[r].size == sizeof(narrow));
				memcpy(&narrow, (const char *)&all[i].stat + rows[r].field, sizeof(narrow));
				wide = narrow;
			}
			metrics_u64(m, wide, LABELS(&all[i]));
		}
	}
}

void node_metrics_write(struct node *n, struct metrics *m)
{
	size_t count;
	struct brick_look *all = look(n, &count);

	metrics_process(m, "brickd", n->cfg.name);
	operations(all, count, m);
	stats(all, count, m);
	free(all);
}

static int print_page(void *arg, FILE *out) YIELDS
{
	struct metrics m = {.text = out};

	node_metrics_write(arg, &m);
	return 0;
}

const struct http_page node_pages[] = {{"/metrics", METRICS_CONTENT_TYPE, print_page}, {NULL, NULL, NULL}};
