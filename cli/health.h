/* health.h - one picture of the cluster, gathered from the registry and every daemon that answers, and what is wrong with it. */
#ifndef MYFS_CLI_HEALTH_H
#define MYFS_CLI_HEALTH_H

#include "cli/cluster.h"

enum health_level { HEALTH_OK, HEALTH_INFO, HEALTH_WARN, HEALTH_ERR };

struct health {
	json_t *bricks;   /* array: node, path, volume, set, index, state, reason, and the brick's counters when it answers */
	json_t *nodes;    /* array: name, state */
	json_t *gateways; /* array: name, state, and the gateway's status document */
	json_t *volumes;  /* array: name, layout, survives, up, total, may_lose */
	json_t *findings; /* array: code, level, status, effect, action */
	enum health_level level;
	size_t luns;
};

/* Gathers; daemons that do not answer within 3 s count as down. 0 or exit code after printing. health_free always. */
int health_gather(const struct invocation *in, struct health *h);
void health_free(struct health *h);
const char *health_level_name(enum health_level level);

#endif
