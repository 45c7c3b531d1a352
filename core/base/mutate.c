/* mutate.c - names of the rules of mutate.h. */
#include "core/base/mutate.h"

#include <stddef.h>
#include <strings.h>

#ifdef MYFS_MUTANTS
enum mutate_rule mutate_rule;
#endif

static const struct {
	const char *name, *text;
} rules[MUTATE_N] = {
	[MUTATE_NONE] = {NULL, NULL},
#define MUTATE_ROW(name, text) [MUTATE_##name] = {#name, text},
	MUTATE_RULES(MUTATE_ROW)
#undef MUTATE_ROW
};

const char *mutate_name(enum mutate_rule rule)
{
	return rules[rule].name;
}

const char *mutate_text(enum mutate_rule rule)
{
	return rules[rule].text;
}

enum mutate_rule mutate_find(const char *name)
{
	for (enum mutate_rule r = MUTATE_NONE + 1; r < MUTATE_N; r++)
		if (strcasecmp(rules[r].name, name) == 0)
			return r;
	return MUTATE_N;
}
