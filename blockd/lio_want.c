/* lio_want.c - the desired targets as JSON and back, and the small grammars of names and portals. */
#include "blockd/lio_want.h"

#include <arpa/inet.h>
#include <stdio.h>

#define ISCSI_PORT 3260

void lio_want_free(struct lio_want *w)
{
	for (size_t i = 0; i < w->targets_n; i++)
		free(w->targets[i].initiators);
	free(w->targets);
	free(w->remove);
	free(w->others);
	*w = (struct lio_want){.hba = 0};
}

static json_t *names_json(const char (*names)[REG_IQN], size_t n)
{
	json_t *list = json_array();

	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(names[i]));
	return list;
}

json_t *lio_target_json(const struct lio_target *t)
{
	return json_pack("{s:s,s:s,s:s,s:I,s:i,s:s,s:s,s:b,s:b,s:i,s:s,s:s,s:s,s:s,s:o}", "iqn", t->iqn, "backstore",
			 t->backstore, "config", t->config, "size_bytes", (json_int_t)t->size_bytes, "block_size",
			 (int)t->block_size, "serial", t->serial, "product", t->product, "may_create",
			 (int)t->may_create, "open", (int)t->open, "auth", (int)t->auth, "chap_user", t->chap_user,
			 "chap_secret", t->chap_secret, "mutual_user", t->mutual_user, "mutual_secret",
			 t->mutual_secret, "initiators",
			 names_json((const char(*)[REG_IQN])t->initiators, t->initiators_n));
}

json_t *lio_want_json(const struct lio_want *w)
{
	json_t *targets = json_array(), *portals = json_array(), *gone = json_array();

	for (size_t i = 0; i < w->targets_n; i++)
		json_array_append_new(targets, lio_target_json(&w->targets[i]));
	for (unsigned i = 0; i < w->gone_n; i++)
		json_array_append_new(gone, json_integer((json_int_t)w->gone[i]));
	for (unsigned i = 0; i < w->portals_n; i++)
		json_array_append_new(portals, json_string(w->portals[i]));
	return json_pack("{s:s,s:I,s:o,s:o,s:b,s:o,s:o,s:o}", "prefix", w->prefix, "hba", (json_int_t)w->hba, "gone",
			 gone, "portals", portals, "complete", (int)w->complete, "targets", targets, "remove",
			 names_json((const char(*)[REG_IQN])w->remove, w->remove_n), "others",
			 names_json((const char(*)[REG_IQN])w->others, w->others_n));
}

/* ---- reading ---- */

/* A name becomes a path component: no slash, not . or .., no white space. */
static bool component_valid(const char *s)
{
	return s[0] != '\0' && s[0] != '.' && strcspn(s, "/ \t\r\n") == strlen(s);
}

static int take_text(const json_t *o, const char *key, char *out, size_t cap, bool component, struct err *e)
{
	const char *s = json_string_value(json_object_get(o, key));

	if (!s || strlen(s) >= cap || (component && !component_valid(s)))
		return err_set(e, -EINVAL, "%s is missing, too long, or no name", key);
	memcpy(out, s, strlen(s) + 1);
	return 0;
}

static int take_names(const json_t *o, const char *key, char (**ret)[REG_IQN], size_t *ret_n, struct err *e)
{
	const json_t *list = json_object_get(o, key);
	size_t n = json_array_size(list);
	char(*names)[REG_IQN] = n ? calloc(n, sizeof(*names)) : NULL;

	if (n && !names)
		return err_set(e, -ENOMEM, "no memory");
	for (size_t i = 0; i < n; i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (!s || strlen(s) >= REG_IQN || !component_valid(s)) {
			free(names);
			return err_set(e, -EINVAL, "%s: entry %zu is no name", key, i);
		}
		memcpy(names[i], s, strlen(s) + 1);
	}
	*ret = names;
	*ret_n = n;
	return 0;
}

static int parse_target(const json_t *o, struct lio_target *t, struct err *e)
{
	const struct {
		const char *key;
		char *out;
		size_t cap;
		bool component;
	} texts[] = {{"iqn", t->iqn, sizeof(t->iqn), true},
		     {"backstore", t->backstore, sizeof(t->backstore), true},
		     {"config", t->config, sizeof(t->config), false},
		     {"serial", t->serial, sizeof(t->serial), true},
		     {"product", t->product, sizeof(t->product), false},
		     {"chap_user", t->chap_user, sizeof(t->chap_user), false},
		     {"chap_secret", t->chap_secret, sizeof(t->chap_secret), false},
		     {"mutual_user", t->mutual_user, sizeof(t->mutual_user), false},
		     {"mutual_secret", t->mutual_secret, sizeof(t->mutual_secret), false}};
	json_int_t size = json_integer_value(json_object_get(o, "size_bytes"));
	json_int_t block = json_integer_value(json_object_get(o, "block_size"));
	json_int_t auth = json_integer_value(json_object_get(o, "auth"));
	int rc = 0;

	for (size_t i = 0; i < ARRAY_LEN(texts) && rc == 0; i++)
		rc = take_text(o, texts[i].key, texts[i].out, texts[i].cap, texts[i].component, e);
	if (rc == 0 && (size <= 0 || (block != 512 && block != 4096) || auth < 0 || auth > REG_AUTH_MUTUAL))
		rc = err_set(e, -EINVAL, "size, block size or authentication makes no sense");
	if (rc == 0 && strpbrk(t->config, ", \t\n:")) /* the kernel separates by commas, rtslib refuses ':' */
		rc = err_set(e, -EINVAL, "config \"%s\" holds a comma, colon or space", t->config);
	if (rc < 0)
		return rc;
	t->size_bytes = (uint64_t)size;
	t->block_size = (uint32_t)block;
	t->auth = (uint32_t)auth;
	t->may_create = json_is_true(json_object_get(o, "may_create"));
	t->open = json_is_true(json_object_get(o, "open"));
	return take_names(o, "initiators", &t->initiators, &t->initiators_n, e);
}

static int parse_targets(const json_t *doc, struct lio_want *w, struct err *e)
{
	const json_t *list = json_object_get(doc, "targets");
	size_t n = json_array_size(list);

	w->targets = n ? calloc(n, sizeof(*w->targets)) : NULL;
	if (n && !w->targets)
		return err_set(e, -ENOMEM, "no memory");
	for (; w->targets_n < n; w->targets_n++) {
		int rc = parse_target(json_array_get(list, w->targets_n), &w->targets[w->targets_n], e);

		if (rc < 0)
			return err_wrap(e, rc, "target %zu", w->targets_n);
	}
	return 0;
}

static int parse_portals(const json_t *doc, struct lio_want *w, struct err *e)
{
	const json_t *list = json_object_get(doc, "portals");

	if (json_array_size(list) > LIO_PORTALS_MAX)
		return err_set(e, -EINVAL, "more than %u portals", LIO_PORTALS_MAX);
	for (; w->portals_n < json_array_size(list); w->portals_n++) {
		const char *s = json_string_value(json_array_get(list, w->portals_n));
		int rc = lio_portal_parse(s ? s : "", w->portals[w->portals_n], e);

		if (rc < 0)
			return rc;
	}
	return 0;
}

static int parse_gone(const json_t *doc, struct lio_want *w, struct err *e)
{
	const json_t *list = json_object_get(doc, "gone");

	if (json_array_size(list) > LIO_GONE_MAX)
		return err_set(e, -EINVAL, "more than %u HBAs", LIO_GONE_MAX);
	for (; w->gone_n < json_array_size(list); w->gone_n++) {
		json_int_t hba = json_integer_value(json_array_get(list, w->gone_n));

		if (hba <= 0 || hba > INT32_MAX)
			return err_set(e, -EINVAL, "bad HBA");
		w->gone[w->gone_n] = (uint32_t)hba;
	}
	return 0;
}

int lio_want_parse(const json_t *doc, struct lio_want *ret, struct err *e)
{
	struct lio_want w = {.complete = json_is_true(json_object_get(doc, "complete"))};
	json_int_t hba = json_integer_value(json_object_get(doc, "hba"));
	int rc = hba < 0 || hba > INT32_MAX ? err_set(e, -EINVAL, "bad number") : 0;

	w.hba = (uint32_t)hba;
	if (rc == 0)
		rc = take_text(doc, "prefix", w.prefix, sizeof(w.prefix), true, e);
	if (rc == 0)
		rc = parse_gone(doc, &w, e);
	if (rc == 0)
		rc = parse_portals(doc, &w, e);
	if (rc == 0)
		rc = parse_targets(doc, &w, e);
	if (rc == 0)
		rc = take_names(doc, "remove", &w.remove, &w.remove_n, e);
	if (rc == 0)
		rc = take_names(doc, "others", &w.others, &w.others_n, e);
	if (rc < 0)
		lio_want_free(&w);
	else
		*ret = w;
	return rc;
}

/* ---- portals and names ---- */

int lio_portal_parse(const char *text, char ret[LIO_PORTAL], struct err *e)
{
	const char *colon = strrchr(text, ':'), *bracket = strchr(text, ']');
	bool v6 = text[0] == '[';
	const char *host_end = v6 ? bracket : colon ? colon : text + strlen(text);
	const char *port_text = v6 ? (bracket && bracket[1] == ':' ? bracket + 2 : NULL) : colon ? colon + 1 : NULL;
	char host[INET6_ADDRSTRLEN + 1] = "", plain[INET6_ADDRSTRLEN + 1] = "", *end = NULL;
	unsigned char addr[16];
	unsigned long port = ISCSI_PORT;

	if (host_end && (size_t)(host_end - text) < sizeof(host))
		snprintf(host, sizeof(host), "%.*s", (int)(host_end - text - (v6 ? 1 : 0)), text + (v6 ? 1 : 0));
	if (port_text)
		port = strtoul(port_text, &end, 10);
	bool port_ok = !port_text || (port_text[0] >= '0' && port_text[0] <= '9' && *end == '\0');
	if (v6 && bracket && bracket[1] != '\0' && bracket[1] != ':')
		port_ok = false;
	if (!port_ok || port == 0 || port > 65535 || inet_pton(v6 ? AF_INET6 : AF_INET, host, addr) != 1)
		return err_set(e, -EINVAL,
			       "\"%.80s\" is not a portal: write 192.0.2.11, 192.0.2.11:3260 or [2001:db8::1]:3260",
			       text);
	inet_ntop(v6 ? AF_INET6 : AF_INET, addr, plain, sizeof(plain));
	snprintf(ret, LIO_PORTAL, v6 ? "[%s]:%lu" : "%s:%lu", plain, port);
	return 0;
}

void lio_iqn_make(const char *prefix, const char *volume, const char *name, char ret[REG_IQN])
{
	snprintf(ret, REG_IQN, "%s%s.%s", prefix, volume, name);
	for (char *p = ret; *p; p++)
		*p = *p == '_' ? '-' : *p;
}
