/* proc.h - background programs of the CLI (demo daemons, keepers of mapped devices): started with their own session and log, remembered by pid and start time
 * so that a reused pid is never killed. */
#ifndef MYFS_CLI_PROC_H
#define MYFS_CLI_PROC_H

#include <sys/types.h>

#include "core/base/err.h"

/* Directory of the running program (from /proc/self/exe). 0 or -errno. */
int proc_bin_dir(char *ret, size_t cap);
/* Starts argv (argv[0] = absolute path), standard input from /dev/null, output appended to log_path; writes pid_path. 0 or -errno with text. */
int proc_start(char *const argv[], const char *log_path, const char *pid_path, struct err *e);
/* Writes pid and start time of a running process. 0 or -errno with text. */
int proc_remember(const char *pid_path, pid_t pid, struct err *e);
/* Pid when the process of pid_path is alive, 0 when it is not. */
pid_t proc_alive(const char *pid_path);
/* Sends signo; 0 also when it is not running. */
int proc_signal(const char *pid_path, int signo);
/* Waits until it is gone. 0 or -ETIMEDOUT. */
int proc_wait_gone(const char *pid_path, int timeout_ms);
/* Last lines of a log into out, for error messages. */
void proc_log_tail(const char *log_path, char *out, size_t cap);

#endif
