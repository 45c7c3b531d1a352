/* stat.c - questions to bricks that need no ownership: what they have room for, what a domain takes up.
 *
 * Nothing here fences anybody or depends on a view; a brick that does not answer is simply missing from the answer. How
 * long an answer may take is set.c's policy for stalled bricks. */
#include "ec/ec_priv.h"

int ec_set_brick_stat(struct ec_set *s, unsigned index, struct bp_stat_res *ret)
{
	struct bp_stat_res res = {0};
	struct rpc_group g;
	struct rpc_call call;

	assert(index < s->geo.n);
	rpc_group_init(&g);
	ec_call_init(&call, BP_STAT, NULL, NULL, (xdrproc_t)xdr_bp_stat_res, &res);
	if (!ec_brick_start(&s->bricks[index], &call, &g))
		return -ENOTCONN;
	rpc_group_wait_all(&g);
	rpc_call_release(&call);
	if (call.rc < 0)
		return call.rc == -MYFS_E_GONE ? -ENOTCONN : call.rc;
	*ret = res;
	return 0;
}

struct usage_leg {
	struct rpc_call call;
	struct bp_usage_res res;
	bool started;
};

int ec_set_usage(struct ec_set *s, const struct gfid *domain, uint64_t *ret_bytes, unsigned *ret_bricks)
{
	struct usage_leg *legs = calloc(s->geo.n, sizeof(*legs));
	struct bp_domain_args args;
	struct rpc_group g;
	uint64_t bytes = 0;
	unsigned bricks = 0;

	if (!legs)
		return -ENOMEM;
	gfid_to_wire(domain, args.domain);
	rpc_group_init(&g);
	for (uint32_t i = 0; i < s->geo.n; i++) {
		ec_call_init(&legs[i].call, BP_USAGE, (xdrproc_t)xdr_bp_domain_args, &args, (xdrproc_t)xdr_bp_usage_res,
			     &legs[i].res);
		legs[i].started = ec_brick_start(&s->bricks[i], &legs[i].call, &g);
	}
	rpc_group_wait_all(&g);
	for (uint32_t i = 0; i < s->geo.n; i++) {
		if (!legs[i].started)
			continue;
		rpc_call_release(&legs[i].call);
		if (legs[i].call.rc == 0) {
			bytes += legs[i].res.bytes;
			bricks++;
		}
	}
	free(legs);
	if (bricks == 0)
		return -ENOTCONN;
	*ret_bytes = bytes;
	*ret_bricks = bricks;
	return 0;
}

const struct histogram *ec_set_brick_round_trips(const struct ec_set *s, unsigned index)
{
	assert(index < s->geo.n);
	return &s->bricks[index].round_trips;
}

void ec_set_cache_counts(const struct ec_set *s, uint64_t *ret_hits, uint64_t *ret_misses)
{
	struct ec_stripe_cache_stats st;

	ec_stripe_cache_stats(s->cache, &st);
	*ret_hits = st.hits;
	*ret_misses = st.misses;
}
