/* volume.h - making a volume: which brick sits where, and the steps that must all happen or be undone. */
#ifndef MYFS_CLI_VOLUME_H
#define MYFS_CLI_VOLUME_H

#include "cli/cluster.h"

#define VOLUME_MAX_BRICKS 256

struct volume_plan {
	char name[REG_NAME];
	uint32_t k, r, sets, chunk_bytes;
	uint64_t journal_bytes;
	bool force;
	size_t n_bricks;
	struct {
		char node[REG_NAME];
		char path[REG_PATH];
	} bricks[VOLUME_MAX_BRICKS];
};

/* "4+2" or, for replicas, n copies as 1+(n-1). Fills k and r. 0 or -EINVAL with text. */
int layout_parse(const char *text, uint32_t *ret_k, uint32_t *ret_r, struct err *e);
/* Losses a set survives: N - W, W = max(K, N/2 + 1). */
uint32_t layout_survives(uint32_t k, uint32_t r);
/* Orders bricks so that each set takes them from as many nodes as possible; pure. */
void volume_spread(struct volume_plan *plan);
/* 0, or -EPERM with a text naming the node whose loss would lose data; pure. */
int volume_check_placement(const struct volume_plan *plan, struct err *e);
/* Prepares the brick directories, records the volume, waits until it is served. Exit code; errors are printed. */
int volume_create(const struct invocation *in, struct volume_plan *plan);
/* Every brickd and gateway looks at the registry again. */
void cluster_reload(struct registry *r);

#endif
