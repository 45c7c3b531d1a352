/* test_nbd_handshake.c - option haggling on a real stream: what a client may say, in which order, and what ends the
 * connection. */
#include "nbd_fixture.h"

static void every_rude_greeting_ends_the_connection_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());

	(void)arg;
	static const uint32_t bad_flags[] = {4, 0x80000003, UINT32_MAX};
	for (size_t i = 0; i < ARRAY_LEN(bad_flags); i++) {
		struct stream *c = server_and_client(s);
		greet(c, bad_flags[i]);
		hear_end(c);
		stream_close(c);
	}
	struct stream *c = server_and_client(s);
	greet(c, 3);
	SAY(c, "GET / HTTP/1.1\r\n"); /* 16 bytes where an option should be */
	hear_end(c);
	stream_close(c);
	CHECK(script.opens == 0);
	server_end(s);
}

static void a_client_without_fixed_newstyle_may_only_name_an_export_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);

	(void)arg;
	greet(c, 0);
	say_option(c, NBD_OPT_LIST, NULL, 0);
	hear_end(c);
	stream_close(c);

	uint8_t got[10 + 124];
	c = server_and_client(s);
	greet(c, 0);
	say_option(c, NBD_OPT_EXPORT_NAME, "a/0", 3);
	hear(c, got, sizeof(got));
	CHECK(memcmp(got, "\0\0\0\0\0\x20\0\0\x0c\x6d\0\0", 12) == 0);
	request(c, 0, NBD_CMD_FLUSH, 1, 0, 0);
	CHECK(simple(c, 1) == 0);
	stream_close(c);
	server_end(s);
}

static void no_zeroes_leaves_the_zeroes_out_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[10];

	(void)arg;
	greet(c, 3);
	say_option(c, NBD_OPT_EXPORT_NAME, "", 0); /* the only export is the default one */
	hear(c, got, sizeof(got));
	request(c, 0, NBD_CMD_FLUSH, 2, 0, 0);
	CHECK(simple(c, 2) == 0);
	stream_close(c);
	server_end(s);
}

static void an_unknown_export_name_ends_the_connection_and_go_says_why_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[600];
	uint32_t len;

	(void)arg;
	greet(c, 3);
	say_option(c, NBD_OPT_EXPORT_NAME, "nope", 4);
	hear_end(c);
	stream_close(c);

	c = server_and_client(s);
	greet(c, 3);
	CHECK(OPTION(c, NBD_OPT_GO, "\0\0\0\4nope\0\0") == NBD_REP_ERR_UNKNOWN);
	CHECK(OPTION(c, NBD_OPT_INFO, "\0\0\0\4nope\0\0") == NBD_REP_ERR_UNKNOWN);
	say_option(c, NBD_OPT_GO,
		   "\0\0\0\x08"
		   "a/locked\0\0",
		   14);
	CHECK(hear_option(c, NBD_OPT_GO, got, sizeof(got), &len) == NBD_REP_ERR_POLICY);
	CHECK(len == strlen("in use by gateway gw2 since noon") &&
	      memcmp(got, "in use by gateway gw2 since noon", len) == 0);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK); /* haggling goes on after errors */
	stream_close(c);
	server_end(s);
}

static void the_default_export_exists_only_when_there_is_one_export_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	script.exports = 2;
	greet(c, 3);
	CHECK(OPTION(c, NBD_OPT_GO, "\0\0\0\0\0\0") == NBD_REP_ERR_UNKNOWN);
	script.exports = 0;
	CHECK(OPTION(c, NBD_OPT_GO, "\0\0\0\0\0\0") == NBD_REP_ERR_UNKNOWN);
	script.exports = 1;
	say_option(c, NBD_OPT_GO, "\0\0\0\0\0\1\0\1", 8);
	CHECK(hear_option(c, NBD_OPT_GO, got, sizeof(got), &len) == NBD_REP_INFO && len == 12);
	CHECK(hear_option(c, NBD_OPT_GO, got, sizeof(got), &len) == NBD_REP_INFO && len == 5);
	CHECK(memcmp(got, "\0\1a/0", 5) == 0); /* its real name, because it was asked for */
	CHECK(hear_option(c, NBD_OPT_GO, got, sizeof(got), &len) == NBD_REP_ACK && len == 0);
	stream_close(c);
	server_end(s);
}

static void info_answers_what_was_asked_and_opens_nothing_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	greet(c, 3);
	say_option(c, NBD_OPT_INFO, "\0\0\0\3a/0\0\3\0\3\0\2\0\x63", 15);
	CHECK(hear_option(c, NBD_OPT_INFO, got, sizeof(got), &len) == NBD_REP_INFO && len == 12);
	CHECK(memcmp(got, "\0\0\0\0\0\0\0\x20\0\0\x0c\x6d", 12) == 0);
	CHECK(hear_option(c, NBD_OPT_INFO, got, sizeof(got), &len) == NBD_REP_INFO && len == 10);
	CHECK(memcmp(got, "\0\2scripted", 10) == 0);
	CHECK(hear_option(c, NBD_OPT_INFO, got, sizeof(got), &len) == NBD_REP_INFO && len == 14);
	CHECK(memcmp(got, "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", 14) == 0);
	CHECK(hear_option(c, NBD_OPT_INFO, got, sizeof(got), &len) == NBD_REP_ACK);
	CHECK(script.opens == 0);
	CHECK(option(c, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK);
	hear_end(c);
	stream_close(c);
	server_end(s);
}

static void list_names_every_export_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	script.exports = 1000;
	greet(c, 3);
	say_option(c, NBD_OPT_LIST, NULL, 0);
	for (unsigned i = 0; i < 1000; i++) {
		CHECK(hear_option(c, NBD_OPT_LIST, got, sizeof(got), &len) == NBD_REP_SERVER);
		uint32_t name_len = got[3];
		CHECK(len == 4 + name_len + (i % 2 ? 3 : 0) && memcmp(got + 4, "a/", 2) == 0);
	}
	CHECK(hear_option(c, NBD_OPT_LIST, got, sizeof(got), &len) == NBD_REP_ACK);
	CHECK(OPTION(c, NBD_OPT_LIST, "x") == NBD_REP_ERR_INVALID);
	script.rc = -EIO;
	CHECK(option(c, NBD_OPT_LIST, NULL, 0) == NBD_REP_ERR_UNKNOWN);
	stream_close(c);
	server_end(s);
}

static void a_list_too_long_to_send_is_refused_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);

	(void)arg;
	script.exports = 400000; /* more than NBD_LIST_BYTES_MAX */
	greet(c, 3);
	CHECK(option(c, NBD_OPT_LIST, NULL, 0) == NBD_REP_ERR_TOO_BIG);
	script.exports = 1;
	CHECK(option(c, NBD_OPT_LIST, NULL, 0) == NBD_REP_ACK);
	stream_close(c);
	server_end(s);
}

static void long_options_are_read_away_and_very_long_ones_end_the_connection_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	static uint8_t junk[NBD_OPTION_DRAIN_MAX];

	(void)arg;
	greet(c, 3);
	CHECK(option(c, NBD_OPT_GO, junk, NBD_OPTION_DATA_MAX + 1) == NBD_REP_ERR_TOO_BIG);
	CHECK(option(c, 99, junk, NBD_OPTION_DRAIN_MAX) == NBD_REP_ERR_TOO_BIG);
	CHECK(option(c, 99, junk, 10) == NBD_REP_ERR_UNSUP);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK); /* in step still */
	stream_close(c);

	c = server_and_client(s);
	greet(c, 3);
	uint8_t head[NBD_OPTION_HEAD_BYTES];
	struct wcur w = wcur_of(head, sizeof(head));
	wcur_be64(&w, NBD_OPTION_MAGIC);
	wcur_be32(&w, NBD_OPT_GO);
	wcur_be32(&w, UINT32_MAX);
	say(c, head, sizeof(head));
	hear_end(c);
	stream_close(c);

	c = server_and_client(s);
	greet(c, 3);
	say_option(c, NBD_OPT_EXPORT_NAME, junk, NBD_STRING_MAX + 1);
	hear_end(c);
	stream_close(c);
	server_end(s);
}

static void metadata_contexts_need_structured_replies_and_follow_their_export_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	script.exports = 2;
	greet(c, 3);
	CHECK(OPTION(c, NBD_OPT_LIST_META_CONTEXT, "\0\0\0\3a/0\0\0\0\0") == NBD_REP_ERR_INVALID);
	CHECK(option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0) == NBD_REP_ACK);
	CHECK(option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0) == NBD_REP_ERR_INVALID);
	CHECK(OPTION(c, NBD_OPT_LIST_META_CONTEXT, "\0\0\0\4nope\0\0\0\0") == NBD_REP_ERR_UNKNOWN);
	static const char *const finding[] = {"\0\0\0\3a/0\0\0\0\0", "\0\0\0\3a/0\0\0\0\1\0\0\0\5base:"};
	static const uint32_t finding_len[] = {11, 20};
	for (unsigned i = 0; i < 2; i++) {
		say_option(c, NBD_OPT_LIST_META_CONTEXT, finding[i], finding_len[i]);
		CHECK(hear_option(c, NBD_OPT_LIST_META_CONTEXT, got, sizeof(got), &len) == NBD_REP_META_CONTEXT &&
		      len == 19);
		CHECK(memcmp(got, "\0\0\0\0base:allocation", 19) == 0);
		CHECK(hear_option(c, NBD_OPT_LIST_META_CONTEXT, got, sizeof(got), &len) == NBD_REP_ACK);
		/* Neither form selects. */
		say_option(c, NBD_OPT_SET_META_CONTEXT, finding[i], finding_len[i]);
		CHECK(hear_option(c, NBD_OPT_SET_META_CONTEXT, got, sizeof(got), &len) == NBD_REP_ACK);
	}
	/* Selected for a/1, used on a/0: not selected. */
	CHECK(OPTION(c, NBD_OPT_SET_META_CONTEXT,
		     "\0\0\0\3a/1\0\0\0\1\0\0\0\xf"
		     "base:allocation") == NBD_REP_ACK);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	request(c, 0, NBD_CMD_BLOCK_STATUS, 9, 0, 4096);
	CHECK(chunk(c, 9, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_ERROR);
	CHECK(memcmp(got, "\0\0\0\x16", 4) == 0);
	stream_close(c);
	server_end(s);
}

static void a_failed_selection_forgets_the_one_before_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	greet(c, 3);
	CHECK(option(c, NBD_OPT_STRUCTURED_REPLY, NULL, 0) == NBD_REP_ACK);
	CHECK(OPTION(c, NBD_OPT_SET_META_CONTEXT,
		     "\0\0\0\3a/0\0\0\0\1\0\0\0\xf"
		     "base:allocation") == NBD_REP_ACK);
	CHECK(OPTION(c, NBD_OPT_SET_META_CONTEXT, "\0\0\0\3a/0\0\0\0\1") == NBD_REP_ERR_INVALID);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	request(c, 0, NBD_CMD_BLOCK_STATUS, 9, 0, 4096);
	CHECK(chunk(c, 9, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_ERROR);
	stream_close(c);
	server_end(s);
}

static void starttls_without_a_certificate_is_refused_and_haggling_goes_on_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);

	(void)arg;
	greet(c, 3);
	CHECK(OPTION(c, NBD_OPT_STARTTLS, "x") == NBD_REP_ERR_INVALID);
	CHECK(option(c, NBD_OPT_STARTTLS, NULL, 0) == NBD_REP_ERR_POLICY);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	stream_close(c);
	server_end(s);
}

static void where_tls_is_required_nothing_else_is_answered_before_it_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.tls_require = true;
	struct nbd_server *s = server_with(cfg);
	struct stream *c = server_and_client(s);

	(void)arg;
	greet(c, 3);
	CHECK(option(c, NBD_OPT_LIST, NULL, 0) == NBD_REP_ERR_TLS_REQD);
	CHECK(OPTION(c, NBD_OPT_INFO, GO_FIRST) == NBD_REP_ERR_TLS_REQD);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ERR_TLS_REQD);
	CHECK(OPTION(c, 4711, "data") == NBD_REP_ERR_TLS_REQD);
	CHECK(option(c, NBD_OPT_ABORT, NULL, 0) == NBD_REP_ACK);
	hear_end(c);
	stream_close(c);

	c = server_and_client(s);
	greet(c, 3);
	say_option(c, NBD_OPT_EXPORT_NAME, "a/0", 3);
	hear_end(c);
	stream_close(c);
	CHECK(script.opens == 0);
	server_end(s);
}

static void a_client_that_says_nothing_is_dropped_at_the_deadline_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.handshake_timeout_ns = 5 * NS_PER_MS;
	struct nbd_server *s = server_with(cfg);
	struct stream *silent = server_and_client(s), *half = server_and_client(s);

	(void)arg;
	HEAR(half, "NBDMAGICIHAVEOPT\0\3");
	SAY(half, "\0\0\0\3IHAVE");
	HEAR(silent, "NBDMAGICIHAVEOPT\0\3");
	hear_end(silent);
	hear_end(half);
	stream_close(silent);
	stream_close(half);
	server_end(s);
}

static void the_deadline_does_not_follow_a_client_into_transmission_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = server_and_client(s);

	(void)arg;
	greet(c, 3);
	CHECK(list_first(&s->sessions, struct nbd_session, node)->cut.armed);
	CHECK(OPTION(c, NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	request(c, 0, NBD_CMD_FLUSH, 1, 0, 0);
	CHECK(simple(c, 1) == 0);
	CHECK(!list_first(&s->sessions, struct nbd_session, node)->cut.armed);
	stream_close(c);
	server_end(s);
}

static void a_connection_over_the_limit_is_closed_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.max_conns = 2;
	struct nbd_server *s = server_with(cfg);
	struct stream *a = connected(s, false), *b = connected(s, false);
	int fds[2];
	struct stream *third;

	(void)arg;
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(stream_from_fd(fds[1], &third, NULL) == 0);
	CHECK(nbd_server_serve(s, third) == -EBUSY);
	char byte;
	CHECK(read(fds[0], &byte, 1) == 0);
	close(fds[0]);
	stream_close(a);
	settle();
	struct stream *again = connected(s, false);
	stream_close(again);
	stream_close(b);
	server_end(s);
}

#define ON_LOOP(name)                                                                                                  \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		on_every_backend(name##_body);                                                                         \
	}

ON_LOOP(every_rude_greeting_ends_the_connection)
ON_LOOP(a_client_without_fixed_newstyle_may_only_name_an_export)
ON_LOOP(no_zeroes_leaves_the_zeroes_out)
ON_LOOP(an_unknown_export_name_ends_the_connection_and_go_says_why)
ON_LOOP(the_default_export_exists_only_when_there_is_one_export)
ON_LOOP(info_answers_what_was_asked_and_opens_nothing)
ON_LOOP(list_names_every_export)
ON_LOOP(a_list_too_long_to_send_is_refused)
ON_LOOP(long_options_are_read_away_and_very_long_ones_end_the_connection)
ON_LOOP(metadata_contexts_need_structured_replies_and_follow_their_export)
ON_LOOP(a_failed_selection_forgets_the_one_before)
ON_LOOP(starttls_without_a_certificate_is_refused_and_haggling_goes_on)
ON_LOOP(where_tls_is_required_nothing_else_is_answered_before_it)
ON_LOOP(a_client_that_says_nothing_is_dropped_at_the_deadline)
ON_LOOP(the_deadline_does_not_follow_a_client_into_transmission)
ON_LOOP(a_connection_over_the_limit_is_closed)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_rude_greeting_ends_the_connection),
	    cmocka_unit_test(a_client_without_fixed_newstyle_may_only_name_an_export),
	    cmocka_unit_test(no_zeroes_leaves_the_zeroes_out),
	    cmocka_unit_test(an_unknown_export_name_ends_the_connection_and_go_says_why),
	    cmocka_unit_test(the_default_export_exists_only_when_there_is_one_export),
	    cmocka_unit_test(info_answers_what_was_asked_and_opens_nothing),
	    cmocka_unit_test(list_names_every_export),
	    cmocka_unit_test(a_list_too_long_to_send_is_refused),
	    cmocka_unit_test(long_options_are_read_away_and_very_long_ones_end_the_connection),
	    cmocka_unit_test(metadata_contexts_need_structured_replies_and_follow_their_export),
	    cmocka_unit_test(a_failed_selection_forgets_the_one_before),
	    cmocka_unit_test(starttls_without_a_certificate_is_refused_and_haggling_goes_on),
	    cmocka_unit_test(where_tls_is_required_nothing_else_is_answered_before_it),
	    cmocka_unit_test(a_client_that_says_nothing_is_dropped_at_the_deadline),
	    cmocka_unit_test(the_deadline_does_not_follow_a_client_into_transmission),
	    cmocka_unit_test(a_connection_over_the_limit_is_closed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
