/* inspect.h - what a brick directory or an object on it says, in words, as JSON for `myfs brick inspect`. Everything in
 * it can be checked by hand with ls and getfattr. */
#ifndef MYFS_BRICK_INSPECT_H
#define MYFS_BRICK_INSPECT_H

#include <jansson.h>

#include "brick/brick.h"
#include "brick/identity.h"

/* path: relative to the brick ("" = the brick itself). 0 and owned *ret, or negative with text. */
int inspect_path(struct brick *b, const char *path, json_t **ret, struct err *e) YIELDS;
int inspect_gfid(struct brick *b, const struct gfid *gfid, json_t **ret, struct err *e) YIELDS;
/* Of a directory that nobody serves here: what its identity says. */
int inspect_unserved(struct store *s, json_t **ret, struct err *e) YIELDS;

#endif
