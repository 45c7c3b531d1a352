/* caw.c - see caw.h. */
#include "handlers/tcmu/caw.h"

#include <gnutls/gnutls.h>
#include <pthread.h>
#include <signal.h>

#include "core/control/control.h"

#define CALL_MS  180000 /* longer than the gateway's default io-timeout */
#define RETRY_MS 100

struct caw {
	struct tcmu_config cfg;
	struct link *link;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct list queue;
	bool started, stop;
	pthread_t thread;
};

/* ---- one call ---- */

/* The new reference, or NULL. */
static json_t *base64(const uint8_t *p, uint32_t len)
{
	gnutls_datum_t in = {.data = (unsigned char *)(uintptr_t)p, .size = len}, out = {NULL, 0};
	json_t *text;

	if (gnutls_base64_encode2(&in, &out) < 0)
		return NULL;
	text = json_stringn((const char *)out.data, out.size);
	gnutls_free(out.data);
	return text;
}

static int rc_of_error(const struct control_error *error)
{
	static const struct {
		const char *code;
		int rc;
	} known[] = {
	    {"E-NOSPACE-04", -ENOSPC},  {"E-USAGE-64", -EINVAL}, {"E-QUORUM-02", -EAGAIN},
	    {"E-STOPPED-02", -EAGAIN},  {"E-BUSY-06", -EAGAIN},  {"E-NOANSWER-08", -EAGAIN},
	    {"E-NOTFOUND-05", -EAGAIN},
	};

	if (error->unknown)
		return -ECANCELED;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(error->code, known[i].code) == 0)
			return known[i].rc;
	return -EREMOTEIO;
}

static int rc_of_result(const struct caw_request *r, const json_t *result, uint32_t *ret_at)
{
	const json_t *written = json_object_get(result, "written"), *at = json_object_get(result, "differs_at");

	if (json_is_true(written))
		return 0;
	if (!json_is_false(written) || !json_is_integer(at))
		return -ECANCELED;
	*ret_at = (uint32_t)((uint64_t)json_integer_value(at) - r->off);
	return *ret_at < r->len ? -EILSEQ : -EREMOTEIO;
}

static int call(struct caw *c, const char *socket, const struct caw_request *r, uint32_t *ret_at)
{
	struct control_error error = {.code = ""};
	json_t *expected = base64(r->expected, r->len), *data = base64(r->data, r->len), *result = NULL, *params;
	int rc;

	params = json_pack("{s:s,s:I,s:o*,s:o*,s:b}", "spec", c->cfg.lun, "offset", (json_int_t)r->off, "expected",
			   expected, "data", data, "fua", (int)r->fua);
	if (!expected || !data || !params) {
		json_decref(params);
		return -EAGAIN;
	}
	rc = control_call(socket, "lun.compare_and_write", params, CALL_MS, &result, &error);
	rc = rc ? rc_of_error(&error) : rc_of_result(r, result, ret_at);
	json_decref(params);
	json_decref(result);
	return rc;
}

static bool wait_a_little(struct caw *c)
{
	struct timespec t;
	bool stop;

	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_nsec += RETRY_MS * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	pthread_mutex_lock(&c->lock);
	if (!c->stop)
		pthread_cond_timedwait(&c->changed, &c->lock, &t);
	stop = c->stop;
	pthread_mutex_unlock(&c->lock);
	return !stop;
}

/* Until it is answered, or was not begun within its time. */
static void carry_out(struct caw *c, struct caw_request *r)
{
	char socket[TCMU_SOCKET_MAX + 1];
	uint32_t at = 0;
	int rc;

	do {
		link_control_path(c->link, socket);
		rc = socket[0] ? call(c, socket, r, &at) : -EAGAIN;
	} while (rc == -EAGAIN && link_now_ms() < r->deadline_ms && wait_a_little(c));
	r->done(r, rc, at);
}

/* ---- the thread ---- */

static struct caw_request *take(struct caw *c)
{
	struct caw_request *r = NULL;

	pthread_mutex_lock(&c->lock);
	while (list_empty(&c->queue) && !c->stop)
		pthread_cond_wait(&c->changed, &c->lock);
	if (!list_empty(&c->queue)) {
		r = list_first(&c->queue, struct caw_request, node);
		list_del(&r->node);
	}
	pthread_mutex_unlock(&c->lock);
	return r;
}

static void *caw_main(void *arg)
{
	struct caw *c = arg;
	struct caw_request *r;

	while ((r = take(c)))
		carry_out(c, r);
	return NULL;
}

static int start(struct caw *c)
{
	sigset_t all, before;
	int rc;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(&c->thread, NULL, caw_main, c);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	c->started = rc == 0;
	return -rc;
}

int caw_submit(struct caw *c, struct caw_request *r)
{
	int rc = 0;

	r->deadline_ms = link_now_ms() + (int64_t)c->cfg.wait_s * 1000;
	pthread_mutex_lock(&c->lock);
	if (!c->started)
		rc = start(c);
	if (rc == 0) {
		list_push_back(&c->queue, &r->node);
		pthread_cond_broadcast(&c->changed);
	}
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int caw_new(const struct tcmu_config *cfg, struct link *link, struct caw **ret, struct err *e)
{
	struct caw *c = calloc(1, sizeof(*c));
	pthread_condattr_t attr;

	if (!c)
		return err_set(e, -ENOMEM, "no memory");
	c->cfg = *cfg;
	c->link = link;
	list_init(&c->queue);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	*ret = c;
	return 0;
}

void caw_free(struct caw *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->stop = true;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (c->started)
		pthread_join(c->thread, NULL);
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}
