/* target.c - see target.h. */
#include "blockd/target.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "blockd/lio.h"
#include "blockd/lio_want.h"

#define IQN_PREFIX "iqn.2026-11.internal.myfs"

/* ---- who ---- */

static int initiator_parse(const char *text, char ret[REG_WHO], struct err *e)
{
	size_t len = strlen(text);

	if (len >= REG_WHO || len < 5)
		return err_set(e, -EINVAL, "an initiator's name has 5 to %d characters", REG_WHO - 1);
	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		c = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c; /* RFC 3722: names are compared in lower case */
		if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr(".-:", c)))
			return err_set(e, -EINVAL, "\"%.100s\" is no initiator name: a-z 0-9 . - : only", text);
		ret[i] = c;
	}
	ret[len] = '\0';
	return 0;
}

struct range {
	int family;
	unsigned bits, max_bits;
	unsigned char addr[16];
};

static bool address_bytes(const char *host, struct range *r)
{
	r->family = strchr(host, ':') ? AF_INET6 : AF_INET;
	r->max_bits = r->family == AF_INET ? 32 : 128;
	r->bits = r->max_bits;
	return inet_pton(r->family, host, r->addr) == 1;
}

static bool range_parse(const char *text, struct range *r)
{
	const char *slash = strchr(text, '/');
	char host[INET6_ADDRSTRLEN + 1], *end = NULL;
	size_t len = slash ? (size_t)(slash - text) : strlen(text);

	if (len >= sizeof(host))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)len, text);
	if (!address_bytes(host, r))
		return false;
	if (slash) {
		unsigned long bits = strtoul(slash + 1, &end, 10);

		if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > r->max_bits)
			return false;
		r->bits = (unsigned)bits;
	}
	for (unsigned bit = r->bits; bit < r->max_bits; bit++)
		r->addr[bit / 8] &= (unsigned char)~(0x80u >> (bit % 8));
	return true;
}

int who_parse(const char *text, char ret[REG_WHO], enum who_kind *ret_kind, struct err *e)
{
	char host[INET6_ADDRSTRLEN + 1];
	struct range r;

	if (strncasecmp(text, "iqn.", 4) == 0 || strncasecmp(text, "eui.", 4) == 0 ||
	    strncasecmp(text, "naa.", 4) == 0) {
		*ret_kind = WHO_INITIATOR;
		return initiator_parse(text, ret, e);
	}
	if (!range_parse(text, &r))
		return err_set(e, -EINVAL,
			       "\"%.100s\" is neither an initiator (iqn.1993-08.org.debian:01:abc) nor an address or "
			       "network (192.0.2.50, 192.0.2.0/24)",
			       text);
	inet_ntop(r.family, r.addr, host, sizeof(host));
	snprintf(ret, REG_WHO, r.bits == r.max_bits ? "%s" : "%s/%u", host, r.bits);
	*ret_kind = WHO_ADDRESS;
	return 0;
}

bool who_covers(const char *range, const char *peer)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	const char *colon = strrchr(peer, ':');
	char host[INET6_ADDRSTRLEN + 1];
	struct range r, p;
	bool bracket = peer[0] == '[';

	if (!colon || (size_t)(colon - peer) >= sizeof(host))
		return false;
	snprintf(host, sizeof(host), "%.*s", (int)(colon - peer) - (bracket ? 2 : 0), peer + (bracket ? 1 : 0));
	if (!range_parse(range, &r) || !address_bytes(host, &p))
		return false;
	if (p.family == AF_INET6 && memcmp(p.addr, mapped, sizeof(mapped)) == 0) {
		/* A v6 socket shows v4 peers so. */
		memmove(p.addr, p.addr + 12, 4);
		p.family = AF_INET;
	}
	if (p.family != r.family)
		return false;
	for (unsigned bit = 0; bit < r.bits; bit++)
		if ((p.addr[bit / 8] ^ r.addr[bit / 8]) & (0x80u >> (bit % 8)))
			return false;
	return true;
}

/* ---- names and secrets ---- */

int cluster_id(struct blockd *d, char ret[9], struct err *e)
{
	uint8_t random[4];
	int rc = reg_cluster_get(d->registry, "cluster.id", ret, 9, NULL);

	if (rc != -ENOENT)
		return rc == 0 ? 0 : err_set(e, rc, "the registry's cluster.id cannot be used");
	loop_random(random, sizeof(random));
	snprintf(ret, 9, "%02x%02x%02x%02x", random[0], random[1], random[2], random[3]);
	rc = reg_cluster_set(d->registry, "cluster.id", ret, e);
	/* Two gateways may start at once: what is in the registry counts. */
	return rc == 0 ? reg_cluster_get(d->registry, "cluster.id", ret, 9, e) : rc;
}

static void make_secret(char ret[REG_CHAP])
{
	static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32, none alike */
	uint8_t random[CHAP_SECRET_MAX];

	loop_random(random, sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		ret[i] = letters[random[i] % 32];
	ret[sizeof(random)] = '\0';
}

static int secret_valid(const char *secret, struct err *e)
{
	size_t len = strlen(secret);

	if (len < CHAP_SECRET_MIN || len > CHAP_SECRET_MAX)
		return err_set(e, -EINVAL, "a CHAP secret has %d to %d characters, not %zu", CHAP_SECRET_MIN,
			       CHAP_SECRET_MAX, len);
	for (size_t i = 0; i < len; i++)
		if (secret[i] <= ' ' || secret[i] > '~')
			return err_set(e, -EINVAL, "a CHAP secret is of printable characters without spaces");
	return strncmp(secret, "NULL", 4) == 0 ? err_set(e, -EINVAL, "the kernel takes \"NULL...\" for no secret") : 0;
}

static int user_valid(const char *user, struct err *e)
{
	if (user[0] == '\0' || strlen(user) >= REG_CHAP || strncmp(user, "NULL", 4) == 0)
		return err_set(e, -EINVAL, "a CHAP user has 1 to %d characters", REG_CHAP - 1);
	for (const char *p = user; *p; p++)
		if (*p <= ' ' || *p > '~')
			return err_set(e, -EINVAL, "a CHAP user is of printable characters without spaces");
	return 0;
}

/* Is the IQN that of another LUN that exists? Those in the trash do not count. */
static bool iqn_taken(struct blockd *d, const struct gfid *lun, const char *iqn)
{
	struct reg_target *all = NULL;
	struct reg_lun row;
	bool taken = false;
	size_t n = 0;

	if (reg_target_list(d->registry, &all, &n, NULL) < 0)
		return true;
	for (size_t i = 0; i < n && !taken; i++)
		taken = strcmp(all[i].iqn, iqn) == 0 && !gfid_eq(&all[i].lun, lun) &&
			reg_lun_get_gfid(d->registry, &all[i].lun, &row, NULL) == 0 && row.state <= REG_LUN_READY;
	free(all);
	return taken;
}

/* Names that differ only in '_' and '-', or in where a dot belongs, give one IQN: the later gets part of its id. */
static int make_iqn(struct blockd *d, const struct reg_lun *row, char ret[REG_IQN], struct err *e)
{
	char id[9], prefix[64];
	int rc = cluster_id(d, id, e);

	if (rc < 0)
		return rc;
	snprintf(prefix, sizeof(prefix), IQN_PREFIX ":%s:", id);
	lio_iqn_make(prefix, row->volume, row->name, ret);
	if (iqn_taken(d, &row->gfid, ret)) {
		size_t len = strlen(ret);

		snprintf(ret + len, REG_IQN - len, ".%02x%02x%02x%02x", row->gfid.b[0], row->gfid.b[1], row->gfid.b[2],
			 row->gfid.b[3]);
	}
	return 0;
}

/* What iSCSI needs and is not there yet. */
static int complete(struct blockd *d, const struct reg_lun *row, struct reg_target *t, struct err *e)
{
	if (!(t->protos & REG_PROTO_ISCSI))
		return 0;
	if (t->chap_user[0] == '\0')
		snprintf(t->chap_user, sizeof(t->chap_user), "%.30s.%.30s", row->volume, row->name);
	if (t->chap_secret[0] == '\0')
		make_secret(t->chap_secret);
	if (t->auth == REG_AUTH_MUTUAL && t->mutual_user[0] == '\0')
		snprintf(t->mutual_user, sizeof(t->mutual_user), "myfs.%.50s", row->volume);
	if (t->auth == REG_AUTH_MUTUAL && t->mutual_secret[0] == '\0')
		make_secret(t->mutual_secret);
	return t->iqn[0] ? 0 : make_iqn(d, row, t->iqn, e);
}

/* ---- rows ---- */

int target_make(struct blockd *d, const struct reg_lun *row, const struct target_wish *wish, struct err *e)
{
	struct reg_target t = {.lun = row->gfid,
			       .protos = wish->protos     ? wish->protos
					 : lio_offered(d) ? REG_PROTO_NBD | REG_PROTO_ISCSI
							  : REG_PROTO_NBD,
			       .enabled = 1,
			       .open = wish->open,
			       .auth = wish->auth};
	int rc;

	snprintf(t.home, sizeof(t.home), "%s", d->self.name);
	rc = complete(d, row, &t, e);
	if (rc == 0)
		rc = reg_target_put(d->registry, &t, e);
	for (size_t i = 0; i < wish->allow_n && rc == 0; i++) {
		struct reg_acl a = {.lun = row->gfid};

		snprintf(a.who, sizeof(a.who), "%s", wish->allow[i]);
		rc = reg_acl_add(d->registry, &a, e);
	}
	return rc;
}

void target_load(struct blockd *d, const struct gfid *lun, struct reg_target *ret)
{
	if (reg_target_get(d->registry, lun, ret, NULL) < 0)
		*ret = (struct reg_target){.lun = *lun, .protos = REG_PROTO_NBD, .auth = REG_AUTH_CHAP};
}

static int change_begin(struct blockd *d, const struct reg_lun *row, struct reg_target *ret, struct err *e)
{
	int rc = registry_begin(d->registry, e);

	if (rc == 0)
		target_load(d, &row->gfid, ret);
	return rc;
}

static int change_end(struct blockd *d, const struct reg_lun *row, struct reg_target *t, int rc, struct err *e)
{
	if (rc == 0)
		rc = complete(d, row, t, e);
	if (rc == 0)
		rc = reg_target_put(d->registry, t, e);
	if (rc == 0)
		return registry_commit(d->registry, e);
	registry_rollback(d->registry);
	return rc;
}

int target_set_protos(struct blockd *d, const struct reg_lun *row, uint32_t protos, bool enabled, struct err *e)
{
	struct reg_target t;
	int rc = change_begin(d, row, &t, e);

	if (rc < 0)
		return rc;
	t.protos = protos ? protos : t.protos;
	t.enabled = enabled;
	if (t.home[0] == '\0')
		snprintf(t.home, sizeof(t.home), "%s", d->self.name);
	return change_end(d, row, &t, 0, e);
}

int target_set_secret(struct blockd *d, const struct reg_lun *row, bool mutual, const char *user, const char *secret,
		      struct err *e)
{
	struct reg_target t;
	int rc = user ? user_valid(user, e) : 0;

	if (rc == 0 && secret)
		rc = secret_valid(secret, e);
	if (rc == 0)
		rc = change_begin(d, row, &t, e);
	if (rc < 0)
		return rc;
	char *u = mutual ? t.mutual_user : t.chap_user, *s = mutual ? t.mutual_secret : t.chap_secret;
	if (user)
		snprintf(u, REG_CHAP, "%s", user);
	if (secret)
		snprintf(s, REG_CHAP, "%s", secret);
	else
		make_secret(s);
	if (mutual)
		t.auth = REG_AUTH_MUTUAL;
	/* An initiator that could reflect the target's own answer would be let in. */
	if (t.auth == REG_AUTH_MUTUAL && strcmp(t.chap_secret, t.mutual_secret) == 0)
		rc = err_set(e, -EINVAL, "the two secrets of mutual CHAP must differ");
	return change_end(d, row, &t, rc, e);
}

int target_set_auth(struct blockd *d, const struct reg_lun *row, uint32_t auth, struct err *e)
{
	struct reg_target t;
	int rc = change_begin(d, row, &t, e);

	if (rc < 0)
		return rc;
	t.auth = auth;
	return change_end(d, row, &t, 0, e);
}

int target_set_open(struct blockd *d, const struct reg_lun *row, bool open, struct err *e)
{
	struct reg_target t;
	int rc = change_begin(d, row, &t, e);

	if (rc < 0)
		return rc;
	t.open = open;
	return change_end(d, row, &t, 0, e);
}

int target_rename(struct blockd *d, const struct reg_lun *row, struct err *e)
{
	struct reg_target t;
	int rc = change_begin(d, row, &t, e);

	if (rc < 0)
		return rc;
	t.iqn[0] = '\0'; /* made again where it is needed */
	return change_end(d, row, &t, 0, e);
}

/* ---- admission ---- */

int target_admit_nbd(struct blockd *d, const struct reg_lun *row, const struct stream *peer, struct err *e)
{
	struct reg_acl *acl = NULL;
	struct reg_target t;
	bool admitted = false;
	size_t n = 0;

	if (!peer || peer->is_unix)
		return 0;
	target_load(d, &row->gfid, &t);
	if (!(t.protos & REG_PROTO_NBD))
		return err_set(e, -EACCES, "%s/%s is not offered over NBD", row->volume, row->name);
	if (t.open)
		return 0;
	if (reg_acl_list(d->registry, &row->gfid, &acl, &n, e) < 0)
		return -EACCES;
	for (size_t i = 0; i < n && !admitted; i++)
		admitted = who_covers(acl[i].who, peer->peer);
	free(acl);
	return admitted
		   ? 0
		   : err_set(e, -EACCES, "%.64s may not attach %s/%s; allow it with: myfs-block acl add %s/%s ADDRESS",
			     peer->peer, row->volume, row->name, row->volume, row->name);
}

bool peer_is_runner(const char *peer)
{
	char path[64], comm[32] = "";
	int pid, fd;

	if (sscanf(peer, "unix uid %*u pid %d", &pid) != 1)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, comm, sizeof(comm) - 1);
	close(fd);
	return n > 0 && strncmp(comm, "tcmu-runner\n", 12) == 0;
}
