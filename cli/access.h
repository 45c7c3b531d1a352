/* access.h - how a LUN is offered and to whom: the options of `create`, and the lines that tell people how to attach. */
#ifndef MYFS_CLI_ACCESS_H
#define MYFS_CLI_ACCESS_H

#include "cli/command.h"

#define DEFAULT_ISCSI_PORT ":3260"

/* Adds --proto, --allow, --open and --auth to the parameters. 0 or an exit code after printing. */
int access_params(const struct invocation *in, json_t *params);
/* "iscsi,nbd" as an array, or NULL when it holds another word. */
json_t *protos_parse(const char *text);
/* The iSCSI, NBD and access lines of a LUN. */
void print_exports(const json_t *lun);
/* What to type next to attach it. */
void print_attach(const json_t *lun);
/* First export of the protocol ("nbd", "iscsi"), or NULL. Borrowed. */
const json_t *export_of(const json_t *lun, const char *proto);

#endif
