#include "cli/size.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <time.h>

static const char UNITS[] = "KMGTP";

/* Number of 1024 steps of a suffix: 0 for none or "B", -1 unknown, -2 for the ambiguous decimal form ("GB"). */
static int suffix_steps(const char *s)
{
	if (*s == '\0' || strcasecmp(s, "b") == 0)
		return 0;
	const char *unit = strchr(UNITS, toupper((unsigned char)s[0]));
	if (unit == NULL)
		return -1;
	int steps = (int)(unit - UNITS) + 1;
	if (s[1] == '\0' || strcasecmp(s + 1, "ib") == 0)
		return steps;
	return strcasecmp(s + 1, "b") == 0 ? -2 : -1;
}

int size_parse(const char *text, uint64_t *ret_bytes, struct err *e)
{
	size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 19)
		return err_set(e, -EINVAL, "\"%s\" is not a size; write for example 10G (= 10 GiB)", text);
	uint64_t value = strtoull(text, NULL, 10);
	int steps = suffix_steps(text + digits);
	if (steps == -2) {
		uint64_t decimal = value;
		for (int i = (int)(strchr(UNITS, toupper((unsigned char)text[digits])) - UNITS) + 1; i > 0; i--)
			decimal = decimal > UINT64_MAX / 1000 ? UINT64_MAX : decimal * 1000;
		return err_set(e, -EINVAL, "\"%s\" is ambiguous; write %" PRIu64 "%c (= %" PRIu64 " %ciB) or %" PRIu64, text, value,
		               toupper((unsigned char)text[digits]), value, toupper((unsigned char)text[digits]), decimal);
	}
	if (steps < 0)
		return err_set(e, -EINVAL, "\"%s\" has an unknown unit; use K, M, G, T or P (powers of 1024)", text);
	if (steps > 0 && value > (UINT64_MAX >> (10 * steps)))
		return err_set(e, -ERANGE, "\"%s\" is larger than any size myfs can hold", text);
	*ret_bytes = value << (10 * steps);
	return 0;
}

int size_parse_change(const char *text, bool *ret_relative, uint64_t *ret_bytes, struct err *e)
{
	bool relative = text[0] == '+';
	int rc = size_parse(text + relative, ret_bytes, e);
	if (rc == 0)
		*ret_relative = relative;
	return rc;
}

int duration_parse(const char *text, uint64_t *ret_seconds, struct err *e)
{
	static const struct {
		const char *suffix;
		uint64_t seconds;
	} units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
	size_t digits = strspn(text, "0123456789");
	if (digits == 0 || digits > 9)
		return err_set(e, -EINVAL, "\"%s\" is not a time; write for example 30s, 5m, 2h or 7d", text);
	uint64_t value = strtoull(text, NULL, 10);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (strcmp(text + digits, units[i].suffix) == 0) {
			*ret_seconds = value * units[i].seconds;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "\"%s\" has an unknown unit; use s, m, h or d", text);
}

char *size_text(uint64_t bytes, char out[SIZE_TEXT])
{
	if (bytes < 1024) {
		snprintf(out, SIZE_TEXT, "%" PRIu64 " B", bytes);
		return out;
	}
	double value = (double)bytes / 1024;
	size_t unit = 0;
	while (value >= 1023.95 && unit + 1 < sizeof(UNITS) - 1) {
		value /= 1024;
		unit++;
	}
	snprintf(out, SIZE_TEXT, "%.1f %ciB", value, UNITS[unit]);
	return out;
}

char *duration_text(uint64_t seconds, char out[SIZE_TEXT])
{
	if (seconds < 60)
		snprintf(out, SIZE_TEXT, "%" PRIu64 " s", seconds);
	else if (seconds < 3600)
		snprintf(out, SIZE_TEXT, "%" PRIu64 " min %" PRIu64 " s", seconds / 60, seconds % 60);
	else if (seconds < 86400)
		snprintf(out, SIZE_TEXT, "%" PRIu64 " h %" PRIu64 " min", seconds / 3600, seconds / 60 % 60);
	else
		snprintf(out, SIZE_TEXT, "%" PRIu64 " d %" PRIu64 " h", seconds / 86400, seconds / 3600 % 24);
	return out;
}

char *time_text(uint64_t wall_ns, char out[SIZE_TEXT])
{
	time_t t = (time_t)(wall_ns / NS_PER_S);
	struct tm tm;
	gmtime_r(&t, &tm);
	strftime(out, SIZE_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return out;
}
