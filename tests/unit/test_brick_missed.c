/* test_brick_missed.c - lists of missed regions that are longer than a page, walked while they change. */
#include "brick_engine_fixture.h"

#define SHARDS_N (BP_MISSED_PAGE + 500u) /* two bricks miss a region of each, so there are three pages */
#define STALE    0x12u                   /* these two, 1 and 4 */

static void miss(struct engine *g, uint32_t first, uint32_t n, uint32_t brick, uint64_t regions) YIELDS
{
	struct bp_missed *v = calloc(n, sizeof(*v));
	bp_uuid boots[6] = {{0}};
	struct bp_view_args a = {.view = {.epoch = g->epoch, .ver = ++g->ver, .state = BP_VIEW_READY, .insync = ALL_INSYNC & ~STALE, .boot = {6, boots}},
				 .missed = {n, v}};

	for (uint32_t i = 0; i < n; i++)
		v[i] = (struct bp_missed){.shard = first + i, .brick = brick, .regions = regions};
	memcpy(a.domain, g->domain.b, 16);
	CHECK(view_request(g->b, g->s, &a) == 0);
	free(v);
}

static void many(struct engine *g) YIELDS
{
	miss(g, 0, SHARDS_N, 1, 1);
	miss(g, 0, SHARDS_N, 4, 2);
}

struct walk {
	uint32_t only, shard, brick, pages, items;
	uint64_t last; /* shard and brick of the last item: pages go forward */
};

/* The next page; what it says of a pair is what the pair was given. False after the last one. */
static bool walk_on(struct engine *g, struct walk *w)
{
	struct bp_missed_res r;

	CHECK(engine_missq(g, w->only, w->shard, w->brick, &r) == 0 && r.items.items_len <= BP_MISSED_PAGE);
	for (uint32_t i = 0; i < r.items.items_len; i++) {
		const struct bp_missed *x = &r.items.items_val[i];
		uint64_t at = ((uint64_t)x->shard << 8 | x->brick) + 1;
		CHECK(at > w->last && (w->only == BP_MISSED_ALL || x->brick == w->only));
		CHECK((x->regions & (x->brick == 1 ? 1u : 2u)) != 0);
		w->last = at;
		w->items++;
		w->shard = x->shard;
		w->brick = x->brick + 1;
	}
	bool more = r.more;
	CHECK(!more || r.items.items_len == BP_MISSED_PAGE);
	w->pages++;
	xdr_free((xdrproc_t)xdr_bp_missed_res, &r);
	return more;
}

ENGINE_TEST(a_long_list_comes_in_pages)
{
	many(g);
	struct walk w = {.only = BP_MISSED_ALL};
	while (walk_on(g, &w))
		;
	CHECK(w.pages == 3 && w.items == 2 * SHARDS_N);
	w = (struct walk){.only = 4};
	while (walk_on(g, &w))
		;
	CHECK(w.pages == 2 && w.items == SHARDS_N);
	struct bp_missed_res r;
	CHECK(engine_missq(g, BP_MISSED_ALL, SHARDS_N - 1, 5, &r) == 0 && r.items.items_len == 0 && !r.more);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &r);
	CHECK(engine_missq(g, 7, 0, 0, &r) == 0 && r.items.items_len == 0 && !r.more);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &r);
}

/* What was there at the first page is in one of them, whatever comes in front of the place, behind it, or to it. */
ENGINE_TEST(what_was_there_is_listed_once_while_the_list_grows)
{
	struct walk w = {.only = BP_MISSED_ALL};

	many(g);
	CHECK(walk_on(g, &w));
	miss(g, 0, 1, 1, 1u << 5);                   /* known, in front */
	miss(g, w.shard + 1, 1, 1, 1u << 5);         /* known, behind */
	miss(g, SHARDS_N, 100, 1, 1);                /* new, behind */
	while (walk_on(g, &w))
		;
	CHECK(w.items == 2 * SHARDS_N + 100);
	engine_crash(g, true);
	engine_start(g);
	w = (struct walk){.only = 1};
	while (walk_on(g, &w))
		;
	CHECK(w.items == SHARDS_N + 100);
}

ENGINE_TEST(a_list_that_is_cleared_on_the_way_ends)
{
	struct walk w = {.only = BP_MISSED_ALL};
	struct bp_clear_args a = {.brick = 4};

	many(g);
	CHECK(walk_on(g, &w));
	memcpy(a.domain, g->domain.b, 16);
	CHECK(clear_request(g->b, g->s, &a) == 0);
	CHECK(!walk_on(g, &w)); /* what is left of the other brick fits */
	CHECK(w.items == BP_MISSED_PAGE + SHARDS_N - BP_MISSED_PAGE / 2);
}

/* What the brick itself misses, by far more than a page: REJOIN has the first, and all of it survives. */
ENGINE_TEST(rejoin_answers_with_the_first_page)
{
	struct bp_rejoin_args a = {.floor = {g->epoch, 1}};
	struct bp_missed_res r = {0};
	bp_uuid boots[6] = {{0}};
	struct bp_missed *v = calloc(2 * BP_MISSED_PAGE, sizeof(*v));
	struct bp_view_args out = {.view = {.epoch = g->epoch, .ver = ++g->ver, .state = BP_VIEW_READY, .insync = ALL_INSYNC & ~(1u << OWN_INDEX), .boot = {6, boots}},
				   .missed = {2 * BP_MISSED_PAGE, v}};

	for (uint32_t i = 0; i < 2 * BP_MISSED_PAGE; i++)
		v[i] = (struct bp_missed){.shard = i, .brick = OWN_INDEX, .regions = 2};
	memcpy(out.domain, g->domain.b, 16);
	memcpy(a.domain, g->domain.b, 16);
	CHECK(view_request(g->b, g->s, &out) == 0);
	free(v);
	CHECK(tx_rejoin(g->b, g->s, &a, &r) == 0);
	CHECK(r.items.items_len == BP_MISSED_PAGE && r.more);
	xdr_free((xdrproc_t)xdr_bp_missed_res, &r);
	engine_crash(g, true);
	engine_start(g);
	struct walk w = {.only = OWN_INDEX};
	while (walk_on(g, &w))
		;
	CHECK(w.pages == 2 && w.items == 2 * BP_MISSED_PAGE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_long_list_comes_in_pages),
	    cmocka_unit_test(what_was_there_is_listed_once_while_the_list_grows),
	    cmocka_unit_test(a_list_that_is_cleared_on_the_way_ends),
	    cmocka_unit_test(rejoin_answers_with_the_first_page),
	};
	return cmocka_run_group_tests_name("brick.missed", tests, NULL, NULL);
}
