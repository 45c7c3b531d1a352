/* cluster.h - which cluster a command acts on, and whom it asks.
 *
 * The registry file is --registry, else $MYFS_REGISTRY, else `registry = FILE` in section [cluster] of
 * /etc/myfs/myfs.conf, else a demo of this user. Everything else (sockets, names) comes from the registry. */
#ifndef MYFS_CLI_CLUSTER_H
#define MYFS_CLI_CLUSTER_H

#include "cli/command.h"
#include "core/registry/registry.h"

/* Where the demo keeps its files unless --dir says otherwise: $MYFS_DEMO_DIR or ~/.local/share/myfs-demo. Returns out. */
char *demo_default_dir(char out[REG_PATH]);

/* Path of the registry, without looking whether it exists. 0, or an exit code after printing. */
int cluster_registry_path(const struct invocation *in, char ret[REG_PATH]);
/* 0 and *ret (registry_close it), or an exit code after printing the error. */
int cluster_open(const struct invocation *in, struct registry **ret);
/* Asks the first gateway that answers. 0 and *ret_result owned; or an exit code after printing. */
int cluster_ask_gateway(const struct invocation *in, const char *method, json_t *params_consumed, json_t **ret_result);
/* Asks one node's brickd. As above. */
int cluster_ask_node(const struct invocation *in, const struct reg_node *node, const char *method, json_t *params_consumed,
                     json_t **ret_result);
/* Path inside "unix:/path", or NULL when the address is of another kind. */
const char *unix_path(const char *address);
/* Prints a registry failure. Exit code. */
int registry_failed(const struct invocation *in, const struct err *e, const char *what);
/* Adds the command line to the audit history; failure is only said. */
void cluster_history(const struct invocation *in, struct registry *r);

#endif
