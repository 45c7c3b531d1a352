#include "cli/proc.h"

#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int proc_bin_dir(char *ret, size_t cap)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	char *slash = strrchr(path, '/');
	*slash = '\0';
	return snprintf(ret, cap, "%s", path) < (int)cap ? 0 : -ENAMETOOLONG;
}

/* Start time in clock ticks since boot: field 22 of /proc/PID/stat, counted after the last ')'. 0 when there is no such process
 * or it is a zombie. */
static uint64_t start_time(pid_t pid)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	const char *p = strrchr(text, ')');
	if (p == NULL || p[1] == '\0' || p[2] == 'Z')
		return 0;
	for (int field = 2; field < 22 && p != NULL; field++)
		p = strchr(p + 1, ' ');
	return p != NULL ? strtoull(p + 1, NULL, 10) : 0;
}

int proc_remember(const char *pid_path, pid_t pid, struct err *e)
{
	FILE *f = fopen(pid_path, "we");
	if (f == NULL)
		return err_set(e, -errno, "%s cannot be written", pid_path);
	fprintf(f, "%d %" PRIu64 "\n", (int)pid, start_time(pid));
	return fclose(f) == 0 ? 0 : err_set(e, -errno, "%s cannot be written", pid_path);
}

pid_t proc_alive(const char *pid_path)
{
	FILE *f = fopen(pid_path, "re");
	if (f == NULL)
		return 0;
	int pid = 0;
	uint64_t started = 0;
	int n = fscanf(f, "%d %" SCNu64, &pid, &started);
	fclose(f);
	return n == 2 && pid > 0 && started != 0 && start_time(pid) == started ? pid : 0;
}

int proc_start(char *const argv[], const char *log_path, const char *pid_path, struct err *e)
{
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (log < 0)
		return err_set(e, -errno, "%s cannot be opened", log_path);
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), report[2];
	if (null < 0 || pipe2(report, O_CLOEXEC) < 0) {
		int rc = -errno;
		close(log);
		close(null);
		return err_set(e, rc, "cannot start %s", argv[0]);
	}
	pid_t pid = fork();
	if (pid == 0) {
		setsid();
		dup2(null, STDIN_FILENO);
		dup2(log, STDOUT_FILENO);
		dup2(log, STDERR_FILENO);
		execv(argv[0], argv);
		int code = errno;
		(void)!write(report[1], &code, sizeof(code));
		_exit(127);
	}
	int fork_errno = errno, exec_errno = 0;
	close(log);
	close(null);
	close(report[1]);
	/* The pipe closes at a successful exec: then nothing is read. */
	bool failed = pid > 0 && read(report[0], &exec_errno, sizeof(exec_errno)) == (ssize_t)sizeof(exec_errno);
	close(report[0]);
	if (pid < 0)
		return err_set(e, -fork_errno, "cannot start %s", argv[0]);
	if (failed) {
		waitpid(pid, NULL, 0);
		return err_set(e, -exec_errno, "cannot run %s: %s", argv[0], err_name(-exec_errno));
	}
	return proc_remember(pid_path, pid, e);
}

int proc_signal(const char *pid_path, int signo)
{
	pid_t pid = proc_alive(pid_path);
	if (pid == 0)
		return 0;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? 0 : -errno;
	/* The pidfd pins this process: check once more that it is the one of the file. */
	int rc = proc_alive(pid_path) == pid ? (int)syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) : 0;
	int code = errno;
	close(fd);
	return rc < 0 && code != ESRCH ? -code : 0;
}

int proc_wait_gone(const char *pid_path, int timeout_ms)
{
	pid_t pid = proc_alive(pid_path);
	if (pid == 0)
		return 0;
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return errno == ESRCH ? 0 : -errno;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int n = poll(&p, 1, timeout_ms);
	close(fd);
	(void)waitpid(pid, NULL, WNOHANG); /* ours when started by this very process */
	return n > 0 ? 0 : -ETIMEDOUT;
}

void proc_log_tail(const char *log_path, char *out, size_t cap)
{
	out[0] = '\0';
	FILE *f = fopen(log_path, "re");
	if (f == NULL)
		return;
	fseek(f, 0, SEEK_END);
	long end = ftell(f), want = (long)cap - 1;
	fseek(f, end > want ? end - want : 0, SEEK_SET);
	size_t n = fread(out, 1, cap - 1, f);
	out[n] = '\0';
	fclose(f);
	while (n > 0 && out[n - 1] == '\n')
		out[--n] = '\0';
	const char *last = strrchr(out, '\n');
	if (last != NULL)
		memmove(out, last + 1, strlen(last + 1) + 1);
}
