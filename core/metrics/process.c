/* process.c - what every daemon says of itself. CPU, memory and descriptors have the names that Prometheus client libraries give them. */
#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "core/loop/loop.h"
#include "core/metrics/metrics.h"

static uint64_t resident_bytes(void)
{
	unsigned long all, resident = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%lu %lu", &all, &resident) != 2)
		resident = 0;
	fclose(f);
	return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	uint64_t n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n > 3 ? n - 3 : 0; /* ".", ".." and this one */
}

static void loop_calls(struct metrics *m)
{
	const struct {
		const char *call;
		uint64_t n;
	} rows[] = {{"wait", loop_counters.waits},     {"submit", loop_counters.submits}, {"send", loop_counters.sends},
		    {"receive", loop_counters.receives}, {"read", loop_counters.reads},     {"write", loop_counters.writes}};

	metrics_family(m, "myfs_loop_system_calls_total", METRICS_COUNTER,
		       "System calls of the event loop: wait and submit are io_uring_enter or epoll_wait, the others were made in place.");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		metrics_u64(m, rows[i].n, METRICS_LABELS({"call", rows[i].call}));
	metrics_family(m, "myfs_loop_queued_operations_total", METRICS_COUNTER, "Operations handed to the kernel's ring or to pool threads.");
	metrics_u64(m, loop_counters.queued, NULL, 0);
}

void metrics_process(struct metrics *m, const char *daemon, const char *name)
{
	struct rusage u = {0};

	getrusage(RUSAGE_SELF, &u);
	metrics_family(m, "myfs_build_info", METRICS_GAUGE, "Always 1; which program this is.");
	metrics_u64(m, 1, METRICS_LABELS({"daemon", daemon}, {"name", name}, {"version", MYFS_VERSION}));
	metrics_family(m, "process_cpu_seconds_total", METRICS_COUNTER, "User and system time of this process.");
	metrics_real(m, (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6, NULL, 0);
	metrics_family(m, "process_resident_memory_bytes", METRICS_GAUGE, "Resident memory.");
	metrics_u64(m, resident_bytes(), NULL, 0);
	metrics_family(m, "process_open_fds", METRICS_GAUGE, "Open file descriptors.");
	metrics_u64(m, descriptors(), NULL, 0);
	loop_calls(m);
}
