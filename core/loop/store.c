/* store.c - what every store has in common. */
#include "core/loop/store.h"

void dirent_list_free(struct dirent_list *l)
{
	free(l->v);
	*l = (struct dirent_list){0};
}
