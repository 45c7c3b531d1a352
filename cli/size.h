/* size.h - sizes and durations as people type and read them. Pure.
 *
 * K M G T P (and KiB..PiB, any case) are powers of 1024; a bare number is bytes. "10GB" is refused: it means 10^10
 * to some tools and 10 GiB to others. */
#ifndef MYFS_CLI_SIZE_H
#define MYFS_CLI_SIZE_H

#include "core/base/base.h"
#include "core/base/err.h"

/* 0, or -EINVAL / -ERANGE with a text that says what to write instead. */
int size_parse(const char *text, uint64_t *ret_bytes, struct err *e);
/* "+5G": relative set; "5G": absolute. */
int size_parse_change(const char *text, bool *ret_relative, uint64_t *ret_bytes, struct err *e);
/* "30s", "5m", "2h", "7d", bare = seconds. */
int duration_parse(const char *text, uint64_t *ret_seconds, struct err *e);

#define SIZE_TEXT 32
/* "10.0 GiB", "512 B". Returns out. */
char *size_text(uint64_t bytes, char out[SIZE_TEXT]);
/* "2 min 10 s", "45 s", "3 h 5 min", "2 d 4 h". Returns out. */
char *duration_text(uint64_t seconds, char out[SIZE_TEXT]);
/* RFC 3339 in UTC, "2026-11-21T01:19:07Z", from nanoseconds since 1970. Returns out. */
char *time_text(uint64_t wall_ns, char out[SIZE_TEXT]);

#endif
