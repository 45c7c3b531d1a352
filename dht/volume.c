/* volume.c - a volume: its brick sets, opened together and closed together.
 *
 * Invariant: sets connect in the background; nothing here waits for a brick except dht_volume_wait_up(). */
#include "dht/dht_priv.h"

#include <stdio.h>

static void volume_free(struct dht_volume *v)
{
	if (!v)
		return;
	dht_layout_free(&v->shards);
	free(v->names);
	free(v->set);
	free(v);
}

static int volume_open_set(struct dht_volume *v, const struct dht_volume_config *cfg, uint32_t index, struct err *e)
{
	uint32_t n = cfg->k + cfg->r;
	struct ec_set_config *c = calloc(1, sizeof(*c)); /* too large for a fiber's stack */
	int rc;

	if (!c)
		return err_set(e, -ENOMEM, "no memory");
	c->loop = cfg->loop;
	c->net = cfg->net;
	c->tls = cfg->tls;
	c->volume = cfg->uuid;
	c->gateway = cfg->gateway;
	c->set_index = index;
	c->k = cfg->k;
	c->r = cfg->r;
	c->chunk_bytes = cfg->chunk_bytes;
	c->io_timeout_ns = cfg->io_timeout_ns;
	c->read_fence = cfg->read_fence;
	memcpy(c->bricks, cfg->bricks + (size_t)index * n, n * sizeof(c->bricks[0]));
	rc = ec_set_open(c, &v->set[index], e);
	free(c);
	return rc < 0 ? err_wrap(e, rc, "set %u", index) : 0;
}

int dht_volume_open(const struct dht_volume_config *cfg, struct dht_volume **ret, struct err *e)
{
	struct dht_volume *v;
	int rc = 0;

	if (cfg->sets == 0 || cfg->sets > DHT_MAX_SETS || cfg->k + cfg->r > EC_MAX_BRICKS || cfg->k + cfg->r < 2)
		return err_set(e, -EINVAL, "volume %s: %u sets of %u+%u bricks", cfg->name, cfg->sets, cfg->k, cfg->r);
	v = calloc(1, sizeof(*v));
	if (!v)
		return err_set(e, -ENOMEM, "no memory");
	v->set = calloc(cfg->sets, sizeof(struct ec_set *));
	v->names = calloc(cfg->sets, sizeof(*v->names));
	if (!v->set || !v->names) {
		volume_free(v);
		return err_set(e, -ENOMEM, "no memory");
	}
	v->loop = cfg->loop;
	v->uuid = cfg->uuid;
	snprintf(v->name, sizeof(v->name), "%s", cfg->name);
	fmutex_init(&v->layout_lock);
	for (v->sets = 0; v->sets < cfg->sets && rc == 0; v->sets++) {
		fmutex_init(&v->names[v->sets].lock);
		rc = volume_open_set(v, cfg, v->sets, e);
	}
	if (rc < 0) {
		dht_volume_close(v);
		return err_wrap(e, rc, "volume %s", cfg->name);
	}
	v->shard_bytes = ec_set_geometry(v->set[0])->shard_bytes;
	*ret = v;
	return 0;
}

void dht_volume_close(struct dht_volume *v)
{
	if (!v)
		return;
	dht_names_close(v);
	for (uint32_t i = 0; i < v->sets; i++)
		if (v->set[i])
			ec_set_close(v->set[i]);
	volume_free(v);
}

int dht_volume_wait_up(struct dht_volume *v, uint64_t deadline_ns, struct err *e)
{
	for (uint32_t i = 0; i < v->sets; i++) {
		int rc = ec_set_wait_up(v->set[i], ec_set_geometry(v->set[i])->w, deadline_ns, e);

		if (rc < 0)
			return err_wrap(e, rc, "volume %s: set %u", v->name, i);
	}
	return 0;
}

void dht_volume_give_up(struct dht_volume *v)
{
	for (uint32_t i = 0; i < v->sets; i++)
		ec_set_give_up(v->set[i]);
}

unsigned dht_volume_sets(const struct dht_volume *v)
{
	return v->sets;
}

struct ec_set *dht_volume_set(struct dht_volume *v, unsigned index)
{
	assert(index < v->sets);
	return v->set[index];
}

bool dht_volume_names_status(const struct dht_volume *v, unsigned set, struct ec_domain_status *ret)
{
	struct ec_domain_status s;

	assert(set < v->sets);
	if (!v->names[set].domain)
		return false;
	ec_domain_status(v->names[set].domain, &s);
	if (!s.deposed)
		*ret = s;
	return !s.deposed;
}
