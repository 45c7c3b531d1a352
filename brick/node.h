/* node.h - all bricks of one node in one process: what the registry says should be served here, and what is.
 *
 *   registry --(every 500 ms, or reload)--> node: a fiber per brick
 *
 *   open -> in the host -> (health check every 30 s) -> out of the host -> closed
 *    ^ retried every 5 s while offline
 *
 * A brick that cannot be served does not stop the others; its state and reason are shown. Invariants: N1 a brick that
 * failed while serving (journal or disk error) stays down until its daemon is restarted: what the kernel still shows of
 * its files is not to be trusted. N2 a directory is served only when it is the very brick the registry names at that
 * place. */
#ifndef MYFS_BRICK_NODE_H
#define MYFS_BRICK_NODE_H

#include "brick/brick.h"
#include "brick/debug_delay.h"
#include "core/base/list.h"
#include "core/registry/registry.h"

#define NODE_LISTEN_MAX 8u

struct node_config {
	const char *registry_path;
	const char *name;
	const char *psk_path; /* NULL: no TLS */
	bool allow_plain_tcp;
	struct address listen[NODE_LISTEN_MAX]; /* none: the address the registry has for the node */
	unsigned n_listen;
	struct gfid boot;   /* kernel boot id */
	struct debug_delay delay;
	bool unjournaled;   /* --debug-no-journal */
	uint64_t max_files; /* file descriptors this process may have */
};

enum node_brick_state {
	NODE_BRICK_STARTING,
	NODE_BRICK_ONLINE,
	NODE_BRICK_OFFLINE,
	NODE_BRICK_FAILED,
	NODE_BRICK_STOPPING
};

struct node_brick {
	struct list node; /* node->bricks */
	struct node *owner;
	struct reg_brick reg;
	struct reg_volume volume;
	enum node_brick_state state;
	char reason[ERR_TEXT_MAX]; /* why not online; empty when online */
	struct store *store;
	struct brick *brick; /* NULL unless online (or closing) */
	struct brick_witness *witness; /* mapped while the directory is open; NULL: not to be had */
	bool stop, failed;
	unsigned held; /* fibers using `brick`: it is not closed before they let go */
	struct waitq wake;
};

struct node {
	struct node_config cfg;
	struct loop *loop;
	struct registry *registry;
	struct tls_creds *tls;
	struct rpc_server *server;
	struct brick_host *host;
	struct list bricks;
	struct address listen[NODE_LISTEN_MAX]; /* real ones */
	unsigned n_listen;
	bool stopping, watching;
	struct waitq changed;       /* a brick ended, the watcher ended, or someone wants a look at the registry */
	char trouble[ERR_TEXT_MAX]; /* why the registry cannot be read at present; empty when it can */
	uint64_t started_ns;
};

/* Opens the registry, listens, starts the bricks (in the background). */
int node_start(const struct node_config *cfg, struct node **ret, struct err *e) YIELDS;
/* Orderly: every brick is checkpointed and marked clean. Frees; NULL is fine. */
void node_stop(struct node *n) YIELDS;
/* Look at the registry and at bricks that are offline now. */
void node_reload(struct node *n);
/* An online brick stays open between these two, whatever parks in between. */
void node_brick_hold(struct node_brick *b);
void node_brick_release(struct node_brick *b);
/* Online brick whose directory is `path` or above it; *ret_rest is what follows ("" for the directory itself). NULL
 * when none. */
struct node_brick *node_find_path(struct node *n, const char *path, const char **ret_rest);
const char *node_brick_state_name(enum node_brick_state s);
unsigned node_bricks_online(const struct node *n);

#endif
