/* field.h - reading one field of a daemon's JSON answer; absent or of another type reads as nothing. */
#ifndef MYFS_CLI_FIELD_H
#define MYFS_CLI_FIELD_H

#include <jansson.h>

#include "core/base/base.h"

/* Borrowed from o, or `otherwise`. */
static inline const char *field_text(const json_t *o, const char *key, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(o, key));
	return s != NULL ? s : otherwise;
}

static inline json_int_t field_int(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static inline uint64_t field_u64(const json_t *o, const char *key)
{
	return (uint64_t)field_int(o, key);
}

#endif
