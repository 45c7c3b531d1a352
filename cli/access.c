#include "cli/access.h"

#include <stdio.h>

#include "cli/field.h"

json_t *protos_parse(const char *text)
{
	char copy[64], *save = NULL;
	json_t *list = json_array();
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *w = strtok_r(copy, ",", &save); w != NULL; w = strtok_r(NULL, ",", &save)) {
		if (strcmp(w, "iscsi") != 0 && strcmp(w, "nbd") != 0) {
			json_decref(list);
			return NULL;
		}
		json_array_append_new(list, json_string(w));
	}
	if (strlen(text) < sizeof(copy) && json_array_size(list) > 0)
		return list;
	json_decref(list);
	return NULL;
}

int access_params(const struct invocation *in, json_t *params)
{
	const char *proto = opt_value(in, "proto", NULL), *auth = opt_value(in, "auth", NULL), *who;
	if (proto != NULL) {
		json_t *list = protos_parse(proto);
		if (list == NULL)
			return usage_error(in, "--proto is iscsi, nbd or iscsi,nbd, not \"%s\"", proto);
		json_object_set_new(params, "protos", list);
	}
	if (auth != NULL) {
		if (strcmp(auth, "chap") != 0 && strcmp(auth, "mutual") != 0 && strcmp(auth, "none") != 0)
			return usage_error(in, "--auth is chap, mutual or none, not \"%s\"", auth);
		json_object_set_new(params, "auth", json_string(auth));
	}
	json_t *allow = json_array();
	for (int i = 0; (who = opt_nth(in, "allow", i)) != NULL; i++)
		json_array_append_new(allow, json_string(who));
	json_object_set_new(params, "allow", allow);
	json_object_set_new(params, "open", json_boolean(opt_given(in, "open")));
	return 0;
}

const json_t *export_of(const json_t *lun, const char *proto)
{
	const json_t *list = json_object_get(lun, "exports");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(field_text(json_array_get(list, i), "proto", ""), proto) == 0)
			return json_array_get(list, i);
	return NULL;
}

/* "192.0.2.11:3260 (active)  192.0.2.12:3260": all portals of a target on one line. */
static void print_iscsi(const json_t *lun)
{
	const json_t *first = export_of(lun, "iscsi"), *list = json_object_get(lun, "exports");
	if (first == NULL)
		return;
	printf("  iSCSI   %s ", field_text(first, "iqn", "-"));
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *x = json_array_get(list, i);
		if (strcmp(field_text(x, "proto", ""), "iscsi") == 0)
			printf("  %s%s", field_text(x, "portal", "-"), json_is_true(json_object_get(x, "active")) ? " (active)" : "");
	}
	printf("\n");
	if (!json_is_true(json_object_get(first, "active")))
		printf("          not exported now (%s)%s%s\n", field_text(first, "state", "-"), json_object_get(first, "why") ? ": " : "", field_text(first, "why", ""));
}

static void print_nbd(const json_t *lun)
{
	const json_t *list = json_object_get(lun, "exports");
	bool first = true;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *x = json_array_get(list, i);
		if (strcmp(field_text(x, "proto", ""), "nbd") != 0)
			continue;
		printf("  %-7s %s%s\n", first ? "NBD" : "also", field_text(x, "uri", "-"), json_is_false(json_object_get(x, "active")) ? "  (not served now)" : "");
		first = false;
	}
}

static void print_access(const json_t *lun)
{
	const json_t *access = json_object_get(lun, "access"), *allow = json_object_get(access, "allow");
	const char *auth = field_text(access, "auth", "none");
	if (json_is_true(json_object_get(access, "open")))
		printf("  access  open to anybody");
	else if (json_array_size(allow) == 0)
		printf("  access  local sockets only; others are denied");
	else
		printf("  access  local sockets,");
	for (size_t i = 0; i < json_array_size(allow); i++)
		printf(" %s", json_string_value(json_array_get(allow, i)));
	if (export_of(lun, "iscsi") != NULL && strcmp(auth, "none") != 0)
		printf("; %s user %s   (myfs-block auth show %s --secret)", strcmp(auth, "mutual") == 0 ? "mutual CHAP" : "CHAP", field_text(access, "user", "-"), field_text(lun, "name", "-"));
	printf("\n");
}

void print_exports(const json_t *lun)
{
	print_iscsi(lun);
	print_nbd(lun);
	print_access(lun);
}

/* host and port of "nbd://host:port/vol/lun"; false for other URIs. */
static bool tcp_of(const char *uri, char *out, size_t cap)
{
	if (strncmp(uri, "nbd://", 6) != 0)
		return false;
	snprintf(out, cap, "%.*s", (int)strcspn(uri + 6, "/"), uri + 6);
	return true;
}

void print_attach(const json_t *lun)
{
	const json_t *iscsi = export_of(lun, "iscsi"), *nbd = export_of(lun, "nbd"), *list = json_object_get(lun, "exports");
	const json_t *access = json_object_get(lun, "access");
	const char *name = field_text(lun, "name", "-");
	char host[300] = "";
	for (size_t i = 0; i < json_array_size(list) && host[0] == '\0'; i++)
		(void)tcp_of(field_text(json_array_get(list, i), "uri", ""), host, sizeof(host));
	bool closed = !json_is_true(json_object_get(access, "open")) && json_array_size(json_object_get(access, "allow")) == 0;
	if (closed && (iscsi != NULL || host[0] != '\0'))
		printf("Next, allow a client:\n  myfs-block acl add %s%s%s\n", name, iscsi != NULL ? " iqn.1993-08.org.debian:01:abc" : "", host[0] != '\0' ? " 192.0.2.50" : "");
	printf("%s\n", closed && (iscsi != NULL || host[0] != '\0') ? "and attach:" : "Next, attach it:");
	if (iscsi != NULL) {
		const char *portal = field_text(iscsi, "portal", "-"), *iqn = field_text(iscsi, "iqn", "-");
		printf("  iscsiadm -m discovery -t st -p %s && iscsiadm -m node -T %s -p %s --login\n", portal, iqn, portal);
		if (strcmp(field_text(access, "auth", "none"), "none") != 0)
			printf("      (once on the client: the lines of  myfs-block initiator-config %s --secret)\n", name);
	}
	if (host[0] != '\0') {
		char *colon = strrchr(host, ':');
		if (colon != NULL && strchr(colon, ']') == NULL)
			*colon++ = '\0';
		printf("  nbd-client %s %s -N %s /dev/nbd0\n", host, colon != NULL ? colon : "", name);
	}
	if (nbd != NULL)
		printf("  nbdinfo '%s'\n  nbdcopy disk.img '%s'\n", field_text(nbd, "uri", "-"), field_text(nbd, "uri", "-"));
}
