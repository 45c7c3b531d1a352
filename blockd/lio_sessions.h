/* lio_sessions.h - which initiators are logged in, as the kernel tells it in acls/<initiator>/info and
 * dynamic_sessions. */
#ifndef MYFS_LIO_SESSIONS_H
#define MYFS_LIO_SESSIONS_H

#include "blockd/lio_tree.h"

/* Array of {iqn, initiator, addresses: [text]} for the targets that begin with the prefix; owned. *ret untouched on
 * failure. */
int lio_sessions_read(struct lio_tree *t, json_t **ret, struct err *e);
/* The addresses of the connections in the text of an info file; NULL when it tells of no session. Pure, owned. */
json_t *lio_info_addresses(const char *info);

#endif
