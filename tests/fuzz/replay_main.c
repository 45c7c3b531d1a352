/* replay_main.c - runs a fuzz target over stored inputs in builds without libFuzzer: files and directories named in
 * argv.
 *
 * A run that read nothing fails: a renamed corpus must not look like a passed test. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned inputs;

static int replay_file(const char *path, size_t size)
{
	FILE *f = fopen(path, "rb");
	if (!f) {
		perror(path);
		return 1;
	}
	uint8_t *data = malloc(size ? size : 1); /* exact size: a read past the end is seen by AddressSanitizer */
	int rc = data && fread(data, 1, size, f) == size ? 0 : 1;
	fclose(f);
	if (rc == 0) {
		LLVMFuzzerTestOneInput(data, size);
		inputs++;
	} else {
		fprintf(stderr, "%s: short read\n", path);
	}
	free(data);
	return rc;
}

static int replay(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0) {
		perror(path);
		return 1;
	}
	if (!S_ISDIR(st.st_mode))
		return replay_file(path, (size_t)st.st_size);

	DIR *d = opendir(path);
	if (!d) {
		perror(path);
		return 1;
	}
	int rc = 0;
	for (struct dirent *e = readdir(d); e; e = readdir(d)) {
		char inside[4096];
		if (e->d_name[0] == '.')
			continue;
		int n = snprintf(inside, sizeof(inside), "%s/%s", path, e->d_name);
		rc |= n < (int)sizeof(inside) ? replay(inside) : 1;
	}
	closedir(d);
	return rc;
}

int main(int argc, char **argv)
{
	int rc = 0;

	for (int i = 1; i < argc; i++)
		rc |= replay(argv[i]);
	if (inputs == 0) {
		fprintf(stderr, "no inputs\n");
		return 1;
	}
	printf("%u inputs\n", inputs);
	return rc;
}
