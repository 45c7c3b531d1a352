#include "cli/words.h"

#include <stdio.h>

int name_check(const char *what, const char *name, struct err *e)
{
	size_t len = strlen(name);
	if (len == 0)
		return err_set(e, -EINVAL, "the %s name is empty", what);
	if (len > 63)
		return err_set(e, -EINVAL, "%s name \"%.20s...\" has %zu characters; at most 63 are possible", what, name, len);
	if (strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-") != len)
		return err_set(e, -EINVAL, "%s name \"%s\" may hold only a-z, 0-9, '.', '_' and '-'", what, name);
	if (strchr("._-", name[0]) != NULL)
		return err_set(e, -EINVAL, "%s name \"%s\" must begin with a letter or digit", what, name);
	return 0;
}

int spec_parse(const char *spec, char ret_volume[64], char ret_name[64], struct err *e)
{
	const char *slash = strchr(spec, '/');
	if (slash == NULL || strchr(slash + 1, '/') != NULL)
		return err_set(e, -EINVAL, "\"%s\" is not a LUN; write VOLUME/LUN, for example vol/lun", spec);
	char volume[300];
	snprintf(volume, sizeof(volume), "%.*s", (int)min_u64((uint64_t)(slash - spec), 299), spec);
	int rc = name_check("volume", volume, e);
	if (rc == 0)
		rc = name_check("LUN", slash + 1, e);
	if (rc < 0)
		return rc;
	memcpy(ret_volume, volume, strlen(volume) + 1);
	memcpy(ret_name, slash + 1, strlen(slash + 1) + 1);
	return 0;
}

unsigned word_distance(const char *a, const char *b)
{
	enum { CAP = 32 };
	size_t la = min_u64(strlen(a), CAP), lb = min_u64(strlen(b), CAP);
	unsigned d[CAP + 1][CAP + 1];
	for (size_t i = 0; i <= la; i++)
		d[i][0] = (unsigned)i;
	for (size_t j = 0; j <= lb; j++)
		d[0][j] = (unsigned)j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			unsigned best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
			best = (unsigned)min_u64(best, d[i - 1][j] + 1);
			best = (unsigned)min_u64(best, d[i][j - 1] + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				best = (unsigned)min_u64(best, d[i - 2][j - 2] + 1);
			d[i][j] = best;
		}
	}
	return d[la][lb];
}
