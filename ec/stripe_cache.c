/* stripe_cache.c - present values of 4 KiB blocks, clock eviction. See stripe_cache.h.
 *
 * Entry i owns block i of one big allocation. Hash chains run through the entries by index (0 = end, so entry 0 is
 * unused). */
#include "ec/stripe_cache.h"

struct entry {
	uint64_t domain;
	uint32_t shard, lba;
	uint32_t crc;
	uint32_t next;      /* hash chain, or free chain */
	bool used, touched; /* touched: spare it once */
};

struct ec_stripe_cache {
	uint32_t blocks; /* capacity; entries 1..blocks */
	uint32_t used;
	uint32_t free_head;
	uint32_t hand;    /* clock */
	uint32_t buckets; /* power of two */
	uint32_t *heads;
	struct entry *entries;
	uint8_t *memory; /* (blocks + 1) * 4 KiB; block 0 unused, never touched */
	uint64_t hits, misses;
};

int ec_stripe_cache_new(size_t bytes, struct ec_stripe_cache **ret)
{
	size_t blocks = bytes / MYFS_BLOCK;
	if (blocks > UINT32_MAX / 4)
		return -ENOMEM;
	struct ec_stripe_cache *c = calloc(1, sizeof(*c));
	if (!c)
		return -ENOMEM;
	c->blocks = (uint32_t)blocks;
	c->buckets = 16;
	while (c->buckets < c->blocks)
		c->buckets *= 2;
	c->heads = calloc(c->buckets, sizeof(*c->heads));
	c->entries = calloc(blocks + 1, sizeof(*c->entries));
	c->memory = aligned_alloc(MYFS_BLOCK, (blocks + 1) * MYFS_BLOCK);
	if (!c->heads || !c->entries || !c->memory) {
		ec_stripe_cache_free(c);
		return -ENOMEM;
	}
	for (uint32_t i = c->blocks; i >= 1; i--) {
		c->entries[i].next = c->free_head;
		c->free_head = i;
	}
	c->hand = 1;
	*ret = c;
	return 0;
}

void ec_stripe_cache_free(struct ec_stripe_cache *c)
{
	if (!c)
		return;
	free(c->heads);
	free(c->entries);
	free(c->memory);
	free(c);
}

static uint32_t *chain_of(const struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba)
{
	uint64_t h = (domain ^ (uint64_t)shard << 32 ^ lba) * UINT64_C(0x9E3779B97F4A7C15);
	h = (h ^ h >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
	return &c->heads[(h >> 32) & (c->buckets - 1)];
}

/* Link that points at the entry, or NULL. */
static uint32_t *find(const struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba)
{
	for (uint32_t *link = chain_of(c, domain, shard, lba); *link; link = &c->entries[*link].next) {
		const struct entry *e = &c->entries[*link];
		if (e->lba == lba && e->shard == shard && e->domain == domain)
			return link;
	}
	return NULL;
}

static void drop_link(struct ec_stripe_cache *c, uint32_t *link)
{
	uint32_t i = *link;
	struct entry *e = &c->entries[i];
	*link = e->next;
	e->used = false;
	e->next = c->free_head;
	c->free_head = i;
	c->used--;
}

static void drop_entry(struct ec_stripe_cache *c, const struct entry *e)
{
	drop_link(c, find(c, e->domain, e->shard, e->lba));
}

const uint8_t *ec_stripe_cache_get(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba,
				   uint32_t *ret_crc)
{
	const uint32_t *link = find(c, domain, shard, lba);
	if (!link) {
		c->misses++;
		return NULL;
	}
	c->hits++;
	c->entries[*link].touched = true;
	*ret_crc = c->entries[*link].crc;
	return c->memory + (size_t)*link * MYFS_BLOCK;
}

static void evict_one(struct ec_stripe_cache *c)
{
	for (;;) {
		struct entry *e = &c->entries[c->hand];
		c->hand = c->hand == c->blocks ? 1 : c->hand + 1;
		if (!e->used)
			continue;
		if (!e->touched) {
			drop_entry(c, e);
			return;
		}
		e->touched = false;
	}
}

void ec_stripe_cache_put(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba, const void *block,
			 uint32_t crc)
{
	if (c->blocks == 0)
		return;
	uint32_t *link = find(c, domain, shard, lba);
	uint32_t i;
	if (link) {
		i = *link;
		c->entries[i].touched = true;
	} else {
		if (!c->free_head)
			evict_one(c);
		i = c->free_head;
		c->free_head = c->entries[i].next;
		link = chain_of(c, domain, shard, lba);
		c->entries[i] =
		    (struct entry){.domain = domain, .shard = shard, .lba = lba, .next = *link, .used = true};
		*link = i;
		c->used++;
	}
	c->entries[i].crc = crc;
	memcpy(c->memory + (size_t)i * MYFS_BLOCK, block, MYFS_BLOCK);
}

void ec_stripe_cache_drop(struct ec_stripe_cache *c, uint64_t domain, uint32_t shard, uint32_t lba, uint32_t nblocks)
{
	if (nblocks > c->blocks) { /* cheaper to look at every entry */
		for (uint32_t i = 1; i <= c->blocks; i++) {
			const struct entry *e = &c->entries[i];
			if (e->used && e->domain == domain && e->shard == shard && e->lba - lba < nblocks)
				drop_entry(c, e);
		}
		return;
	}
	for (uint32_t i = 0; i < nblocks && c->used > 0; i++) {
		uint32_t *link = find(c, domain, shard, lba + i);
		if (link)
			drop_link(c, link);
	}
}

void ec_stripe_cache_drop_domain(struct ec_stripe_cache *c, uint64_t domain)
{
	for (uint32_t i = 1; i <= c->blocks && c->used > 0; i++)
		if (c->entries[i].used && c->entries[i].domain == domain)
			drop_entry(c, &c->entries[i]);
}

void ec_stripe_cache_stats(const struct ec_stripe_cache *c, struct ec_stripe_cache_stats *ret)
{
	*ret =
	    (struct ec_stripe_cache_stats){.hits = c->hits, .misses = c->misses, .blocks = c->blocks, .used = c->used};
}
