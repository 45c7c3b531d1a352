/* iscsi_host.h - what a host needs to export LUNs over iSCSI, looked at without changing anything. */
#ifndef MYFS_CLI_ISCSI_HOST_H
#define MYFS_CLI_ISCSI_HOST_H

#include <stdbool.h>
#include <stddef.h>

/* Calls tell for everything in turn: what, whether it is there, and how to mend it. */
void iscsi_host_check(void (*tell)(void *arg, bool present, const char *what, const char *cure), void *arg);

#endif
