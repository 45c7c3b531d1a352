#include "blockd/activity.h"

#include <stdio.h>

#include "blockd/blockd.h"

const char *const lun_op_names[LUN_OPS] = {"read", "write", "flush", "zero", "compare_and_write"};

static struct lun_activity *find(struct blockd *d, const struct gfid *gfid)
{
	list_for_each(a, &d->activity, struct lun_activity, node)
		if (gfid_eq(&a->gfid, gfid))
			return a;
	return NULL;
}

struct lun_activity *lun_activity_of(struct blockd *d, const struct reg_lun *row)
{
	struct lun_activity *a = find(d, &row->gfid);

	if (!a) {
		a = calloc(1, sizeof(*a));
		if (!a)
			return NULL;
		a->gfid = row->gfid;
		list_push_back(&d->activity, &a->node);
	}
	snprintf(a->volume, sizeof(a->volume), "%s", row->volume);
	snprintf(a->name, sizeof(a->name), "%s", row->name); /* a restored LUN may have another */
	return a;
}

void lun_activity_forget(struct blockd *d, const struct gfid *gfid)
{
	struct lun_activity *a = find(d, gfid);

	if (!a)
		return;
	list_del(&a->node);
	free(a);
}

void lun_activity_free_all(struct blockd *d)
{
	list_for_each_safe(a, &d->activity, struct lun_activity, node) {
		list_del(&a->node);
		free(a);
	}
}

void lun_activity_count(struct lun_activity *a, enum lun_op op, uint64_t began_ns, uint64_t bytes, int rc)
{
	if (UNLIKELY(!a))
		return;
	if (UNLIKELY(rc < 0)) {
		a->errors[op]++;
		return;
	}
	a->bytes[op] += bytes;
	histogram_add(&a->took[op], loop_precise_ns() - began_ns);
}

void lun_activity_closing(struct lun_activity *a, const struct ec_domain_status *s)
{
	if (!a)
		return;
	a->before.writes += s->writes;
	a->before.rounds += s->rounds;
	a->before.degraded_reads += s->degraded_reads;
	a->before.checksum_errors += s->checksum_errors;
	a->before.repaired_blocks += s->repaired_blocks;
	a->before.healed_bytes += s->healed_bytes;
}
