/* err.h - how failures travel: 0 or a negative code, plus a bounded text that grows on the way up.
 *
 * Functions return 0 or -errno; protocol-level causes that errno cannot name use the private codes
 * below (positive enum, returned negated, all above 4095 so that they never collide with errno).
 * Libraries fill `struct err` and return; programs print it, once. A NULL `struct err *` is allowed
 * everywhere and means "code only". Out-parameters named ret_* are untouched on failure. */
#ifndef MYFS_ERR_H
#define MYFS_ERR_H

#include "core/base/base.h"

enum myfs_code {
	MYFS_E_FENCED = 5000,  /* a newer owner holds the domain; class ESHUTDOWN */
	MYFS_E_VIEW,           /* the request was built on another view; class EAGAIN */
	MYFS_E_BADSUM,         /* stored checksum and data disagree; class EIO */
	MYFS_E_QUORUM,         /* fewer bricks answered than the rule asks for; class ETIMEDOUT */
	MYFS_E_UNSEEDED,       /* brick holds no promise or view for this domain; class ESTALE */
	MYFS_E_OUT,            /* brick is not in the in-sync set of its view; class ESTALE */
	MYFS_E_GONE,           /* connection ended before the reply; class ECONNRESET */
	MYFS_E_PROTO,          /* peer sent something the protocol does not allow; class EPROTO */
	MYFS_E_WRONG_VOLUME,   /* brick directory belongs to another volume; class EMEDIUMTYPE */
	MYFS_E_UNREADABLE,     /* more fragments lost than the code can rebuild; class EIO */
	MYFS_E_LAST
};

/* Maps any negative code of ours to the negative errno of its class; other values pass through. */
int err_class(int rc);
/* Static text for any negative code, ours or errno. */
const char *err_name(int rc);

#define ERR_TEXT_MAX 512
struct err {
	int code;                 /* negative, 0 when empty */
	char text[ERR_TEXT_MAX];  /* always NUL-terminated, truncated with "..." */
};

#define ERR_INIT {0, ""}

/* Sets code and text, returns code. `code` must be negative. */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF(3, 4);
/* Puts "fmt: " in front of the present text; keeps and returns the code (returns rc when e is NULL). */
int err_wrap(struct err *e, int rc, const char *fmt, ...) PRINTF(3, 4);

#endif
