#include "cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/size.h"
#include "cli/words.h"

static const struct option_def GLOBAL_OPTIONS[] = {
	{"registry", 0, "FILE", "cluster to act on (default: $MYFS_REGISTRY, /etc/myfs/myfs.conf, then a running demo)", false},
	{"json", 0, NULL, "one JSON document on standard output", false},
	{"no-header", 'H', NULL, "no header, columns separated by tabs", false},
	{"exact", 'p', NULL, "exact numbers: bytes and seconds", false},
	{"columns", 'o', "COLS", "columns to show, separated by commas", false},
	{"sort", 's', "COL", "column to sort by", false},
	{"quiet", 'q', NULL, "no messages but errors", false},
	{"verbose", 'v', NULL, "say more", false},
	{"yes", 'y', NULL, "do not ask", false},
	{"timeout", 0, "TIME", "how long to wait for an answer (default 60s)", false},
	{"no-color", 0, NULL, "no colour", false},
	{"help", 'h', NULL, "this text", false},
	{"version", 0, NULL, "version", false},
	{NULL, 0, NULL, NULL, false},
};

static const struct option_def NO_OPTIONS[] = {{NULL, 0, NULL, NULL, false}};

static const struct option_def *command_options(const struct command *c)
{
	return c != NULL && c->options != NULL ? c->options : NO_OPTIONS;
}

static const struct option_def *find_option(const struct command *c, const char *name, size_t len)
{
	const struct option_def *lists[] = {command_options(c), GLOBAL_OPTIONS};
	for (size_t l = 0; l < ARRAY_LEN(lists); l++)
		for (const struct option_def *o = lists[l]; o->name != NULL; o++)
			if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
				return o;
	return NULL;
}

static const struct option_def *find_letter(const struct command *c, char letter)
{
	const struct option_def *lists[] = {command_options(c), GLOBAL_OPTIONS};
	for (size_t l = 0; l < ARRAY_LEN(lists); l++)
		for (const struct option_def *o = lists[l]; o->name != NULL; o++)
			if (o->letter == letter)
				return o;
	return NULL;
}

bool opt_given(const struct invocation *in, const char *name)
{
	return opt_nth(in, name, 0) != NULL;
}

const char *opt_nth(const struct invocation *in, const char *name, int i)
{
	for (int k = 0; k < in->n_options; k++)
		if (strcmp(in->options[k].def->name, name) == 0 && i-- == 0)
			return in->options[k].value;
	return NULL;
}

const char *opt_value(const struct invocation *in, const char *name, const char *otherwise)
{
	const char *v = opt_nth(in, name, 0);
	return v != NULL ? v : otherwise;
}

bool want_json(const struct invocation *in)
{
	const char *format = getenv("MYFS_FORMAT");
	return opt_given(in, "json") || (format != NULL && strcmp(format, "json") == 0);
}

bool want_quiet(const struct invocation *in)
{
	return opt_given(in, "quiet");
}

int opt_timeout_ms(const struct invocation *in, int otherwise)
{
	const char *text = opt_value(in, "timeout", getenv("MYFS_TIMEOUT"));
	uint64_t seconds;
	if (text == NULL || duration_parse(text, &seconds, NULL) < 0)
		return otherwise;
	return (int)min_u64(seconds, 86400) * 1000;
}

bool use_color(const struct invocation *in, int fd)
{
	return !opt_given(in, "no-color") && getenv("NO_COLOR") == NULL && isatty(fd);
}

void say(const struct invocation *in, const char *fmt, ...)
{
	if (want_quiet(in) || want_json(in))
		return;
	va_list ap;
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int print_json(const char *schema, json_t *doc)
{
	json_t *out = json_pack("{s:s}", "schema", schema);
	json_object_update(out, doc);
	json_dumpf(out, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(out);
	json_decref(doc);
	return 0;
}

static void show_error_json(const struct control_error *e)
{
	json_t *next = json_array();
	for (size_t i = 0; i < ARRAY_LEN(e->next); i++)
		if (e->next[i][0] != '\0')
			json_array_append_new(next, json_string(e->next[i]));
	json_t *doc = json_pack("{s:s,s:s,s:i,s:s,s:s,s:s,s:o}", "schema", "myfs.error/1", "code", e->code, "exit", e->exit_code,
	                        "message", e->message, "why", e->why, "data", e->data, "next", next);
	json_dumpf(doc, stderr, JSON_COMPACT);
	fputc('\n', stderr);
	json_decref(doc);
}

int show_error(const struct invocation *in, const struct control_error *e)
{
	fflush(stdout);
	if (want_json(in)) {
		show_error_json(e);
		return e->exit_code;
	}
	bool color = use_color(in, STDERR_FILENO);
	fprintf(stderr, "%s%s:%s %s\n", color ? "\033[31m" : "", in->program, color ? "\033[0m" : "", e->message);
	if (e->why[0] != '\0')
		fprintf(stderr, "  why:    %s\n", e->why);
	if (e->data[0] != '\0')
		fprintf(stderr, "  data:   %s\n", e->data);
	bool first = true;
	for (size_t i = 0; i < ARRAY_LEN(e->next); i++) {
		if (e->next[i][0] == '\0')
			continue;
		fprintf(stderr, "  %s   %s\n", first ? "next:" : "     ", e->next[i]);
		first = false;
	}
	if (e->code[0] != '\0')
		fprintf(stderr, "  [%s, exit %d; myfs explain %s]\n", e->code, e->exit_code, e->code);
	return e->exit_code;
}

int report(const struct invocation *in, const char *code, int exit_code, const char *why, const char *data, const char *next,
         const char *fmt, ...)
{
	struct control_error e;
	char message[sizeof(e.message)];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	control_fail(&e, code, exit_code, why, data, next, "%s", message);
	return show_error(in, &e);
}

int usage_error(const struct invocation *in, const char *fmt, ...)
{
	struct control_error e;
	char message[sizeof(e.message)], next[256];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	snprintf(next, sizeof(next), "%s %s%s--help", in->program, in->command ? in->command->words : "", in->command ? " " : "");
	control_fail(&e, "E-USAGE-64", EXIT_USAGE, NULL, NULL, next, "%s", message);
	return show_error(in, &e);
}

bool confirm(const struct invocation *in, const char *what, const char *word)
{
	if (opt_given(in, "yes"))
		return true;
	if (!isatty(STDIN_FILENO)) {
		report(in, "E-CONFIRM-09", EXIT_REFUSED, "there is no terminal to ask at", "nothing was changed", "repeat the command with --yes",
		     "%s needs a confirmation", what);
		return false;
	}
	fprintf(stderr, "%s. Type %s to go on: ", what, word);
	char line[256];
	if (fgets(line, sizeof(line), stdin) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		if (strcmp(line, word) == 0)
			return true;
	}
	report(in, "E-CONFIRM-09", EXIT_REFUSED, "the name typed does not match", "nothing was changed", NULL, "%s was not confirmed", what);
	return false;
}

/* ---- help ---- */

static void print_options(const struct option_def *o)
{
	for (; o->name != NULL; o++) {
		char left[64];
		snprintf(left, sizeof(left), "%s%c%s--%s%s%s", o->letter ? "-" : "  ", o->letter ? o->letter : ' ', o->letter ? ", " : " ",
		         o->name, o->value ? " " : "", o->value ? o->value : "");
		printf("  %-28s %s%s\n", left, o->help, o->repeat ? " (may be repeated)" : "");
	}
}

static void help_command(const struct program *p, const struct command *c)
{
	printf("%s %s: %s\n\n", p->name, c->words, c->summary);
	printf("usage: %s %s%s%s [options]\n", p->name, c->words, c->args[0] ? " " : "", c->args);
	if (c->examples != NULL)
		printf("\nexamples:\n%s\n", c->examples);
	if (command_options(c)->name != NULL) {
		printf("\noptions:\n");
		print_options(command_options(c));
	}
	printf("\nalways:\n");
	print_options(GLOBAL_OPTIONS);
}

static void help_program(const struct program *p)
{
	printf("%s: %s\n\nusage: %s COMMAND [arguments] [options]\n\n", p->name, p->summary, p->name);
	for (const struct command *const *g = p->groups; *g != NULL; g++) {
		for (const struct command *c = *g; c->words != NULL; c++) {
			char left[96];
			snprintf(left, sizeof(left), "%s %s", c->words, c->args);
			printf("  %-44s %s\n", left, c->summary);
		}
		putchar('\n');
	}
	printf("%s COMMAND --help shows examples and options. Exit codes: 0 done, 2 cluster problem, 3 exists, 4 no space,\n"
	       "5 not found, 6 busy, 7 not allowed, 8 no answer, 9 refused for safety, 64 usage.\n", p->name);
}

/* ---- finding the command ---- */

/* How many of the words of `c` the arguments begin with when all match, else 0. */
static int words_match(const struct command *c, const char *const *args, int n)
{
	char words[64];
	snprintf(words, sizeof(words), "%s", c->words);
	int used = 0;
	char *save = NULL;
	for (char *w = strtok_r(words, " ", &save); w != NULL; w = strtok_r(NULL, " ", &save), used++) {
		if (used >= n)
			return 0;
		bool last = *save == '\0';
		if (strcmp(args[used], w) != 0 && !(last && c->alias != NULL && strcmp(args[used], c->alias) == 0))
			return 0;
	}
	return used;
}

static const struct command *find_command(const struct program *p, const char *const *args, int n, int *ret_used)
{
	const struct command *best = NULL;
	int best_used = 0;
	for (const struct command *const *g = p->groups; *g != NULL; g++) {
		for (const struct command *c = *g; c->words != NULL; c++) {
			int used = words_match(c, args, n);
			if (used > best_used) {
				best = c;
				best_used = used;
			}
		}
	}
	*ret_used = best_used;
	return best;
}

static int unknown_command(const struct program *p, struct invocation *in, const char *const *args, int n)
{
	char typed[128];
	snprintf(typed, sizeof(typed), "%s%s%s", args[0], n > 1 ? " " : "", n > 1 ? args[1] : "");
	char hints[256] = "";
	int found = 0;
	for (const struct command *const *g = p->groups; *g != NULL && found < 3; g++) {
		for (const struct command *c = *g; c->words != NULL && found < 3; c++) {
			bool two = strchr(c->words, ' ') != NULL;
			bool prefix = strncmp(c->words, args[0], strlen(args[0])) == 0 && (n == 1 || two);
			if (prefix || word_distance(two ? typed : args[0], c->words) <= 2) {
				size_t used = strlen(hints);
				snprintf(hints + used, sizeof(hints) - used, "%s%s %s", found ? ", " : "", p->name, c->words);
				found++;
			}
		}
	}
	struct control_error e;
	char why[300] = "";
	if (found > 0)
		snprintf(why, sizeof(why), "did you mean: %s", hints);
	control_fail(&e, "E-USAGE-64", EXIT_USAGE, why, NULL, NULL, "unknown command \"%s\"", typed);
	snprintf(e.next[0], sizeof(e.next[0]), "%s --help", p->name);
	return show_error(in, &e);
}

/* ---- options ---- */

static int add_option(struct invocation *in, const struct option_def *o, const char *value)
{
	if (in->n_options == MAX_OPTIONS)
		return usage_error(in, "too many options");
	if (!o->repeat && o->value != NULL && opt_given(in, o->name))
		return usage_error(in, "--%s is given twice", o->name);
	in->options[in->n_options].def = o;
	in->options[in->n_options++].value = value;
	return 0;
}

static int unknown_option(struct invocation *in, const char *arg)
{
	const struct option_def *lists[] = {command_options(in->command), GLOBAL_OPTIONS}, *best = NULL;
	unsigned best_distance = 3;
	for (size_t l = 0; l < ARRAY_LEN(lists); l++) {
		for (const struct option_def *o = lists[l]; o->name != NULL; o++) {
			unsigned d = word_distance(arg + 2 * (arg[1] == '-'), o->name);
			if (d < best_distance) {
				best_distance = d;
				best = o;
			}
		}
	}
	return best != NULL ? usage_error(in, "unknown option %s; did you mean --%s?", arg, best->name)
	                    : usage_error(in, "unknown option %s", arg);
}

/* One argument that begins with '-'. *i moves past a value taken from the next argument. 0 or exit code. */
static int parse_option(struct invocation *in, int argc, char **argv, int *i)
{
	const char *arg = argv[*i];
	if (arg[1] == '-') {
		size_t len = strcspn(arg + 2, "=");
		const struct option_def *o = find_option(in->command, arg + 2, len);
		if (o == NULL)
			return unknown_option(in, arg);
		const char *value = arg[2 + len] == '=' ? arg + 3 + len : NULL;
		if (o->value == NULL && value != NULL)
			return usage_error(in, "--%s takes no value", o->name);
		if (o->value != NULL && value == NULL) {
			if (*i + 1 >= argc)
				return usage_error(in, "--%s needs a value: --%s %s", o->name, o->name, o->value);
			value = argv[++*i];
		}
		return add_option(in, o, value != NULL ? value : "");
	}
	for (const char *c = arg + 1; *c != '\0'; c++) {
		const struct option_def *o = find_letter(in->command, *c);
		if (o == NULL)
			return unknown_option(in, arg);
		if (o->value == NULL) {
			int rc = add_option(in, o, "");
			if (rc != 0)
				return rc;
			continue;
		}
		if (c[1] == '\0' && *i + 1 >= argc)
			return usage_error(in, "-%c needs a value: -%c %s", o->letter, o->letter, o->value);
		return add_option(in, o, c[1] != '\0' ? c + 1 : argv[++*i]);
	}
	return 0;
}

/* True when the word before position i is an option that takes argv[i] as its value, whatever the command: used
 * only to find the command's words among options. */
static bool takes_next(const char *arg)
{
	if (arg[0] != '-' || strchr(arg, '=') != NULL)
		return false;
	const struct option_def *o = arg[1] == '-' ? find_option(NULL, arg + 2, strlen(arg + 2)) : find_letter(NULL, arg[strlen(arg) - 1]);
	return o != NULL && o->value != NULL;
}

int program_main(const struct program *p, int argc, char **argv)
{
	struct invocation in = {.program = p->name, .argc = argc, .argv = argv};
	const char *words[MAX_ARGS] = {NULL};
	int word_index[MAX_ARGS] = {0}, n_words = 0;
	if (argc > MAX_ARGS)
		return usage_error(&in, "more than %d arguments", MAX_ARGS);
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (argv[i][0] == '-' && argv[i][1] != '\0') {
			i += takes_next(argv[i]);
			continue;
		}
		word_index[n_words] = i;
		words[n_words++] = argv[i];
	}
	int used = 0;
	if (n_words > 0 && strcmp(words[0], "help") == 0) {
		const struct command *c = find_command(p, words + 1, n_words - 1, &used);
		if (c != NULL)
			help_command(p, c);
		else
			help_program(p);
		return 0;
	}
	in.command = find_command(p, words, n_words, &used);

	bool only_args = false;
	for (int i = 1; i < argc; i++) {
		bool is_word = false;
		for (int w = 0; in.command != NULL && w < used; w++)
			is_word |= word_index[w] == i;
		if (is_word)
			continue;
		if (!only_args && strcmp(argv[i], "--") == 0) {
			only_args = true;
		} else if (!only_args && argv[i][0] == '-' && argv[i][1] != '\0') {
			int rc = parse_option(&in, argc, argv, &i);
			if (rc != 0)
				return rc;
		} else {
			in.args[in.n_args++] = argv[i];
		}
	}
	if (opt_given(&in, "version")) {
		printf("%s %s\n", p->name, MYFS_VERSION);
		return 0;
	}
	if (in.command == NULL && n_words > 0 && !opt_given(&in, "help"))
		return unknown_command(p, &in, words, n_words);
	if (in.command == NULL) {
		help_program(p);
		return opt_given(&in, "help") ? 0 : EXIT_USAGE;
	}
	if (opt_given(&in, "help")) {
		help_command(p, in.command);
		return 0;
	}
	if (in.n_args < in.command->min_args)
		return usage_error(&in, "%s needs: %s", in.command->words, in.command->args);
	if (in.n_args > in.command->max_args)
		return usage_error(&in, "%s does not take \"%s\"", in.command->words, in.args[in.command->max_args]);
	int rc = in.command->run(&in);
	if (fflush(stdout) != 0 || ferror(stdout))
		return rc != 0 ? rc : EXIT_FAILED;
	return rc;
}
