/* gfidset.c - see gfidset.h. Stored as canonical texts with one blank between, so that people can read it. */
#include "blockd/gfidset.h"

#include <stdio.h>

#define TEXT_BYTES(n) ((n)*GFID_TEXT + 1)

static int set_save(const struct gfid_set *s, struct err *e)
{
	char *text;
	int rc;

	if (!s->registry)
		return 0;
	text = malloc(TEXT_BYTES(s->n));
	if (!text)
		return err_set(e, -ENOMEM, "no memory");
	text[0] = '\0';
	for (size_t i = 0; i < s->n; i++) {
		gfid_text(&s->v[i], text + i * GFID_TEXT);
		if (i > 0)
			text[i * GFID_TEXT - 1] = ' ';
	}
	rc = reg_cluster_set(s->registry, s->key, text, e);
	free(text);
	return rc;
}

static int set_append(struct gfid_set *s, const struct gfid *g, struct err *e)
{
	if (s->n == GFID_SET_MAX)
		return err_set(e, -ENOSPC, "%s: more than %u entries", s->key, GFID_SET_MAX);
	if (s->n == s->cap) {
		size_t cap = s->cap ? s->cap * 2 : 16;
		struct gfid *grown = reallocarray(s->v, cap, sizeof(*grown));

		if (!grown)
			return err_set(e, -ENOMEM, "no memory");
		s->v = grown;
		s->cap = cap;
	}
	s->v[s->n++] = *g;
	return 0;
}

static int set_parse(struct gfid_set *s, const char *key, char *text, struct err *e)
{
	char *save = NULL;

	for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		struct gfid g;
		int rc = gfid_parse(word, &g);

		if (rc == 0 && !gfid_set_has(s, &g))
			rc = set_append(s, &g, e);
		if (rc < 0)
			return err_set(e, -EUCLEAN, "registry setting %s: \"%.40s\" is not an id", key, word);
	}
	return 0;
}

/* Adds what the registry has under key. */
static int set_load(struct gfid_set *s, struct registry *r, const char *key, struct err *e)
{
	size_t cap = TEXT_BYTES(GFID_SET_MAX);
	char *text = malloc(cap);
	int rc;

	if (!text)
		return err_set(e, -ENOMEM, "no memory");
	rc = reg_cluster_get(r, key, text, cap, NULL);
	if (rc == -ENOENT)
		rc = 0;
	else if (rc < 0)
		err_set(e, rc, "registry setting %s cannot be read: %s", key, err_name(rc));
	else
		rc = set_parse(s, key, text, e);
	free(text);
	return rc;
}

int gfid_set_open(struct gfid_set *s, struct registry *r, const char *key, struct err *e)
{
	int rc;

	*s = (struct gfid_set){.registry = r};
	snprintf(s->key, sizeof(s->key), "%s", key);
	rc = set_load(s, r, key, e);
	if (rc < 0)
		gfid_set_close(s);
	return rc;
}

int gfid_set_take(struct gfid_set *s, const char *key, struct err *e)
{
	size_t before = s->n;
	int rc = set_load(s, s->registry, key, e);

	if (rc == 0 && s->n > before)
		rc = set_save(s, e);
	if (rc == 0 && s->n > before)
		rc = reg_cluster_set(s->registry, key, "", e);
	if (rc < 0)
		s->n = before;
	return rc;
}

void gfid_set_close(struct gfid_set *s)
{
	free(s->v);
	s->v = NULL;
	s->n = s->cap = 0;
}

static size_t set_find(const struct gfid_set *s, const struct gfid *g)
{
	size_t i = 0;

	while (i < s->n && !gfid_eq(&s->v[i], g))
		i++;
	return i;
}

bool gfid_set_has(const struct gfid_set *s, const struct gfid *g)
{
	return set_find(s, g) < s->n;
}

/* Changes take turns, in memory too: whoever finds a gfid there finds it durable. */
static int change_begin(const struct gfid_set *s, struct err *e) YIELDS
{
	return s->registry ? registry_begin(s->registry, e) : 0;
}

static int change_end(const struct gfid_set *s, int rc, struct err *e) YIELDS
{
	if (!s->registry)
		return rc;
	if (rc == 0)
		return registry_commit(s->registry, e);
	registry_rollback(s->registry);
	return rc;
}

int gfid_set_add(struct gfid_set *s, const struct gfid *g, struct err *e)
{
	int rc = change_begin(s, e);
	bool grown = false;

	if (rc < 0)
		return rc;
	if (!gfid_set_has(s, g)) {
		rc = set_append(s, g, e);
		grown = rc == 0;
		if (rc == 0)
			rc = set_save(s, e);
	}
	rc = change_end(s, rc, e);
	if (rc < 0 && grown)
		s->n--;
	return rc;
}

int gfid_set_remove(struct gfid_set *s, const struct gfid *g, struct err *e)
{
	if (set_find(s, g) == s->n)
		return 0;
	int rc = change_begin(s, e);
	if (rc < 0)
		return rc;
	size_t at = set_find(s, g);
	bool there = at < s->n;
	if (there) {
		s->v[at] = s->v[--s->n];
		rc = set_save(s, e);
	}
	rc = change_end(s, rc, e);
	if (rc < 0 && there) {
		s->v[s->n++] = s->v[at];
		s->v[at] = *g;
	}
	return rc;
}
