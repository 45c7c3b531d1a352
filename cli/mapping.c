#include "cli/mapping.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/field.h"

static const char *run_dir(void)
{
	const char *dir = getenv("MYFS_RUN_DIR");
	return dir != NULL && dir[0] != '\0' ? dir : "/run/myfs";
}

char *mapping_path(const char *spec, enum mapping_file which, char out[MAPPING_TEXT])
{
	static const char *const suffix[] = {"json", "pid", "log"};
	snprintf(out, MAPPING_TEXT, "%.300s/map/%.150s.%s", run_dir(), spec, suffix[which]);
	char *slash = strrchr(out, '/');
	if (strchr(spec, '/') != NULL)
		*slash = ':';
	return out;
}

char *mapping_backend(const char *spec, char out[MAPPING_TEXT])
{
	snprintf(out, MAPPING_TEXT, "myfs:%.200s", spec);
	return out;
}

json_t *mapping_to_json(const struct mapping *m)
{
	json_t *uris = json_array();
	for (size_t i = 0; i < m->n_uris; i++)
		json_array_append_new(uris, json_string(m->uris[i]));
	return json_pack("{s:s,s:s,s:s,s:i,s:o,s:s,s:I,s:I,s:I,s:I,s:I,s:b,s:s,s:I,s:I}", "spec", m->spec, "proto", m->proto, "device", m->device,
	                 "index", m->index, "addresses", uris, "target", m->target, "size_bytes", (json_int_t)m->size_bytes, "block_size",
	                 (json_int_t)m->block_bytes, "io_timeout_s", (json_int_t)m->io_timeout_s, "reattach_timeout_s",
	                 (json_int_t)m->reattach_timeout_s, "connections", (json_int_t)m->connections, "read_only", (int)m->read_only, "state",
	                 m->state, "since_ns", (json_int_t)m->since_ns, "reattached", (json_int_t)m->reattached);
}

int mapping_of_json(const json_t *doc, struct mapping *ret)
{
	struct mapping m = {.index = (int)field_int(doc, "index"), .size_bytes = field_u64(doc, "size_bytes"), .block_bytes = field_u64(doc, "block_size"),
	                    .io_timeout_s = field_u64(doc, "io_timeout_s"), .reattach_timeout_s = field_u64(doc, "reattach_timeout_s"),
	                    .connections = field_u64(doc, "connections"), .read_only = json_is_true(json_object_get(doc, "read_only")),
	                    .since_ns = field_u64(doc, "since_ns"), .reattached = field_u64(doc, "reattached")};
	snprintf(m.spec, sizeof(m.spec), "%s", field_text(doc, "spec", ""));
	snprintf(m.proto, sizeof(m.proto), "%s", field_text(doc, "proto", ""));
	snprintf(m.device, sizeof(m.device), "%s", field_text(doc, "device", ""));
	snprintf(m.target, sizeof(m.target), "%s", field_text(doc, "target", ""));
	snprintf(m.state, sizeof(m.state), "%s", field_text(doc, "state", ""));
	const json_t *uris = json_object_get(doc, "addresses");
	for (size_t i = 0; i < json_array_size(uris) && m.n_uris < MAPPING_URIS; i++) {
		const char *uri = json_string_value(json_array_get(uris, i));
		if (uri != NULL && strlen(uri) < MAPPING_TEXT)
			snprintf(m.uris[m.n_uris++], MAPPING_TEXT, "%s", uri);
	}
	if (m.spec[0] == '\0' || (strcmp(m.proto, "nbd") != 0 && strcmp(m.proto, "iscsi") != 0) || m.n_uris == 0)
		return -EBADMSG;
	*ret = m;
	return 0;
}

int mapping_save(const struct mapping *m, struct err *e)
{
	char path[MAPPING_TEXT], fresh[MAPPING_TEXT + 8];
	if (mkdir(run_dir(), 0755) < 0 && errno != EEXIST)
		return err_set(e, -errno, "%s cannot be made: %s", run_dir(), err_name(-errno));
	snprintf(path, sizeof(path), "%.300s/map", run_dir());
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return err_set(e, -errno, "%s cannot be made: %s", path, err_name(-errno));
	mapping_path(m->spec, MAPPING_JSON, path);
	snprintf(fresh, sizeof(fresh), "%s.new", path);
	json_t *doc = mapping_to_json(m);
	int rc = json_dump_file(doc, fresh, JSON_INDENT(1)) == 0 && rename(fresh, path) == 0 ? 0 : -(errno != 0 ? errno : EIO);
	json_decref(doc);
	return rc == 0 ? 0 : err_set(e, rc, "%s cannot be written: %s", path, err_name(rc));
}

int mapping_load(const char *spec, struct mapping *ret)
{
	char path[MAPPING_TEXT];
	if (access(mapping_path(spec, MAPPING_JSON, path), F_OK) < 0)
		return -ENOENT;
	json_t *doc = json_load_file(path, 0, NULL);
	int rc = doc != NULL ? mapping_of_json(doc, ret) : -EBADMSG;
	json_decref(doc);
	return rc;
}

void mapping_forget(const char *spec)
{
	char path[MAPPING_TEXT];
	for (enum mapping_file f = MAPPING_JSON; f <= MAPPING_LOG; f++)
		unlink(mapping_path(spec, f, path));
}

size_t mapping_list(struct mapping *ret, size_t cap)
{
	char path[MAPPING_TEXT];
	snprintf(path, sizeof(path), "%.300s/map", run_dir());
	DIR *dir = opendir(path);
	size_t n = 0;
	for (struct dirent *d = dir != NULL ? readdir(dir) : NULL; d != NULL && n < cap; d = readdir(dir)) {
		size_t len = strlen(d->d_name);
		char spec[256];
		if (len < 6 || len > 200 || strcmp(d->d_name + len - 5, ".json") != 0)
			continue;
		snprintf(spec, sizeof(spec), "%.*s", (int)len - 5, d->d_name);
		char *colon = strchr(spec, ':');
		if (colon != NULL)
			*colon = '/';
		n += mapping_load(spec, &ret[n]) == 0;
	}
	if (dir != NULL)
		closedir(dir);
	return n;
}

int nbd_device_index(const char *device)
{
	int n = 0;
	if (strncmp(device, "/dev/nbd", 8) != 0 || device[8] == '\0' || strlen(device) > 13)
		return -1;
	for (const char *p = device + 8; *p != '\0'; p++) {
		if (*p < '0' || *p > '9')
			return -1;
		n = n * 10 + (*p - '0');
	}
	return n;
}

bool nbd_device_is(int index, const char *spec)
{
	char path[64], want[MAPPING_TEXT], have[MAPPING_TEXT] = "";
	snprintf(path, sizeof(path), "/sys/block/nbd%d/backend", index);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t len = read(fd, have, sizeof(have) - 1);
	close(fd);
	if (len <= 0)
		return false;
	have[strcspn(have, "\n")] = '\0';
	snprintf(path, sizeof(path), "/sys/block/nbd%d/pid", index);
	return access(path, F_OK) == 0 && strcmp(have, mapping_backend(spec, want)) == 0;
}
