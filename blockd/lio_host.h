/* lio_host.h - is this host able to offer iSCSI targets: configfs, kernel modules, tcmu-runner. Blocking. */
#ifndef MYFS_LIO_HOST_H
#define MYFS_LIO_HOST_H

#include "core/base/base.h"
#include "core/base/err.h"

#define LIO_CONFIGFS_DEFAULT "/sys/kernel/config/target"

/* What is missing, as a word for the machine and a sentence with the cure for people. */
struct lio_lack {
	const char *code; /* "configfs", "modules", "permission", "runner"; NULL = nothing */
	char why[256], next[256];
};

/* Mounts configfs and loads the modules when root is the kernel's own and that has not been done. */
void lio_host_prepare(const char *root, struct lio_lack *ret);
/* True when a process named tcmu-runner runs; proc is "/proc" but in tests. */
bool lio_host_runner(const char *proc);

#endif
