/* command.h - how a command line becomes a call: words, options, help, and the four-line error.
 *
 * A program is a table of commands; each names its words ("volume create"), its options and one function. Parsing, help, unknown-word
 * hints and exit codes live in command.c, so that every command behaves alike. */
#ifndef MYFS_CLI_COMMAND_H
#define MYFS_CLI_COMMAND_H

#include <jansson.h>

#include "core/base/base.h"
#include "core/control/control.h"

/* Exit codes; scripts rely on them (cli/README.md). */
enum exit_code {
	EXIT_DONE = 0,
	EXIT_FAILED = 1,
	EXIT_SYSTEM = 2,
	EXIT_EXISTS = 3,
	EXIT_NO_SPACE = 4,
	EXIT_NOT_FOUND = 5,
	EXIT_BUSY = 6,
	EXIT_NOT_ALLOWED = 7,
	EXIT_NO_ANSWER = 8,
	EXIT_REFUSED = 9,
	EXIT_DEGRADED = 10,
	EXIT_USAGE = 64
};

struct option_def {
	const char *name;      /* long name without dashes */
	char letter;           /* 0 = none */
	const char *value;     /* metavariable, NULL = a switch */
	const char *help;
	bool repeat;           /* may be given several times */
};

#define MAX_ARGS 256
#define MAX_OPTIONS 64
struct invocation {
	const char *program;
	const struct command *command;
	const char *args[MAX_ARGS];   /* positional, after the command's words */
	int n_args;
	struct {
		const struct option_def *def;
		const char *value;
	} options[MAX_OPTIONS];
	int n_options;
	int argc;                     /* as given, for the audit line */
	char **argv;
};

struct command {
	const char *words;            /* "volume create" */
	const char *alias;            /* quiet other name of the last word, or NULL */
	const char *args;             /* "VOL NODE:/PATH..." */
	const char *summary;          /* one line */
	const char *examples;         /* lines, or NULL */
	int min_args, max_args;
	const struct option_def *options; /* ended by {0} */
	int (*run)(const struct invocation *in); /* exit code */
};

struct program {
	const char *name;
	const char *summary;
	const struct command *const *groups; /* arrays of commands, each ended by {0}; the list ended by NULL */
};

int program_main(const struct program *p, int argc, char **argv);

/* Option access. */
bool opt_given(const struct invocation *in, const char *name);
const char *opt_value(const struct invocation *in, const char *name, const char *otherwise);
/* i-th value of a repeated option, NULL past the end. */
const char *opt_nth(const struct invocation *in, const char *name, int i);
bool want_json(const struct invocation *in);
bool want_quiet(const struct invocation *in);
int opt_timeout_ms(const struct invocation *in, int otherwise);

/* Prints the error (text or one JSON line, to stderr) and returns its exit code. */
int show_error(const struct invocation *in, const struct control_error *e);
/* Builds and prints in one go; see control_fail. */
int report(const struct invocation *in, const char *code, int exit_code, const char *why, const char *data, const char *next,
         const char *fmt, ...) PRINTF(7, 8);
int usage_error(const struct invocation *in, const char *fmt, ...) PRINTF(2, 3);
/* True when the user agreed: --yes, or typed `word` at a terminal. Without a terminal and --yes: prints the refusal, false (exit 9). */
bool confirm(const struct invocation *in, const char *what, const char *word);
bool use_color(const struct invocation *in, int fd);
/* Message to stderr unless -q. */
void say(const struct invocation *in, const char *fmt, ...) PRINTF(2, 3);
/* Prints {"schema":schema, ...fields of doc...} on one line to stdout; consumes doc. */
int print_json(const char *schema, json_t *doc);

#endif
