/* words.h - names people may use, and the nearest word to one they mistyped. Pure. */
#ifndef MYFS_CLI_WORDS_H
#define MYFS_CLI_WORDS_H

#include "core/base/err.h"

/* Volumes, LUNs, nodes: [a-z0-9][a-z0-9._-]{0,62}. 0 or -EINVAL with a text naming `what`. */
int name_check(const char *what, const char *name, struct err *e);
/* "vol/lun" into its two names (each at least 64 bytes). 0 or -EINVAL with text. */
int spec_parse(const char *spec, char ret_volume[64], char ret_name[64], struct err *e);
/* Edit distance with transpositions (optimal string alignment), capped at 32 characters a side. */
unsigned word_distance(const char *a, const char *b);

#endif
