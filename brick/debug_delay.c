#include "brick/debug_delay.h"

#include <stdlib.h>

int debug_delay_parse(const char *text, struct debug_delay *ret, struct err *e)
{
	char *percent_end, *ms_end;
	unsigned long percent = strtoul(text, &percent_end, 10), ms = 0;
	bool ok = text[0] >= '0' && text[0] <= '9' && percent_end[0] == '%' && percent_end[1] == ':' &&
		  percent_end[2] >= '0' && percent_end[2] <= '9';

	if (ok) {
		ms = strtoul(percent_end + 2, &ms_end, 10);
		ok = strcmp(ms_end, "ms") == 0;
	}
	if (!ok || percent < 1 || percent > 100 || ms < 1 || ms > DEBUG_DELAY_MAX_MS)
		return err_set(e, -EINVAL, "\"%s\" is not PERCENT%%:TIMEms, for example 10%%:100ms (1 to 100 %%, 1 to %u ms)",
			       text, DEBUG_DELAY_MAX_MS);
	*ret = (struct debug_delay){.percent = (unsigned)percent, .ns = ms * NS_PER_MS};
	prng_seed(&ret->prng, 1); /* runs are to be compared */
	return 0;
}

void debug_delay_answer(struct debug_delay *d)
{
	if (d && d->percent > 0 && prng_below(&d->prng, 100) < d->percent)
		fiber_sleep_until(loop_now_ns() + d->ns);
}
