/* log.h - one line per event to stderr with a syslog priority prefix "<N>"; programs log, libraries return errors.
 *
 * Repeats of the same call site are limited to 10 a second, with a count of what was left out. */
#ifndef MYFS_LOG_H
#define MYFS_LOG_H

#include "core/base/base.h"

enum log_level { LOG_L_ERROR = 3, LOG_L_WARN = 4, LOG_L_NOTE = 5, LOG_L_INFO = 6, LOG_L_DEBUG = 7 };

void log_set_level(enum log_level level);
/* Name put before each message ("brickd node1"); copied. */
void log_set_name(const char *name);
void log_at(enum log_level level, const char *fmt, ...) PRINTF(2, 3);
#define log_error(...) log_at(LOG_L_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_L_WARN, __VA_ARGS__)
#define log_note(...) log_at(LOG_L_NOTE, __VA_ARGS__)
#define log_info(...) log_at(LOG_L_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_L_DEBUG, __VA_ARGS__)

#endif
