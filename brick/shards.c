/* shards.c - which shards of which domain exist on this brick, in memory: read once from the names in /.shard, then
 * kept. It answers "does this shard exist" and "which are there" without looking at a directory of a million names. */
#include <stdio.h>

#include "brick/tree_priv.h"
#include "core/base/bitmap.h"

struct shardset {
	struct list node; /* tree->shards[] */
	struct gfid domain;
	size_t words, count;
	uint64_t *bits;
};

void shards_init(struct tree *t)
{
	for (size_t i = 0; i < TREE_BUCKETS; i++)
		list_init(&t->shards[i]);
}

static void shardset_free(struct shardset *s)
{
	list_del(&s->node);
	free(s->bits);
	free(s);
}

void shards_free(struct tree *t)
{
	for (size_t i = 0; i < TREE_BUCKETS; i++) {
		list_for_each_safe(s, &t->shards[i], struct shardset, node) shardset_free(s);
	}
}

static struct shardset *find(const struct tree *t, const struct gfid *domain)
{
	const struct list *bucket = &t->shards[tree_bucket(domain, 0)];

	list_for_each(s, bucket, struct shardset, node)
	{
		if (gfid_eq(&s->domain, domain))
			return s;
	}
	return NULL;
}

bool shards_has(const struct tree *t, const struct gfid *domain, uint32_t shard)
{
	const struct shardset *s = find(t, domain);

	return s && shard / 64 < s->words && bitmap_test(s->bits, shard);
}

uint32_t shards_next(const struct tree *t, const struct gfid *domain, uint32_t from)
{
	const struct shardset *s = find(t, domain);

	if (!s || from / 64 >= s->words)
		return UINT32_MAX;
	size_t bit = bitmap_next(s->bits, s->words * 64, from);
	return bit < s->words * 64 ? (uint32_t)bit : UINT32_MAX;
}

static int shardset_grow(struct shardset *s, uint32_t shard)
{
	size_t words = (size_t)max_u64(shard / 64 + 1, s->words + s->words / 2);
	uint64_t *bits = reallocarray(s->bits, words, sizeof(*bits));

	if (!bits)
		return -ENOMEM;
	memset(bits + s->words, 0, (words - s->words) * sizeof(*bits));
	s->bits = bits;
	s->words = words;
	return 0;
}

int shards_add(struct tree *t, const struct gfid *domain, uint32_t shard)
{
	struct shardset *s = find(t, domain);

	assert(shard < TREE_SHARDS_MAX);
	if (!s) {
		s = calloc(1, sizeof(*s));
		if (!s)
			return -ENOMEM;
		s->domain = *domain;
		list_push_back(&t->shards[tree_bucket(domain, 0)], &s->node);
	}
	if (shard / 64 >= s->words && shardset_grow(s, shard))
		return -ENOMEM;
	s->count += !bitmap_test(s->bits, shard);
	bitmap_set(s->bits, shard);
	return 0;
}

void shards_remove(struct tree *t, const struct gfid *domain, uint32_t shard)
{
	struct shardset *s = find(t, domain);

	if (!s || !shards_has(t, domain, shard))
		return;
	bitmap_clear(s->bits, shard);
	if (--s->count == 0)
		shardset_free(s);
}

void shards_name(const struct gfid *domain, uint32_t shard, char out[SHARD_NAME])
{
	char text[GFID_TEXT];

	snprintf(out, SHARD_NAME, "%s.%u", gfid_text(domain, text), shard);
}

int shards_parse(const char *name, struct gfid *ret_domain, uint32_t *ret_shard)
{
	char text[GFID_TEXT], again[SHARD_NAME];
	struct gfid domain;

	if (strnlen(name, GFID_TEXT) < GFID_TEXT || name[GFID_TEXT - 1] != '.')
		return -EINVAL;
	memcpy(text, name, GFID_TEXT - 1);
	text[GFID_TEXT - 1] = '\0';
	unsigned long n = strtoul(name + GFID_TEXT, NULL, 10);
	if (gfid_parse(text, &domain) || n == 0 || n >= TREE_SHARDS_MAX)
		return -EINVAL;
	shards_name(&domain, (uint32_t)n, again); /* one spelling only */
	if (strcmp(name, again) != 0)
		return -EINVAL;
	*ret_domain = domain;
	*ret_shard = (uint32_t)n;
	return 0;
}

int shards_load(struct tree *t)
{
	struct dirent_list l = {0};
	int rc = store_readdir(t->store, TREE_SHARD_DIR, &l);

	for (size_t i = 0; !rc && i < l.n; i++) {
		struct gfid domain;
		uint32_t shard;
		if (shards_parse(l.v[i].name, &domain, &shard) == 0)
			rc = shards_add(t, &domain, shard);
	}
	dirent_list_free(&l);
	return rc;
}
