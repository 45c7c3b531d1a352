/* test_keepsake.c - bytes that outlive their process, and nobody else's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/loop/keepsake.h"

#define BYTES 24u

static char name[64];

static int setup(void **state)
{
	(void)state;
	snprintf(name, sizeof(name), "myfs-test-keepsake-%ld", (long)getpid());
	keepsake_remove(name);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	keepsake_remove(name);
	return 0;
}

static uint64_t *open_it(void)
{
	void *p = NULL;

	assert_int_equal(keepsake_open(name, BYTES, &p, NULL), 0);
	return p;
}

static void what_a_killed_process_stored_is_there_for_the_next(void **state)
{
	(void)state;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		open_it()[2] = 7;
		raise(SIGKILL);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	uint64_t *p = open_it();
	assert_int_equal(p[2], 7);
	keepsake_close(p, BYTES);
}

static void a_new_one_is_zeros_also_after_a_remove(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		uint64_t *p = open_it();
		assert_true(p[0] == 0 && p[1] == 0 && p[2] == 0);
		p[0] = p[2] = 9;
		keepsake_remove(name);
		keepsake_close(p, BYTES);
	}
}

static void what_others_may_write_is_refused(void **state)
{
	(void)state;
	void *p = &p;
	int fd = shm_open(name, O_RDWR | O_CREAT, 0600);

	assert_true(fd >= 0 && fchmod(fd, 0620) == 0);
	struct err e = ERR_INIT;
	assert_int_equal(keepsake_open(name, BYTES, &p, &e), -EPERM);
	assert_ptr_equal(p, &p);
	assert_non_null(strstr(e.text, name));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_a_killed_process_stored_is_there_for_the_next, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_new_one_is_zeros_also_after_a_remove, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_others_may_write_is_refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
