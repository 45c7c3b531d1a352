#include "cli/iscsi_host.h"

#include <dirent.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool runs(const char *name)
{
	DIR *d = opendir("/proc");
	bool found = false;
	struct dirent *entry;
	while (d != NULL && !found && (entry = readdir(d)) != NULL) {
		char path[300], comm[32] = "";
		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		FILE *f = entry->d_name[0] >= '1' && entry->d_name[0] <= '9' ? fopen(path, "re") : NULL;
		if (f == NULL)
			continue;
		if (fgets(comm, sizeof(comm), f) != NULL)
			comm[strcspn(comm, "\n")] = '\0';
		fclose(f);
		found = strcmp(comm, name) == 0;
	}
	if (d != NULL)
		closedir(d);
	return found;
}

static bool handler_installed(void)
{
	glob_t g;
	bool found = glob("/usr/lib/*/tcmu-runner/handler_myfs.so", 0, NULL, &g) == 0;
	globfree(&g);
	if (!found) {
		found = glob("/usr/lib*/tcmu-runner/handler_myfs.so", 0, NULL, &g) == 0;
		globfree(&g);
	}
	return found;
}

void iscsi_host_check(void (*tell)(void *arg, bool present, const char *what, const char *cure), void *arg)
{
	const struct {
		const char *path, *what, *cure;
	} files[] = {
		{"/sys/module/target_core_user", "kernel module target_core_user", "modprobe target_core_user (Debian: apt install linux-image-amd64), or use --proto nbd"},
		{"/sys/module/iscsi_target_mod", "kernel module iscsi_target_mod", "modprobe iscsi_target_mod, or use --proto nbd"},
		{"/sys/kernel/config/target", "configfs", "mount -t configfs configfs /sys/kernel/config"},
		{"/run/dbus/system_bus_socket", "the system D-Bus (tcmu-runner needs it)", "systemctl start dbus"},
	};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		tell(arg, access(files[i].path, F_OK) == 0, files[i].what, files[i].cure);
	tell(arg, access("/usr/bin/tcmu-runner", X_OK) == 0 || access("/usr/sbin/tcmu-runner", X_OK) == 0, "tcmu-runner installed", "apt install tcmu-runner");
	tell(arg, handler_installed(), "handler_myfs.so in tcmu-runner's directory", "copy build/tcmu-runner/handler_myfs.so to /usr/lib/x86_64-linux-gnu/tcmu-runner/, or start tcmu-runner --handler-path build/tcmu-runner");
	tell(arg, runs("tcmu-runner"), "tcmu-runner running", "systemctl start tcmu-runner");
}
