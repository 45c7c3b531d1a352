/* demo.h - a private cluster of real daemons on this machine, in one directory.
 *
 *   DIR/.myfs-demo          marker: only a directory that has it is ever removed
 *   DIR/registry.db
 *   DIR/node<i>/            brickd of one node: control.sock brick.sock log pid, b1 b2 ... brick directories
 *   DIR/gw<i>/              blockd: control.sock nbd.sock log pid */
#ifndef MYFS_CLI_DEMO_H
#define MYFS_CLI_DEMO_H

#include "cli/cluster.h"

#define DEMO_MAX_NODES 16
#define DEMO_MAX_GATEWAYS 4
#define DEMO_MAX_MEMBERS (DEMO_MAX_NODES + DEMO_MAX_GATEWAYS)

struct demo {
	char dir[REG_PATH];
	char bin[REG_PATH];  /* where myfs-brickd and myfs-blockd are */
};

struct demo_member {
	char name[REG_NAME];
	bool gateway;
	char control[REG_PATH], log[REG_PATH], pid[REG_PATH];
};

/* 0 or exit code after printing. */
int demo_locate(const struct invocation *in, struct demo *ret);
bool demo_exists(const struct demo *d);
/* Nodes, then gateways, from what is on disk. Number of members, at most cap. */
int demo_members(const struct demo *d, struct demo_member *ret, int cap);
/* The member called name; "gateway" is all gateways. ret has room for DEMO_MAX_MEMBERS. 0 or exit code. */
int demo_find(const struct invocation *in, const struct demo *d, const char *name, struct demo_member *ret, int *ret_n);
/* Registry setting that keeps the TCP address of a gateway. */
void demo_address_key(const char *gateway, char out[REG_NAME + 32]);
/* Registry setting that keeps its iSCSI portal; absent = none. */
void demo_portal_key(const char *gateway, char out[REG_NAME + 32]);
int demo_start_member(const struct invocation *in, const struct demo *d, const struct demo_member *m);

#endif
