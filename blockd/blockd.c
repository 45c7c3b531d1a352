/* blockd.c - putting the gateway together and taking it apart.
 *
 * Start order: volumes are opened before anybody can connect, so that a client that comes back right after a restart
 * finds its LUN. Stop order: clients first, then LUNs (flushed), then volumes. */
#include "blockd/blockd.h"

#include <stdio.h>

#include "blockd/activity.h"
#include "blockd/gateways.h"
#include "blockd/lio.h"
#include "blockd/lun.h"
#include "blockd/reconcile.h"
#include "blockd/scrub.h"
#include "blockd/watch.h"

int blockd_spawn(struct blockd *d, const char *name, fiber_fn *fn, void *arg)
{
	int rc = fiber_spawn(d->loop, name, fn, arg);

	if (rc == 0)
		d->fibers++;
	return rc;
}

void blockd_fiber_done(struct blockd *d)
{
	assert(d->fibers > 0);
	if (--d->fibers == 0)
		waitq_wake_all(&d->quiet);
}

void blockd_sleep(struct blockd *d, uint64_t ns)
{
	if (!d->stopping)
		waitq_wait_until(&d->kick, loop_now_ns() + ns);
}

/* Our row: the uuid is made once and kept, because bricks know us by it. */
static int load_self(struct blockd *d, const struct blockd_config *cfg, struct err *e)
{
	uint8_t random[16];
	int rc = reg_gateway_get(d->registry, cfg->name, &d->self, e);

	if (rc == -ENOENT) {
		d->self = (struct reg_gateway){.name = ""};
		loop_random(random, sizeof(random));
		d->self.uuid = gfid_from_random(random);
		snprintf(d->self.name, sizeof(d->self.name), "%s", cfg->name);
		rc = 0;
	}
	if (rc < 0)
		return rc;
	snprintf(d->self.control, sizeof(d->self.control), "%s", cfg->control);
	return reg_gateway_put(d->registry, &d->self, e);
}

static int load_sets(struct blockd *d, struct err *e)
{
	char key[REG_NAME + 16];
	int rc;

	snprintf(key, sizeof(key), "attention.%s", d->self.name);
	rc = gfid_set_open(&d->attention, d->registry, key, e);
	snprintf(key, sizeof(key), "resizing.%s", d->self.name);
	return rc < 0 ? rc : gfid_set_open(&d->resizing, d->registry, key, e);
}

static void blockd_free(struct blockd *d)
{
	if (!d)
		return;
	watch_stop(d);
	gateways_free(d);
	lun_activity_free_all(d);
	gfid_set_close(&d->attention);
	gfid_set_close(&d->resizing);
	gfid_set_close(&d->trashed);
	lio_free(d);
	nbd_server_free(d->nbd);
	registry_close(d->registry);
	free(d);
}

int blockd_start(const struct blockd_config *cfg, struct blockd **ret, struct err *e)
{
	struct blockd *d = calloc(1, sizeof(*d));
	int rc;

	if (!d) {
		registry_close(cfg->registry);
		return err_set(e, -ENOMEM, "no memory");
	}
	d->loop = cfg->loop;
	d->net = cfg->net;
	d->registry = cfg->registry;
	d->psk = cfg->psk;
	d->io_timeout_ns = cfg->io_timeout_ns;
	d->read_fence = cfg->read_fence;
	d->started_ns = loop_now_ns();
	list_init(&d->volumes);
	list_init(&d->luns);
	list_init(&d->activity);
	list_init(&d->watches);
	list_init(&d->gateways);
	waitq_init(&d->quiet);
	waitq_init(&d->kick);
	rc = registry_write_off_loop(d->registry, e); /* requests go on while somebody else has it locked */
	if (rc == 0)
		rc = load_self(d, cfg, e);
	if (rc == 0)
		rc = load_sets(d, e);
	if (rc == 0) {
		rc = gateways_start(d); /* first: volumes ask who else is there */
		volumes_refresh(d);
		if (rc == 0)
			rc = watch_start(d);
		if (rc == 0)
			rc = reconcile_start(d);
		if (rc == 0)
			rc = scrub_start(d);
		if (rc < 0)
			err_set(e, rc, "cannot start a fiber");
	}
	if (rc < 0) {
		blockd_stop(d);
		return rc;
	}
	*ret = d;
	return 0;
}

int blockd_announce(struct blockd *d, const char *nbd_uri, const char *nbd_tcp_uri, struct err *e)
{
	snprintf(d->self.nbd_uri, sizeof(d->self.nbd_uri), "%s", nbd_uri);
	snprintf(d->self.nbd_tcp_uri, sizeof(d->self.nbd_tcp_uri), "%s", nbd_tcp_uri);
	return reg_gateway_put(d->registry, &d->self, e);
}

void blockd_give_up(struct blockd *d)
{
	list_for_each(v, &d->volumes, struct volume, node)
		if (v->dht)
			dht_volume_give_up(v->dht);
}

void blockd_stop(struct blockd *d)
{
	if (!d)
		return;
	blockd_give_up(d);
	if (d->nbd)
		nbd_server_stop(d->nbd);
	d->stopping = true;
	lio_stop(d);
	waitq_wake_all(&d->kick);
	gateways_stop(d);
	luns_close_all(d);
	while (d->fibers > 0)
		waitq_wait(&d->quiet);
	luns_close_all(d);
	volumes_close_all(d);
	blockd_free(d);
}
