/* keepsake.h - a few bytes in the memory of the kernel: they outlive the process, and go with everything else in that memory.
 *
 * What a process remembers here has not been on any disk, so no error of a disk can take it back. Bytes change with plain
 * stores; a process that is killed leaves them as they were at its last instruction. */
#ifndef MYFS_KEEPSAKE_H
#define MYFS_KEEPSAKE_H

#include <stddef.h>

#include "core/base/err.h"

#define KEEPSAKE_MAX 4096u

/* The bytes called `name` (one path component) of this user, zeros when they did not exist; mapped until keepsake_close. Blocks
 * for no disk. -ENOTSUP: where such files lie is no memory file system here; -EPERM: the name is somebody else's. */
int keepsake_open(const char *name, size_t bytes, void **ret, struct err *e);
void keepsake_close(void *p, size_t bytes); /* NULL is fine */
void keepsake_remove(const char *name);

#endif
