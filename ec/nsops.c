/* nsops.c - one change of a name on every member of the set, and looking at names.
 *
 *   NSOP(view version, missed = everybody who is not a member) --> all members at once, each durable before it answers
 *   all members did it         done
 *   a member is lost           the keeper drops it by a view change; the same operation again, with it among the missed
 *   a member is of another opinion than those who did it: its names are wrong, it is dropped and its names healed
 *   nobody did it              what they say is the answer (name taken, not there, no room)
 *
 * N1 operations are absolute and idempotent: repeating one after any failure is always right. N2 one operation at a
 * time per domain, and none while names are being healed (heal_names.c): a brick joins with exactly the names of that
 * moment. N3 an operation is done only when every member of a view that counts did it (the joint rule of view.c). */
#include "ec/ec_priv.h"
#include "ec/heal.h"

#define LOOK_AGAIN_NS (200 * NS_PER_MS)

/* What an operation may answer without its brick being ill. */
static bool is_answer(int rc)
{
	switch (rc) {
	case 0:
	case -EEXIST:
	case -ENOENT:
	case -ENOTEMPTY:
	case -ENOTDIR:
	case -EISDIR:
	case -EINVAL:
	case -EPERM:
	case -EBUSY:
	case -ENOSPC:
	case -EDQUOT:
	case -ENAMETOOLONG:
		return true;
	default:
		return false;
	}
}

struct ns_round {
	struct rpc_call calls[EC_MAX_BRICKS];
	uint32_t members;
	uint32_t did;     /* answered 0 */
	uint32_t refused; /* answered something else that is an answer */
	int answer;       /* the first refusal */
	uint32_t who;     /* said so */
};

static void ns_send(struct ec_domain *d, struct ns_round *r, struct bp_nsop_args *op) YIELDS
{
	struct rpc_group g;

	r->members = d->view.insync;
	r->did = r->refused = 0;
	r->answer = 0;
	op->view_version = d->view.ver;
	op->missed = mask_all(geo_of(d)->n) & ~r->members;
	rpc_group_init(&g);
	for (uint32_t m = r->members; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_call_init(&r->calls[b], BP_NSOP, (xdrproc_t)xdr_bp_nsop_args, op, NULL, NULL);
		ec_call_start(d, b, &r->calls[b], &g);
	}
	rpc_group_wait_all(&g);
}

/* 0, or -MYFS_E_FENCED. */
static int ns_collect(struct ec_domain *d, struct ns_round *r)
{
	for (uint32_t m = r->members; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		int rc = r->calls[b].rc;

		rpc_call_release(&r->calls[b]);
		if (rc == -MYFS_E_FENCED) {
			ec_domain_depose(d);
			return rc;
		}
		if (rc == 0) {
			r->did |= MASK(b);
		} else if (is_answer(rc)) {
			if (!r->refused) {
				r->answer = rc;
				r->who = b;
			}
			r->refused |= MASK(b);
		} else if (rc != -MYFS_E_GONE && rc != -MYFS_E_VIEW) {
			ec_domain_suspect(d, b, rc);
		}
	}
	return 0;
}

/* Did it, or will not do it, on all members that count now? -EAGAIN: once more. */
static int ns_outcome(struct ec_domain *d, const struct ns_round *r)
{
	if (d->state != EC_SERVING || d->view_busy || (d->view.insync & ~(r->did | r->refused)))
		return -EAGAIN;
	uint32_t did = r->did & d->view.insync, refused = r->refused & d->view.insync;
	if (!refused)
		return 0; /* N3 */
	if (!did || r->answer == -ENOSPC || r->answer == -EDQUOT)
		return r->answer; /* half done for want of room: repeated later, or undone by its opposite */
	for (uint32_t m = refused; m; m &= m - 1) {
		uint32_t b = (uint32_t)__builtin_ctz(m);
		ec_domain_suspect(d, b, r->calls[b].rc);
	}
	return -EAGAIN;
}

static int ns_apply_locked(struct ec_domain *d, struct bp_nsop_args *op, struct err *e) YIELDS
{
	uint64_t deadline = ec_deadline(d);
	struct ns_round r;

	for (;;) {
		int rc = ec_domain_ready(d, true, deadline);
		if (rc == -MYFS_E_QUORUM)
			return ec_set_missing(d->set, d->view.insync, rc, e);
		if (rc)
			return err_set(e, rc, "another gateway owns the namespace now");
		if (!(d->view.insync & ~d->live)) {
			ns_send(d, &r, op);
			rc = ns_collect(d, &r);
			if (rc)
				return err_set(e, rc, "another gateway owns the namespace now");
			rc = ns_outcome(d, &r);
			if (rc != -EAGAIN)
				return rc ? err_set(e, rc, "%s: %s", d->set->cfg.bricks[r.who].label, err_name(rc)) : 0;
		}
		if (loop_now_ns() >= deadline)
			return ec_set_missing(d->set, d->view.insync, -MYFS_E_QUORUM, e);
		waitq_wait_until(&d->wq, min_u64(deadline, loop_now_ns() + LOOK_AGAIN_NS));
	}
}

int ec_ns_apply(struct ec_domain *d, struct bp_nsop_args *op, struct err *e) YIELDS
{
	assert(d->opt.namespace_domain);
	int rc = ec_domain_enter(d);
	if (rc)
		return err_set(e, rc, "another gateway owns the namespace now");
	fmutex_lock(&d->heal->names); /* N2 */
	rc = ns_apply_locked(d, op, e);
	fmutex_unlock(&d->heal->names);
	ec_domain_leave(d);
	return rc;
}

int ec_ns_ask(struct ec_domain *d, uint32_t b, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS
{
	struct rpc_call call;

	ec_call_init(&call, BP_NSREAD, (xdrproc_t)xdr_bp_nsread_args, args, (xdrproc_t)xdr_bp_nsread_res, res);
	int rc = ec_call_sync(d, b, &call);
	rpc_call_release(&call);
	return rc;
}

/* Asks members in turn until one knows an answer: *ret_answer. 0, -EAGAIN (none did), or why nobody can be asked. */
static int ns_ask_members(struct ec_domain *d, struct bp_nsread_args *args, struct bp_nsread_res *res, uint64_t deadline,
			  int *ret_answer) YIELDS
{
	uint32_t tried = 0;

	while (ec_insync_live(d) & ~tried) {
		uint32_t b = (uint32_t)__builtin_ctz(ec_insync_live(d) & ~tried);
		tried |= MASK(b);
		int answer = ec_ns_ask(d, b, args, res);
		if (is_answer(answer)) {
			*ret_answer = answer;
			return 0;
		}
		xdr_free((xdrproc_t)xdr_bp_nsread_res, res);
		memset(res, 0, sizeof(*res));
		if (answer != -MYFS_E_GONE)
			ec_domain_suspect(d, b, answer);
		int rc = ec_domain_ready(d, false, deadline);
		if (rc)
			return rc;
	}
	return -EAGAIN;
}

static int ns_read_fenced(struct ec_domain *d, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS
{
	uint64_t deadline = ec_deadline(d);
	struct ec_ticket ticket;
	int answer = 0;

	for (;;) {
		int rc = ec_domain_ready(d, false, deadline);
		if (rc)
			return rc;
		ec_confirm_begin(d, &ticket);
		rc = ns_ask_members(d, args, res, deadline, &answer);
		if (!rc)
			rc = ec_confirm_wait(d, &ticket, deadline);
		ec_confirm_end(d, &ticket);
		if (!rc)
			return answer;
		xdr_free((xdrproc_t)xdr_bp_nsread_res, res);
		memset(res, 0, sizeof(*res));
		if (rc != -EAGAIN)
			return rc;
		if (loop_now_ns() >= deadline)
			return -MYFS_E_QUORUM;
		waitq_wait_until(&d->wq, min_u64(deadline, loop_now_ns() + LOOK_AGAIN_NS));
	}
}

int ec_ns_read(struct ec_domain *d, struct bp_nsread_args *args, struct bp_nsread_res *res) YIELDS
{
	assert(d->opt.namespace_domain);
	int rc = ec_domain_enter(d);

	if (rc)
		return rc;
	rc = ns_read_fenced(d, args, res);
	ec_domain_leave(d);
	return rc;
}
