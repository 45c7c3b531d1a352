/* test_registry_loop.c - a registry that others have locked holds up who changes it, and nobody else on the loop. */
#include "tests/unit/loop_fixture.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/registry/registry.h"

static char dir[64], path[96];

static struct registry *open_off_loop(void)
{
	struct registry *r = NULL;

	CHECK(registry_open(path, true, &r, NULL) == 0);
	CHECK(registry_write_off_loop(r, NULL) == 0 && registry_write_off_loop(r, NULL) == 0);
	return r;
}

static void make_dir(void)
{
	strcpy(dir, "/tmp/myfs-registry-XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/registry.db", dir);
}

static void remove_dir(void)
{
	static const char *const suffix[] = {"", "-wal", "-shm"};
	char name[128];

	for (size_t i = 0; i < ARRAY_LEN(suffix); i++) {
		snprintf(name, sizeof(name), "%s%s", path, suffix[i]);
		unlink(name);
	}
	CHECK(rmdir(dir) == 0);
}

/* ---- another process that has the write lock until it is told to let go ---- */

struct holder {
	pid_t pid;
	int let_go;
};

static struct holder hold(void)
{
	int ready[2], go[2];
	char c;

	CHECK(pipe(ready) == 0 && pipe(go) == 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct registry *r = NULL;
		close(go[1]);
		if (registry_open(path, false, &r, NULL) || registry_begin(r, NULL) || reg_cluster_set(r, "held", "yes", NULL) ||
		    write(ready[1], "r", 1) != 1 || read(go[0], &c, 1) != 1 || registry_commit(r, NULL))
			_exit(1);
		_exit(0);
	}
	CHECK(pid > 0 && read(ready[0], &c, 1) == 1);
	close(ready[0]);
	close(ready[1]);
	close(go[0]);
	return (struct holder){pid, go[1]};
}

static void release(struct holder *h)
{
	int status;

	CHECK(write(h->let_go, "g", 1) == 1);
	CHECK(waitpid(h->pid, &status, 0) == h->pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(h->let_go);
}

/* ---- fibers that change something ---- */

enum change { SET, PUT, REMOVE, TRANSACTION, CHANGES };

struct changer {
	struct registry *r;
	enum change what;
	bool done;
	unsigned *left;
	struct waitq *ended;
};

static int transaction(struct registry *r)
{
	char text[8];
	int rc = registry_begin(r, NULL);

	if (rc)
		return rc;
	CHECK(reg_cluster_get(r, "held", text, sizeof(text), NULL) == 0); /* of the one before us */
	rc = reg_cluster_set(r, "t", "1", NULL);
	if (!rc)
		rc = reg_cluster_get(r, "t", text, sizeof(text), NULL); /* our own, not committed */
	CHECK(rc || strcmp(text, "1") == 0);
	return rc ? rc : registry_commit(r, NULL);
}

static void change_run(void *arg)
{
	static const struct reg_node node = {.name = "n1", .address = "unix:/a", .control = "unix:/b"};
	struct changer *c = arg;
	int rc = 0;

	switch (c->what) {
	case SET:
		rc = reg_cluster_set(c->r, "a", "1", NULL);
		break;
	case PUT:
		rc = reg_node_put(c->r, &node, NULL);
		break;
	case REMOVE:
		rc = reg_gateway_delete(c->r, "none", NULL);
		break;
	case TRANSACTION:
		rc = transaction(c->r);
		break;
	case CHANGES:
		break;
	}
	CHECK(rc == 0);
	c->done = true;
	--*c->left;
	waitq_wake_all(c->ended);
}

static void start(struct changer *c, struct registry *r, enum change what, unsigned *left, struct waitq *ended)
{
	*c = (struct changer){.r = r, .what = what, .left = left, .ended = ended};
	CHECK(fiber_spawn(loop_self(), "change", change_run, c) == 0);
}

static void locked_body(void *arg)
{
	make_dir();
	struct registry *r = open_off_loop();
	struct changer c[CHANGES];
	unsigned left = CHANGES;
	struct waitq ended;
	uint64_t before, after;
	char text[8];

	(void)arg;
	waitq_init(&ended);
	struct holder h = hold();
	CHECK(registry_generation(r, &before, NULL) == 0);
	for (unsigned i = 0; i < CHANGES; i++)
		start(&c[i], r, (enum change)i, &left, &ended);
	for (unsigned i = 0; i < 1000; i++) { /* reads, timers and everybody else go on; nothing is half done */
		CHECK(reg_cluster_get(r, "a", text, sizeof(text), NULL) == -ENOENT);
		CHECK(reg_cluster_get(r, "held", text, sizeof(text), NULL) == -ENOENT);
		fiber_yield();
	}
	fiber_sleep_until(loop_now_ns() + NS_PER_MS);
	CHECK(left == CHANGES && registry_generation(r, &after, NULL) == 0 && after == before);
	release(&h);
	while (left > 0)
		waitq_wait(&ended);
	CHECK(reg_cluster_get(r, "a", text, sizeof(text), NULL) == 0 && strcmp(text, "1") == 0);
	CHECK(reg_cluster_get(r, "t", text, sizeof(text), NULL) == 0);
	CHECK(registry_generation(r, &after, NULL) == 0 && after != before);
	registry_close(r);
	remove_dir();
}

/* ---- turns ---- */

struct adder {
	struct registry *r;
	unsigned times;
	unsigned *left;
	struct waitq *ended;
};

static unsigned number(struct registry *r)
{
	char text[16];

	return reg_cluster_get(r, "n", text, sizeof(text), NULL) == 0 ? (unsigned)strtoul(text, NULL, 10) : 0;
}

static void add_run(void *arg)
{
	struct adder *a = arg;
	char text[16];

	for (unsigned i = 0; i < a->times; i++) {
		CHECK(registry_begin(a->r, NULL) == 0);
		snprintf(text, sizeof(text), "%u", number(a->r) + 1);
		CHECK(reg_cluster_set(a->r, "n", text, NULL) == 0);
		if (i % 5 == 4)
			registry_rollback(a->r);
		else
			CHECK(registry_commit(a->r, NULL) == 0);
	}
	--*a->left;
	waitq_wake_all(a->ended);
}

/* Two registries of one file, as two gateways in a process, three fibers each: no addition is lost. */
static void turns_body(void *arg)
{
	enum { FIBERS = 6, TIMES = 20 };
	make_dir();
	struct registry *r[2] = {open_off_loop(), open_off_loop()};
	struct adder a[FIBERS];
	unsigned left = FIBERS;
	struct waitq ended;

	(void)arg;
	waitq_init(&ended);
	for (unsigned i = 0; i < FIBERS; i++) {
		a[i] = (struct adder){r[i % 2], TIMES, &left, &ended};
		CHECK(fiber_spawn(loop_self(), "add", add_run, &a[i]) == 0);
	}
	while (left > 0)
		waitq_wait(&ended);
	CHECK(number(r[1]) == FIBERS * TIMES / 5 * 4);
	registry_close(r[0]);
	registry_close(r[1]);
	remove_dir();
}

/* A change that is refused leaves the turn to the next one. */
static void refused_body(void *arg)
{
	make_dir();
	struct registry *r = open_off_loop();
	struct reg_brick orphan = {.uuid = {{1}}, .volume = "none", .node = "none", .path = "/b"};
	struct err e = ERR_INIT;

	(void)arg;
	CHECK(reg_brick_put(r, &orphan, &e) == -ENOENT);
	CHECK(registry_begin(r, NULL) == 0 && registry_begin(r, NULL) < 0);
	CHECK(reg_brick_put(r, &orphan, NULL) == 0 && registry_commit(r, NULL) == -ENOENT);
	CHECK(reg_cluster_set(r, "after", "1", NULL) == 0);
	registry_close(r);
	remove_dir();
}

static void a_locked_registry_holds_up_only_who_changes_it(void **state)
{
	(void)state;
	on_every_backend(locked_body);
}

static void transactions_of_fibers_take_turns(void **state)
{
	(void)state;
	on_every_backend(turns_body);
}

static void a_refused_change_ends_its_turn(void **state)
{
	(void)state;
	on_every_backend(refused_body);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_locked_registry_holds_up_only_who_changes_it),
	    cmocka_unit_test(transactions_of_fibers_take_turns),
	    cmocka_unit_test(a_refused_change_ends_its_turn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
