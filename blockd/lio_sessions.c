/* lio_sessions.c - see lio_sessions.h. An info file of a logged-in initiator reads
 *
 *   InitiatorName: iqn.1993-08.org.debian:01:abc
 *   LIO Session ID: 1   ISID: 0x80 12 34 56 00 00  TSIH: 1  SessionType: Normal
 *   Session State: TARG_SESS_STATE_LOGGED_IN
 *   ...
 *   CID: 0  Connection State: TARG_CONN_STATE_LOGGED_IN
 *      Address 192.0.2.50 TCP  StatSN: 0x00000000
 *
 * and of another one "No active iSCSI Session for Initiator Endpoint: ...". */
#include "blockd/lio_sessions.h"

#include <stdio.h>

json_t *lio_info_addresses(const char *info)
{
	json_t *list;

	if (!strstr(info, "Session State: TARG_SESS_STATE_LOGGED_IN"))
		return NULL;
	list = json_array();
	for (const char *p = info; (p = strstr(p, "Address ")); p++) {
		const char *word = p + strlen("Address ");

		json_array_append_new(list, json_stringn(word, strcspn(word, " \t\n")));
	}
	return list;
}

static void add(json_t *sessions, const char *iqn, const char *initiator, json_t *addresses)
{
	json_array_append_new(sessions,
			      json_pack("{s:s,s:s,s:o}", "iqn", iqn, "initiator", initiator, "addresses", addresses));
}

static int target_sessions(struct lio_tree *t, const char *iqn, json_t *out, struct err *e)
{
	struct lio_names acls = {NULL, 0};
	char path[LIO_PATH], text[LIO_VALUE];
	int rc;

	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/acls", iqn);
	rc = lio_names_read(t, path, LIO_DIR, &acls, e);
	for (size_t i = 0; i < acls.n; i++) {
		snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/acls/%s/info", iqn, acls.v[i]);
		json_t *addresses = t->fs->read(t->fs, path, text) == 0 ? lio_info_addresses(text) : NULL;
		if (addresses)
			add(out, iqn, acls.v[i], addresses);
	}
	/* Initiators without a rule of their own: of open targets. */
	snprintf(path, sizeof(path), "iscsi/%s/tpgt_1/dynamic_sessions", iqn);
	if (rc == 0 && t->fs->read(t->fs, path, text) == 0) {
		char *save = NULL;
		for (char *w = strtok_r(text, " \t\r\n", &save); w; w = strtok_r(NULL, " \t\r\n", &save))
			if (!lio_names_have(&acls, w))
				add(out, iqn, w, json_array());
	}
	free(acls.v);
	return rc;
}

int lio_sessions_read(struct lio_tree *t, json_t **ret, struct err *e)
{
	struct lio_names targets = {NULL, 0};
	json_t *out = json_array();
	int rc = lio_names_read(t, "iscsi", LIO_DIR, &targets, e);

	for (size_t i = 0; i < targets.n && rc == 0; i++)
		if (strncmp(targets.v[i], t->want->prefix, strlen(t->want->prefix)) == 0)
			rc = target_sessions(t, targets.v[i], out, e);
	free(targets.v);
	if (rc < 0)
		json_decref(out);
	else
		*ret = out;
	return rc;
}
