/* file_posix.h - files of store_posix.c; private to the two. */
#ifndef MYFS_FILE_POSIX_H
#define MYFS_FILE_POSIX_H

#include <sys/stat.h>

#include "core/loop/store.h"

/* Takes fd over on success. */
int file_posix_new(int fd, struct file **ret);
int file_posix_sync(int fd, bool data_only) YIELDS;
void file_info_fill(const struct stat *st, struct file_info *ret);

#endif
