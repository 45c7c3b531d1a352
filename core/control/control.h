/* control.h - the control socket of every daemon: one JSON request per line, one JSON reply per line, over a unix
 * socket (SO_PEERCRED: root or the daemon's own user).
 *
 *   -> {"method":"lun.create","params":{...}}
 *   <- {"ok":true,"result":{...}}
 *   <- {"ok":false,"error":{"code":"E-QUORUM-02","exit":2,"message":"..","why":"..","data":"..","next":[".."]}}
 *
 * Lines are at most 1 MiB in, 64 MiB out. JSON is jansson's json_t. */
#ifndef MYFS_CONTROL_H
#define MYFS_CONTROL_H

#include <jansson.h>

#include "core/base/err.h"
#include "core/loop/net.h"

/* The four-line error every command shows (core facts: what, why, is data safe, what next). */
struct control_error {
	char code[24];     /* "E-QUORUM-02" */
	int exit_code;     /* process exit code of the CLI, see cli/README.md */
	char message[512]; /* what and which object */
	char why[512];
	char data[256];
	char next[3][256];
	bool unknown; /* nobody can say whether the request was carried out (control_call only) */
};
/* Fills all; NULL or "" leaves a line out. Returns -1. */
int control_fail(struct control_error *e, const char *code, int exit_code, const char *why, const char *data,
		 const char *next, const char *message_fmt, ...) PRINTF(7, 8);

struct control_method {
	const char *name;
	/* In a fiber. params borrowed (may be NULL). 0 and *ret_result owned (NULL = {}), or -1 with error filled. */
	int (*run)(void *arg, const json_t *params, json_t **ret_result, struct control_error *error);
};

/* The description of an NBD export tells clients on the same host where its gateway's control socket is:
 * "myfs LUN, 4096 byte blocks; control /run/myfs/blockd-gw1.sock". */
#define CONTROL_MARK "; control "

struct control_server;
/* methods: array ended by {NULL, NULL}, borrowed. */
int control_server_start(struct net *net, const struct address *a, const struct control_method *methods, void *arg,
			 struct control_server **ret, struct err *e) YIELDS;
void control_server_stop(struct control_server *s) YIELDS; /* and frees */

/* Client, blocking, for CLIs without a loop. timeout_ms covers connect and reply. 0 and *ret_result owned; -1 and
 * *error filled (code E-NOANSWER-08, exit 8 when nobody answers). */
int control_call(const char *socket_path, const char *method, const json_t *params, int timeout_ms, json_t **ret_result,
		 struct control_error *error);

#endif
