/* lio_host.c - see lio_host.h. */
#include "blockd/lio_host.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONFIGFS_MOUNT "/sys/kernel/config"

extern char **environ;

static bool is_dir(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static void load_modules(void)
{
	char *const argv[] = {"modprobe", "-a", "-q", "configfs", "target_core_user", "iscsi_target_mod", NULL};
	posix_spawn_file_actions_t quiet;
	pid_t pid;
	int status;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&quiet, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	/* Whether it worked shows in what is there afterwards. */
	if (posix_spawnp(&pid, "modprobe", &quiet, NULL, argv, environ) == 0)
		while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
			continue;
	posix_spawn_file_actions_destroy(&quiet);
}

static void lack(struct lio_lack *ret, const char *code, const char *why, const char *next)
{
	ret->code = code;
	snprintf(ret->why, sizeof(ret->why), "%s", why);
	snprintf(ret->next, sizeof(ret->next), "%s", next);
}

void lio_host_prepare(const char *root, struct lio_lack *ret)
{
	bool kernels_own = strcmp(root, LIO_CONFIGFS_DEFAULT) == 0;
	char probe[512];

	ret->code = NULL;
	if (kernels_own && (!is_dir(root) || !is_dir("/sys/module/target_core_user"))) {
		load_modules();
		if (is_dir(CONFIGFS_MOUNT) && !is_dir(root))
			(void)mount("configfs", CONFIGFS_MOUNT, "configfs", 0, NULL);
		if (!is_dir(CONFIGFS_MOUNT)) {
			lack(ret, "configfs", "the kernel has no configfs", "modprobe configfs; or use --proto nbd");
			return;
		}
		if (!is_dir("/sys/module/target_core_user") || !is_dir("/sys/module/iscsi_target_mod")) {
			lack(ret, "modules", "target_core_user or iscsi_target_mod is not loaded",
			     "modprobe -a target_core_user iscsi_target_mod");
			return;
		}
	}
	if (!is_dir(root)) {
		snprintf(probe, sizeof(probe), "there is no directory %s", root);
		lack(ret, "configfs", probe, "mount -t configfs configfs " CONFIGFS_MOUNT);
		return;
	}
	if (access(root, W_OK) < 0) {
		snprintf(probe, sizeof(probe), "%s may not be written by this user", root);
		lack(ret, "permission", probe, "run myfs-blockd as root");
	}
}

bool lio_host_runner(const char *proc)
{
	struct dirent *entry;
	bool found = false;
	DIR *d = opendir(proc);

	while (d && !found && (entry = readdir(d))) {
		char path[600], comm[32] = "";
		int fd;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "%s/%s/comm", proc, entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		ssize_t n = read(fd, comm, sizeof(comm) - 1);
		close(fd);
		found = n > 0 && strncmp(comm, "tcmu-runner\n", 12) == 0;
	}
	if (d)
		closedir(d);
	return found;
}
