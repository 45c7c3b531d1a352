#include "cli/iscsi_login.h"

#include <fcntl.h>
#include <glob.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NODES "/etc/iscsi/nodes"
#define DEVICE_WAIT_MS 15000
#define OUTPUT 512
#define ISCSIADM_LOGIN_AUTH 24

extern char **environ;

char *iscsi_record_set(const char *record, const char *key, const char *value)
{
	size_t key_len = strlen(key), cap = strlen(record) + key_len + strlen(value) + 8, used = 0;
	char *out = malloc(cap);
	bool done = false;
	if (out == NULL)
		return NULL;
	for (const char *line = record; *line != '\0';) {
		const char *end = strchr(line, '\n');
		size_t len = end != NULL ? (size_t)(end - line) + 1 : strlen(line);
		bool match = strncmp(line, key, key_len) == 0 && (line[key_len] == ' ' || line[key_len] == '=');
		bool last = strncmp(line, "# END", 5) == 0;
		if ((match || last) && !done) {
			used += (size_t)snprintf(out + used, cap - used, "%s = %s\n", key, value);
			done = true;
		}
		if (!match) {
			memcpy(out + used, line, len);
			used += len;
		}
		line += len;
	}
	if (!done)
		used += (size_t)snprintf(out + used, cap - used, "%s%s = %s\n", used > 0 && out[used - 1] != '\n' ? "\n" : "", key, value);
	out[used] = '\0';
	return out;
}

/* Runs iscsiadm; what it said, on one line, into text. Its exit status, or -errno. */
static int iscsiadm(char *const argv[], char text[OUTPUT])
{
	int fds[2];
	pid_t pid;
	posix_spawn_file_actions_t files;
	text[0] = '\0';
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, fds[1], 1);
	posix_spawn_file_actions_adddup2(&files, fds[1], 2);
	int rc = posix_spawnp(&pid, "iscsiadm", &files, NULL, argv, environ), status = 0;
	posix_spawn_file_actions_destroy(&files);
	close(fds[1]);
	size_t used = 0;
	char rest[256] = "";
	for (ssize_t n = 1; rc == 0 && n > 0;) {
		bool room = used < OUTPUT - 1;
		n = read(fds[0], room ? text + used : rest, room ? OUTPUT - 1 - used : sizeof(rest));
		used += room && n > 0 ? (size_t)n : 0;
	}
	close(fds[0]);
	if (rc != 0)
		return -rc;
	text[used] = '\0';
	for (char *p = text; *p != '\0'; p++)
		*p = *p == '\n' ? (p[1] != '\0' ? ';' : '\0') : *p;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

static int failed(struct err *e, int status, const char *what, const char *text)
{
	if (status == -ENOENT)
		return err_set(e, -ENOENT, "iscsiadm is not installed (package open-iscsi)");
	return err_set(e, status == ISCSIADM_LOGIN_AUTH ? -EACCES : -EIO, "iscsiadm %s: %s", what, text[0] != '\0' ? text : "failed without a word");
}

static int node(const char *iqn, const char *portal, const char *what, const char *verb, const char *arg, struct err *e)
{
	char text[OUTPUT], t[300], p[128];
	snprintf(t, sizeof(t), "%s", iqn);
	/* The gateways make portal group 1 only. Named, the record is the one a discovery would have made, not a second one beside it. */
	snprintf(p, sizeof(p), "%s,1", portal);
	char verb_arg[32], last[32];
	snprintf(verb_arg, sizeof(verb_arg), "%s", verb);
	snprintf(last, sizeof(last), "%s", arg != NULL ? arg : "");
	char *argv[] = {(char[]){"iscsiadm"}, (char[]){"-m"}, (char[]){"node"}, (char[]){"-T"}, t, (char[]){"-p"}, p, verb_arg, arg != NULL ? last : NULL, NULL};
	int status = iscsiadm(argv, text);
	return status == 0 ? 0 : failed(e, status, what, text);
}

/* The record iscsiadm has just made: one file, or one in a directory of the portal's name. */
static int record_path(const char *iqn, const char *portal, char *out, size_t cap)
{
	char pattern[600], host[128];
	struct stat st;
	const char *colon = strrchr(portal, ':');
	snprintf(host, sizeof(host), "%.*s", colon != NULL ? (int)(colon - portal) : (int)strlen(portal), portal);
	/* [2001:db8::1]:3260 is 2001:db8::1,3260 there. */
	size_t len = strlen(host);
	if (host[0] == '[' && len > 2 && host[len - 1] == ']') {
		memmove(host, host + 1, len - 2);
		host[len - 2] = '\0';
	}
	snprintf(pattern, sizeof(pattern), NODES "/%.255s/%.100s,%.8s,1", iqn, host, colon != NULL ? colon + 1 : "3260");
	glob_t g;
	int rc = glob(pattern, 0, NULL, &g) == 0 && g.gl_pathc > 0 ? 0 : -ENOENT;
	if (rc == 0 && stat(g.gl_pathv[0], &st) == 0)
		snprintf(out, cap, "%s%s", g.gl_pathv[0], S_ISDIR(st.st_mode) ? "/default" : "");
	globfree(&g);
	return rc;
}

static int read_file(const char *path, char **ret)
{
	FILE *f = fopen(path, "re");
	if (f == NULL)
		return -errno;
	char *text = calloc(1, 65536);
	size_t n = text != NULL ? fread(text, 1, 65535, f) : 0;
	fclose(f);
	if (text == NULL || n == 65535) {
		free(text);
		return text == NULL ? -ENOMEM : -EFBIG;
	}
	*ret = text;
	return 0;
}

static int write_file(const char *path, const char *text)
{
	char fresh[700];
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	unlink(fresh);
	int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	size_t len = strlen(text);
	int rc = write(fd, text, len) == (ssize_t)len ? 0 : -EIO;
	close(fd);
	return rc == 0 && rename(fresh, path) == 0 ? 0 : -(errno != 0 ? errno : EIO);
}

static int write_account(const char *iqn, const char *portal, const struct iscsi_account *a, struct err *e)
{
	char path[640];
	char *record = NULL;
	const struct {
		const char *key, *value;
	} lines[] = {{"node.session.auth.authmethod", a->user != NULL ? "CHAP" : "None"}, {"node.session.auth.username", a->user},
	             {"node.session.auth.password", a->secret}, {"node.session.auth.username_in", a->target_user},
	             {"node.session.auth.password_in", a->target_secret}};
	int rc = record_path(iqn, portal, path, sizeof(path));
	if (rc == 0)
		rc = read_file(path, &record);
	for (size_t i = 0; i < ARRAY_LEN(lines) && rc == 0; i++) {
		if (lines[i].value == NULL)
			continue;
		char *next = iscsi_record_set(record, lines[i].key, lines[i].value);
		free(record);
		record = next;
		rc = record != NULL ? 0 : -ENOMEM;
	}
	if (rc == 0)
		rc = write_file(path, record);
	free(record);
	return rc == 0 ? 0 : err_set(e, rc, "the node record of %s cannot be written: %s", iqn, err_name(rc));
}

static bool session_is_of(const char *session, const char *iqn)
{
	char path[512], text[300] = "";
	snprintf(path, sizeof(path), "%.400s/targetname", session);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, iqn) == 0;
}

int iscsi_device(const char *iqn, char *ret_device, size_t cap)
{
	glob_t sessions, disks;
	int rc = -ENOENT;
	if (glob("/sys/class/iscsi_session/session*", 0, NULL, &sessions) != 0)
		return rc;
	for (size_t i = 0; i < sessions.gl_pathc && rc < 0; i++) {
		char pattern[512];
		if (!session_is_of(sessions.gl_pathv[i], iqn))
			continue;
		snprintf(pattern, sizeof(pattern), "%.400s/device/target*/*/block/*", sessions.gl_pathv[i]);
		if (glob(pattern, 0, NULL, &disks) != 0)
			continue;
		snprintf(ret_device, cap, "/dev/%s", strrchr(disks.gl_pathv[0], '/') + 1);
		globfree(&disks);
		rc = access(ret_device, F_OK) == 0 ? 0 : -ENOENT;
	}
	globfree(&sessions);
	return rc;
}

int iscsi_login(const char *iqn, const char *portal, const struct iscsi_account *a, char *ret_device, size_t cap, struct err *e)
{
	int rc = node(iqn, portal, "cannot make a node record", "-o", "new", e);
	if (rc == 0)
		rc = write_account(iqn, portal, a, e);
	if (rc == 0)
		rc = node(iqn, portal, "cannot log in", "--login", NULL, e);
	if (rc < 0) {
		(void)node(iqn, portal, "", "-o", "delete", NULL);
		return rc;
	}
	for (int waited_ms = 0; waited_ms < DEVICE_WAIT_MS; waited_ms += 50) {
		if (iscsi_device(iqn, ret_device, cap) == 0)
			return 0;
		(void)poll(NULL, 0, 50);
	}
	struct err ignored = ERR_INIT;
	(void)iscsi_logout(iqn, portal, &ignored);
	return err_set(e, -ETIMEDOUT, "logged in to %s, but the kernel made no disk of it", iqn);
}

int iscsi_logout(const char *iqn, const char *portal, struct err *e)
{
	int rc = node(iqn, portal, "cannot log out", "--logout", NULL, e);
	if (rc == 0)
		rc = node(iqn, portal, "cannot remove the node record", "-o", "delete", e);
	return rc;
}
