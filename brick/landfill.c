/* landfill.c - deleting what is no longer wanted, one file at a time. A deleted file's name moves to
 * .glusterfs/landfill in no time; a fiber then unlinks file by file with pauses, so that freeing a terabyte does not
 * stall requests. What a crash leaves there goes after the next start.
 *
 * Invariants: the sweeper is the only one that removes from the landfill; landfill_stop returns when it has ended. */
#include <stdio.h>
#include <sys/stat.h>

#include "brick/tree_priv.h"
#include "core/loop/loop.h"

#define DEPTH_MAX 16
#define PAUSE_NS  NS_PER_MS /* after each unlink */

int landfill_take(struct tree *t, const char *path)
{
	struct gfid g;
	uint8_t random[16];
	char to[TREE_PATH], text[GFID_TEXT];

	loop_random(random, sizeof(random));
	g = gfid_from_random(random);
	snprintf(to, sizeof(to), "%s/%s", TREE_LANDFILL, gfid_text(&g, text));
	int rc = store_rename(t->store, path, to);
	if (rc)
		return rc == -ENOENT ? 0 : rc;
	t->landfill_work = true;
	waitq_wake_all(&t->landfill_wake);
	return 0;
}

int landfill_sync(struct tree *t)
{
	return store_sync_dir(t->store, TREE_LANDFILL);
}

/* Removes everything below dir. Trouble with one entry leaves it for the next start. */
static void sweep(struct tree *t, const char *dir, int depth) YIELDS
{
	struct dirent_list l = {0};

	if (depth == DEPTH_MAX || store_readdir(t->store, dir, &l))
		return;
	for (size_t i = 0; i < l.n && !t->closing; i++) {
		char path[TREE_PATH];
		if (tree_join(dir, l.v[i].name, path))
			continue;
		if (l.v[i].type == S_IFDIR) {
			sweep(t, path, depth + 1);
			(void)store_rmdir(t->store, path);
		} else {
			(void)store_unlink(t->store, path);
		}
		fiber_sleep_until(loop_now_ns() + PAUSE_NS);
	}
	dirent_list_free(&l);
}

static void sweeper_main(void *arg)
{
	struct tree *t = arg;

	while (!t->closing) {
		if (!t->landfill_work) {
			waitq_wait(&t->landfill_wake);
			continue;
		}
		t->landfill_work = false;
		sweep(t, TREE_LANDFILL, 0);
	}
	t->landfill_running = false;
	waitq_wake_all(&t->landfill_wake);
}

void landfill_start(struct tree *t)
{
	t->landfill_work = true; /* what the last run left */
	t->landfill_running = fiber_spawn(loop_self(), "landfill", sweeper_main, t) == 0;
}

void landfill_stop(struct tree *t)
{
	t->closing = true;
	waitq_wake_all(&t->landfill_wake);
	while (t->landfill_running)
		waitq_wait(&t->landfill_wake);
}
