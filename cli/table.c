#include "cli/table.h"

#include <inttypes.h>
#include <libsmartcols.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "cli/size.h"

static const json_t *field(const json_t *row, const char *key)
{
	char part[64];
	for (;;) {
		size_t len = strcspn(key, ".");
		snprintf(part, sizeof(part), "%.*s", (int)len, key);
		row = json_object_get(row, part);
		if (row == NULL || key[len] == '\0')
			return row;
		key += len + 1;
	}
}

static void cell_text(const struct column *c, const json_t *v, bool exact, char *out, size_t cap)
{
	char text[SIZE_TEXT];
	if (v == NULL || json_is_null(v))
		snprintf(out, cap, "-");
	else if (json_is_string(v))
		snprintf(out, cap, "%s", json_string_value(v));
	else if (json_is_boolean(v))
		snprintf(out, cap, "%s", json_is_true(v) ? "yes" : "no");
	else if (json_is_integer(v) && c->kind == COL_SIZE && !exact)
		snprintf(out, cap, "%s", size_text((uint64_t)json_integer_value(v), text));
	else if (json_is_integer(v) && c->kind == COL_SECONDS && !exact)
		snprintf(out, cap, "%s", duration_text((uint64_t)json_integer_value(v), text));
	else if (json_is_integer(v))
		snprintf(out, cap, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
	else if (json_is_real(v))
		snprintf(out, cap, c->kind == COL_PERCENT && !exact ? "%.1f %%" : "%.3f", json_real_value(v));
	else if (json_is_array(v)) {
		size_t used = 0;
		out[0] = '\0';
		for (size_t i = 0; i < json_array_size(v) && used < cap; i++) {
			const char *s = json_string_value(json_array_get(v, i));
			used += (size_t)snprintf(out + used, cap - used, "%s%s", i ? "," : "", s ? s : "?");
		}
	}
}

/* Chooses the columns to show into pick[]; -1 after a usage error was printed. */
static int pick_columns(const struct invocation *in, const struct column *columns, size_t n, const struct column **pick, size_t cap)
{
	const char *wish = opt_value(in, "columns", NULL);
	int used = 0;
	if (wish == NULL) {
		for (size_t i = 0; i < n && (size_t)used < cap; i++)
			if (!columns[i].hidden)
				pick[used++] = &columns[i];
		return used;
	}
	for (const char *p = wish; *p != '\0' && (size_t)used < cap;) {
		size_t len = strcspn(p, ",");
		const struct column *found = NULL;
		for (size_t i = 0; i < n; i++)
			if (strlen(columns[i].head) == len && strncasecmp(columns[i].head, p, len) == 0)
				found = &columns[i];
		if (found == NULL) {
			char all[256] = "";
			for (size_t i = 0; i < n; i++)
				snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s%s", i ? ", " : "", columns[i].head);
			usage_error(in, "unknown column \"%.*s\"; there are %s", (int)len, p, all);
			return -1;
		}
		pick[used++] = found;
		p += len + (p[len] == ',');
	}
	return used;
}

static const char *sort_key;
static int compare_rows(const void *a, const void *b)
{
	const json_t *x = field(*(const json_t *const *)a, sort_key), *y = field(*(const json_t *const *)b, sort_key);
	if (json_is_string(x) && json_is_string(y))
		return strcmp(json_string_value(x), json_string_value(y));
	double dx = json_number_value(x), dy = json_number_value(y);
	return dx < dy ? -1 : dx > dy;
}

static int sort_rows(const struct invocation *in, const struct column *columns, size_t n, json_t *rows)
{
	const char *wish = opt_value(in, "sort", NULL);
	if (wish == NULL)
		return 0;
	sort_key = NULL;
	for (size_t i = 0; i < n; i++)
		if (strcasecmp(columns[i].head, wish) == 0)
			sort_key = columns[i].key;
	if (sort_key == NULL)
		return usage_error(in, "cannot sort by \"%s\": no such column", wish);
	size_t count = json_array_size(rows);
	json_t **v = calloc(count + 1, sizeof(*v));
	if (v == NULL)
		return EXIT_FAILED;
	for (size_t i = 0; i < count; i++)
		v[i] = json_incref(json_array_get(rows, i));
	qsort(v, count, sizeof(*v), compare_rows);
	json_array_clear(rows);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, v[i]);
	free(v);
	return 0;
}

static void print_tabs(const struct column *const *pick, int n_pick, const json_t *rows, bool exact)
{
	for (size_t r = 0; r < json_array_size(rows); r++) {
		for (int c = 0; c < n_pick; c++) {
			char text[1024] = "";
			cell_text(pick[c], field(json_array_get(rows, r), pick[c]->key), exact, text, sizeof(text));
			printf("%s%s", c ? "\t" : "", text);
		}
		putchar('\n');
	}
}

static void print_table(const struct invocation *in, const struct column *const *pick, int n_pick, const json_t *rows, bool exact)
{
	struct libscols_table *t = scols_new_table();
	scols_table_enable_colors(t, use_color(in, STDOUT_FILENO));
	scols_table_set_column_separator(t, "  ");
	for (int c = 0; c < n_pick; c++)
		scols_table_new_column(t, pick[c]->head, 0, pick[c]->kind == COL_TEXT ? 0 : SCOLS_FL_RIGHT);
	for (size_t r = 0; r < json_array_size(rows); r++) {
		struct libscols_line *line = scols_table_new_line(t, NULL);
		for (int c = 0; c < n_pick; c++) {
			char text[1024] = "";
			cell_text(pick[c], field(json_array_get(rows, r), pick[c]->key), exact, text, sizeof(text));
			scols_line_set_data(line, (size_t)c, text);
		}
	}
	scols_print_table(t);
	scols_unref_table(t);
}

int print_rows(const struct invocation *in, const char *schema, const struct column *columns, size_t n, json_t *rows, const char *empty)
{
	const struct column *pick[32];
	int rc = sort_rows(in, columns, n, rows);
	int n_pick = rc == 0 ? pick_columns(in, columns, n, pick, ARRAY_LEN(pick)) : -1;
	if (n_pick < 0) {
		json_decref(rows);
		return EXIT_USAGE;
	}
	if (want_json(in))
		return print_json(schema, json_pack("{s:o}", "items", rows));
	bool exact = opt_given(in, "exact");
	if (json_array_size(rows) == 0)
		say(in, "%s", empty);
	else if (opt_given(in, "no-header"))
		print_tabs(pick, n_pick, rows, exact);
	else
		print_table(in, pick, n_pick, rows, exact);
	json_decref(rows);
	return 0;
}
