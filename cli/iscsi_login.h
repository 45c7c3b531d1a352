/* iscsi_login.h - the kernel's iSCSI initiator by way of iscsiadm: a node record without discovery, CHAP secrets in the record (mode 0600)
 * and never on a command line, login, logout. */
#ifndef MYFS_CLI_ISCSI_LOGIN_H
#define MYFS_CLI_ISCSI_LOGIN_H

#include "core/base/base.h"
#include "core/base/err.h"

struct iscsi_account {
	const char *user, *secret;               /* borrowed; NULL = no authentication */
	const char *target_user, *target_secret; /* mutual CHAP; NULL = the target does not prove itself */
};

/* Pure: record with `key = value` in place of what it said of key, or added; owned by the caller, NULL without memory. */
char *iscsi_record_set(const char *record, const char *key, const char *value);

/* portal: "192.0.2.1:3260". 0 and the device ("/dev/sdb"), or -errno with text: -EACCES when the target refuses the login,
 * -ENOENT when iscsiadm is not installed, -ETIMEDOUT when no device appears. A failed login leaves no record behind. */
int iscsi_login(const char *iqn, const char *portal, const struct iscsi_account *a, char *ret_device, size_t cap, struct err *e);
/* Logs out and removes the record. */
int iscsi_logout(const char *iqn, const char *portal, struct err *e);
/* Device of a session with this target. 0 or -ENOENT. */
int iscsi_device(const char *iqn, char *ret_device, size_t cap);

#endif
