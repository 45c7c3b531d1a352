/* err.c - codes to text and class, and the bounded text that is wrapped on the way up.
 *
 * Invariants: text is always NUL-terminated; a text that did not fit ends in "...". */
#include "core/base/err.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
	int class_errno;
	const char *text;
} private_codes[] = {
	[MYFS_E_FENCED - MYFS_E_FENCED] = {ESHUTDOWN, "a newer owner holds this domain"},
	[MYFS_E_VIEW - MYFS_E_FENCED] = {EAGAIN, "request was built on another view"},
	[MYFS_E_BADSUM - MYFS_E_FENCED] = {EIO, "checksum mismatch"},
	[MYFS_E_QUORUM - MYFS_E_FENCED] = {ETIMEDOUT, "too few bricks answered"},
	[MYFS_E_UNSEEDED - MYFS_E_FENCED] = {ESTALE, "brick knows nothing of this domain yet"},
	[MYFS_E_OUT - MYFS_E_FENCED] = {ESTALE, "brick is out of sync"},
	[MYFS_E_GONE - MYFS_E_FENCED] = {ECONNRESET, "connection lost"},
	[MYFS_E_PROTO - MYFS_E_FENCED] = {EPROTO, "peer broke the protocol"},
	[MYFS_E_WRONG_VOLUME - MYFS_E_FENCED] = {EMEDIUMTYPE, "brick directory belongs to another volume"},
	[MYFS_E_UNREADABLE - MYFS_E_FENCED] = {EIO, "more fragments lost than can be rebuilt"},
};
_Static_assert(ARRAY_LEN(private_codes) == MYFS_E_LAST - MYFS_E_FENCED, "every private code has a class and a text");

static bool is_private(int rc) { return rc <= -MYFS_E_FENCED && rc > -MYFS_E_LAST; }

int err_class(int rc)
{
	return is_private(rc) ? -private_codes[-rc - MYFS_E_FENCED].class_errno : rc;
}

const char *err_name(int rc)
{
	if (is_private(rc))
		return private_codes[-rc - MYFS_E_FENCED].text;
	if (rc > 0 || rc == INT32_MIN)
		return "unknown error";

	const char *text = strerrordesc_np(-rc);
	return text ? text : "unknown error";
}

static void mark_truncated(char *text)
{
	memcpy(text + ERR_TEXT_MAX - 4, "...", 4);
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	if (!e)
		return code;

	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	e->code = code;
	if (n < 0)
		e->text[0] = '\0';
	else if ((size_t)n >= sizeof(e->text))
		mark_truncated(e->text);
	return code;
}

int err_wrap(struct err *e, int rc, const char *fmt, ...)
{
	if (!e)
		return rc;
	if (e->code == 0)
		err_set(e, rc, "%s", err_name(rc));

	char inner[ERR_TEXT_MAX];
	memcpy(inner, e->text, sizeof(inner));

	va_list ap;
	va_start(ap, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	if (n < 0)
		n = 0;
	if ((size_t)n >= sizeof(e->text)) {
		mark_truncated(e->text);
		return e->code;
	}

	int m = snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s", inner);
	if (m > 0 && (size_t)n + (size_t)m >= sizeof(e->text))
		mark_truncated(e->text);
	return e->code;
}
