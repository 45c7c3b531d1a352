/* test_nbd_session.c - transmission: requests, replies, bounds, and ends that clients and administrators bring about.
 */
#include "nbd_fixture.h"

static void pattern(uint8_t *p, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)(seed + i * 7 + (i >> 8));
}

static void writes_and_reads_of_any_size_carry_their_bytes_body(void *arg) YIELDS
{
	static const uint32_t sizes[] = {1, 511, 4096, 65536 - 28, 65536, 100000, 1048576, 1500000};
	static uint8_t out[MIB(2)], in[MIB(2)];
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);

	(void)arg;
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		pattern(out, sizes[i], i);
		request(c, i % 2 ? NBD_CMD_FLAG_FUA : 0, NBD_CMD_WRITE, i, 3, sizes[i]);
		say(c, out, sizes[i]);
		CHECK(simple(c, i) == 0);
		CHECK(script.last_fua == i % 2);
		request(c, 0, NBD_CMD_READ, 100 + i, 3, sizes[i]);
		CHECK(simple(c, 100 + i) == 0);
		hear(c, in, sizes[i]);
		CHECK(memcmp(in, out, sizes[i]) == 0);
	}
	stream_close(c);
	server_end(s);
}

static void a_burst_of_writes_keeps_every_payload_until_its_provider_is_done_body(void *arg) YIELDS
{
	enum { N = 100, LEN = 5000 };
	static uint8_t out[N * (NBD_REQUEST_BYTES + LEN)];
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);

	(void)arg;
	script.hold = true;
	for (unsigned i = 0; i < N; i++) {
		uint8_t *p = out + i * (NBD_REQUEST_BYTES + LEN);
		put_request(p, 0, NBD_CMD_WRITE, 5, i * LEN, LEN);
		pattern(p + NBD_REQUEST_BYTES, LEN, i);
	}
	say(c, out, sizeof(out));
	while (script.running < N)
		fiber_yield();
	release_held();
	for (unsigned i = 0; i < N; i++)
		CHECK(simple(c, 5) == 0);
	for (unsigned i = 0; i < N; i++)
		CHECK(memcmp(script.image + i * LEN, out + i * (NBD_REQUEST_BYTES + LEN) + NBD_REQUEST_BYTES, LEN) ==
		      0);
	stream_close(c);
	server_end(s);
}

static void every_command_reaches_the_provider_with_its_flags_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, true);

	(void)arg;
	request(c, 0, NBD_CMD_FLUSH, 1, 0, 0);
	CHECK(simple(c, 1) == 0);
	request(c, NBD_CMD_FLAG_FUA, NBD_CMD_TRIM, 2, 0, 8192);
	CHECK(simple(c, 2) == 0 && script.last_fua);
	request(c, NBD_CMD_FLAG_NO_HOLE, NBD_CMD_WRITE_ZEROES, 3, 0, 8192);
	CHECK(simple(c, 3) == 0 && script.no_trim_seen && !script.last_fua);
	request(c, NBD_CMD_FLAG_FAST_ZERO, NBD_CMD_WRITE_ZEROES, 4, 0, 8192);
	CHECK(simple(c, 4) == 0 && !script.no_trim_seen);
	request(c, 0, NBD_CMD_CACHE, 5, 0, 8192);
	CHECK(simple(c, 5) == 0);
	CHECK(script.done == 5);
	request(c, 0, NBD_CMD_TRIM, 6, 5, 0); /* of nothing: fine, and nothing is done */
	CHECK(simple(c, 6) == 0 && script.done == 5);
	stream_close(c);
	server_end(s);
}

static void refused_writes_leave_the_stream_in_step_body(void *arg) YIELDS
{
	static uint8_t junk[MIB(2)];
	struct nbd_server_config cfg = script_config();
	cfg.max_request_bytes = (uint32_t)MIB(1);
	struct nbd_server *s = server_with(cfg);
	struct stream *c = connected(s, false);

	(void)arg;
	memset(junk, 0x25, sizeof(junk));
	request(c, 0, NBD_CMD_WRITE, 1, IMAGE_BYTES - 10, 100000);
	say(c, junk, 100000);
	CHECK(simple(c, 1) == NBD_ENOSPC);
	request(c, NBD_CMD_FLAG_DF, NBD_CMD_WRITE, 2, 0, 10);
	say(c, junk, 10);
	CHECK(simple(c, 2) == NBD_EINVAL);
	request(c, 0, NBD_CMD_WRITE, 3, 0, sizeof(junk)); /* over the maximum payload */
	say(c, junk, sizeof(junk));
	CHECK(simple(c, 3) == NBD_EINVAL);
	CHECK(script.done == 0);
	request(c, 0, 77, 4, 0, 0);
	CHECK(simple(c, 4) == NBD_EINVAL);
	request(c, 0, NBD_CMD_READ, 5, 0, (uint32_t)MIB(1) + 1);
	CHECK(simple(c, 5) == NBD_EINVAL);
	request(c, 0, NBD_CMD_FLUSH, 6, 0, 0);
	CHECK(simple(c, 6) == 0);
	stream_close(c);
	server_end(s);
}

static void errors_of_the_provider_come_as_chunks_with_text_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, true);
	uint8_t got[300];
	uint32_t len;

	(void)arg;
	script.rc = -MYFS_E_UNREADABLE;
	request(c, 0, NBD_CMD_READ, 1, 0, 4096);
	CHECK(chunk(c, 1, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_ERROR);
	const char *text = err_name(-MYFS_E_UNREADABLE);
	CHECK(len == 6 + strlen(text) && memcmp(got, "\0\0\0\5", 4) == 0 && memcmp(got + 6, text, strlen(text)) == 0);
	script.rc = -ENOSPC;
	request(c, 0, NBD_CMD_WRITE_ZEROES, 2, 0, 4096);
	CHECK(chunk(c, 2, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_ERROR);
	CHECK(memcmp(got, "\0\0\0\x1c", 4) == 0);
	script.rc = 0;
	request(c, 0, NBD_CMD_FLUSH, 3, 0, 0);
	CHECK(simple(c, 3) == 0);
	stream_close(c);
	server_end(s);
}

static void structured_reads_tell_holes_and_df_does_not_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, true);
	static uint8_t got[65536];
	uint32_t len;

	(void)arg;
	script.hole_from = 8192;
	script.hole_to = 24576;
	memset(script.image, 0x11, 65536);
	request(c, 0, NBD_CMD_READ, 1, 4096, 32768);
	CHECK(chunk(c, 1, false, got, sizeof(got), &len) == NBD_REPLY_TYPE_OFFSET_DATA && len == 8 + 4096);
	CHECK(memcmp(got, "\0\0\0\0\0\0\x10\0\x11", 9) == 0);
	CHECK(chunk(c, 1, false, got, sizeof(got), &len) == NBD_REPLY_TYPE_OFFSET_HOLE && len == 12);
	CHECK(memcmp(got, "\0\0\0\0\0\0\x20\0\0\0\x40\0", 12) == 0);
	CHECK(chunk(c, 1, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_OFFSET_DATA && len == 8 + 12288);
	request(c, NBD_CMD_FLAG_DF, NBD_CMD_READ, 2, 4096, 32768);
	CHECK(chunk(c, 2, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_OFFSET_DATA && len == 8 + 32768);
	CHECK(got[8] == 0x11 && got[8 + 4096] == 0 && got[8 + 24576 - 4096] == 0x11);
	request(c, 0, NBD_CMD_READ, 3, 0, 0);
	CHECK(chunk(c, 3, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_NONE);
	stream_close(c);
	server_end(s);
}

static void block_status_joins_neighbours_and_obeys_req_one_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, true);
	uint8_t got[64];
	uint32_t len;

	(void)arg;
	script.hole_from = 8192;
	script.hole_to = 24576;
	request(c, 0, NBD_CMD_BLOCK_STATUS, 1, 100, 65536);
	CHECK(chunk(c, 1, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_BLOCK_STATUS && len == 4 + 3 * 8);
	CHECK(memcmp(got, "\0\0\0\1\0\0\x1f\x9c\0\0\0\0\0\0\x40\0\0\0\0\3\0\0\xa0\x64\0\0\0\0", 28) == 0);
	request(c, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 2, 8192, 65536);
	CHECK(chunk(c, 2, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_BLOCK_STATUS && len == 12);
	CHECK(memcmp(got, "\0\0\0\1\0\0\x40\0\0\0\0\3", 12) == 0);
	request(c, NBD_CMD_FLAG_REQ_ONE, NBD_CMD_BLOCK_STATUS, 3, 8192, 512); /* never longer than asked */
	CHECK(chunk(c, 3, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_BLOCK_STATUS && len == 12);
	CHECK(memcmp(got, "\0\0\0\1\0\0\2\0\0\0\0\3", 12) == 0);
	script.rc = -EIO;
	request(c, 0, NBD_CMD_BLOCK_STATUS, 4, 0, 4096);
	CHECK(chunk(c, 4, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_ERROR);
	stream_close(c);
	server_end(s);
}

static int emit_nothing(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
			int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg)
{
	(void)x, (void)off, (void)len, (void)one, (void)emit, (void)emit_arg;
	return 0;
}

static int emit_stripes(struct nbd_export *x, uint64_t off, uint64_t len, bool one,
			int (*emit)(void *emit_arg, uint64_t len, bool data), void *emit_arg)
{
	(void)x, (void)one;
	for (uint64_t done = 0; done < len; done += 512)
		if (emit(emit_arg, 512, (off + done) / 512 % 2))
			break;
	return 0;
}

static void block_status_answers_at_least_one_extent_and_not_more_than_fit_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.provider.extents = emit_nothing;
	struct nbd_server *s = server_with(cfg);
	struct stream *c = connected(s, true);
	static uint8_t got[NBD_STATUS_BYTES + 4];
	uint32_t len;

	(void)arg;
	request(c, 0, NBD_CMD_BLOCK_STATUS, 1, 0, 1000);
	CHECK(chunk(c, 1, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_BLOCK_STATUS && len == 12);
	CHECK(memcmp(got + 4, "\0\0\3\xe8\0\0\0\0", 8) == 0);
	stream_close(c);
	server_end(s);

	cfg.provider.extents = emit_stripes;
	s = server_with(cfg);
	c = connected(s, true);
	request(c, 0, NBD_CMD_BLOCK_STATUS, 2, 0, (uint32_t)IMAGE_BYTES);
	CHECK(chunk(c, 2, true, got, sizeof(got), &len) == NBD_REPLY_TYPE_BLOCK_STATUS);
	CHECK(len == 4 + NBD_STATUS_BYTES);
	stream_close(c);
	server_end(s);
}

static void beyond_the_bound_on_requests_the_socket_is_not_read_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.max_requests = 8;
	struct nbd_server *s = server_with(cfg);
	struct stream *c = connected(s, false);

	(void)arg;
	script.hold = true;
	for (unsigned i = 0; i < 50; i++)
		request(c, 0, NBD_CMD_FLUSH, 1, 0, 0);
	while (script.running < 8)
		fiber_yield();
	settle();
	CHECK(script.running == 8);
	release_held();
	for (unsigned i = 0; i < 50; i++)
		CHECK(simple(c, 1) == 0);
	CHECK(script.most_running == 8);
	stream_close(c);
	server_end(s);
}

static void beyond_the_bound_on_bytes_the_socket_is_not_read_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);
	static uint8_t got[MIB(2)];

	(void)arg;
	script.hold = true;
	for (unsigned i = 0; i < 40; i++)
		request(c, 0, NBD_CMD_READ, 1, 0, (uint32_t)MIB(2));
	while (script.running < NBD_CONN_BYTES_MAX / MIB(2))
		fiber_yield();
	settle();
	CHECK(script.running == NBD_CONN_BYTES_MAX / MIB(2));
	CHECK(s->running_bytes == NBD_CONN_BYTES_MAX);
	release_held();
	for (unsigned i = 0; i < 40; i++) {
		CHECK(simple(c, 1) == 0);
		hear(c, got, sizeof(got));
	}
	settle();
	CHECK(s->running_bytes == 0);
	stream_close(c);
	server_end(s);
}

static void disconnect_waits_for_what_is_under_way_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);

	(void)arg;
	script.hold = true;
	request(c, 0, NBD_CMD_FLUSH, 1, 0, 0);
	request(c, 0, NBD_CMD_DISC, 2, 0, 0);
	while (script.running < 1)
		fiber_yield();
	settle();
	CHECK(script.closes == 0);
	release_held();
	CHECK(simple(c, 1) == 0);
	hear_end(c);
	stream_close(c);
	server_end(s);
}

static void a_client_that_vanishes_leaves_its_requests_to_finish_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);
	static uint8_t junk[MIB(1)];

	(void)arg;
	script.hold = true;
	request(c, 0, NBD_CMD_WRITE, 1, 0, 4096);
	say(c, junk, 4096);
	request(c, 0, NBD_CMD_READ, 2, 0, 4096);
	request(c, 0, NBD_CMD_WRITE, 3, 0, MIB(1));
	say(c, junk, 1000); /* and no more */
	while (script.running < 2)
		fiber_yield();
	stream_close(c);
	settle();
	CHECK(script.closes == 0); /* S1 */
	release_held();
	while (script.closes == 0)
		fiber_yield();
	server_end(s);
}

static void bytes_that_make_no_sense_end_the_connection_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);
	uint8_t b[NBD_REQUEST_BYTES];

	(void)arg;
	put_request(b, 0, NBD_CMD_FLUSH, 1, 0, 0);
	b[0] ^= 1;
	say(c, b, sizeof(b));
	hear_end(c);
	stream_close(c);

	c = connected(s, false);
	request(c, 0, NBD_CMD_WRITE, 1, 0, UINT32_MAX); /* 4 GiB to be read away: no */
	hear_end(c);
	stream_close(c);
	server_end(s);
}

static void a_session_serves_an_export_in_its_new_size_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);

	(void)arg;
	nbd_server_resized(s, "a/0", IMAGE_BYTES - 4096);
	request(c, 0, NBD_CMD_TRIM, 1, IMAGE_BYTES - 4096, 4096);
	CHECK(simple(c, 1) == NBD_EINVAL);
	nbd_server_resized(s, "a/1", IMAGE_BYTES);
	request(c, 0, NBD_CMD_TRIM, 2, IMAGE_BYTES - 4096, 4096);
	CHECK(simple(c, 2) == NBD_EINVAL);
	nbd_server_resized(s, "a/0", IMAGE_BYTES);
	request(c, 0, NBD_CMD_TRIM, 3, IMAGE_BYTES - 4096, 4096);
	CHECK(simple(c, 3) == 0);
	stream_close(c);
	server_end(s);
}

struct stopping {
	struct nbd_server *s;
	bool done;
};

static void stop_fiber(void *arg)
{
	struct stopping *st = arg;

	nbd_server_stop(st->s);
	st->done = true;
}

static void a_stop_answers_what_runs_and_leaves_what_comes_to_the_next_server_body(void *arg) YIELDS
{
	struct stopping st = {.s = server_with(script_config())};
	struct stream *busy = connected(st.s, false), *idle = connected(st.s, false), *half = server_and_client(st.s);
	int fds[2];
	struct stream *late;

	(void)arg;
	script.hold = true;
	request(busy, 0, NBD_CMD_FLUSH, 1, 0, 0);
	while (script.running < 1)
		fiber_yield();
	CHECK(fiber_run(loop_self(), "stop", stop_fiber, &st) == 0);
	HEAR(half, "NBDMAGICIHAVEOPT\0\3");
	hear_end(half);
	hear_end(idle);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	CHECK(stream_from_fd(fds[1], &late, NULL) == 0);
	CHECK(nbd_server_serve(st.s, late) == -ESHUTDOWN);
	close(fds[0]);
	request(busy, 0, NBD_CMD_FLUSH, 2, 0, 0);
	CHECK(!st.done);
	release_held();
	CHECK(simple(busy, 1) == 0);
	hear_end(busy);
	while (!st.done)
		fiber_yield();
	CHECK(st.s->session_count == 0);
	stream_close(busy);
	stream_close(idle);
	stream_close(half);
	server_end(st.s);
}

static void a_stop_does_not_wait_for_a_client_that_takes_no_replies_or_sends_half_a_write_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *deaf = connected(s, false), *slow = connected(s, false);
	uint64_t began_ns = loop_precise_ns();

	(void)arg;
	for (unsigned i = 0; i < 30; i++)
		request(deaf, 0, NBD_CMD_READ, 1, 0, (uint32_t)MIB(2));
	request(slow, 0, NBD_CMD_WRITE, 1, 0, (uint32_t)MIB(1));
	while (script.done < 30)
		fiber_yield();
	settle();
	server_end(s);
	CHECK(loop_precise_ns() - began_ns < 6 * NS_PER_S);
	stream_close(deaf);
	stream_close(slow);
}

static void a_request_that_outlives_the_server_frees_what_it_holds_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *c = connected(s, false);

	(void)arg;
	script.hold = true;
	request(c, 0, NBD_CMD_READ, 1, 0, 4096);
	while (script.running < 1)
		fiber_yield();
	nbd_server_free(s); /* without a stop: the session still refers to the server */
	settle();
	CHECK(script.closes == 0);
	release_held();
	while (script.closes == 0)
		fiber_yield();
	settle();
	stream_close(c);
}

struct counted {
	unsigned n;
	struct nbd_session_info last;
};

static void count_session(void *arg, const struct nbd_session_info *info)
{
	struct counted *k = arg;

	k->n++;
	k->last = *info;
}

static void sessions_are_told_with_what_they_did_body(void *arg) YIELDS
{
	struct nbd_server *s = server_with(script_config());
	struct stream *half = server_and_client(s), *c = connected(s, false);
	struct counted k = {0};
	uint8_t data[100] = {0};

	(void)arg;
	request(c, 0, NBD_CMD_WRITE, 1, 0, 100);
	say(c, data, 100);
	CHECK(simple(c, 1) == 0);
	request(c, 0, NBD_CMD_READ, 2, 0, 50);
	CHECK(simple(c, 2) == 0);
	hear(c, data, 50);
	nbd_server_sessions(s, count_session, &k);
	CHECK(k.n == 1 && strcmp(k.last.export_name, "a/0") == 0 && !k.last.tls);
	CHECK(k.last.writes == 1 && k.last.bytes_written == 100 && k.last.reads == 1 && k.last.bytes_read == 50);
	stream_close(half);
	stream_close(c);
	server_end(s);
}

static void a_listener_serves_and_holds_strangers_back_at_its_limits_body(void *arg) YIELDS
{
	enum { LIMIT = 3 };
	struct nbd_server_config cfg = script_config();
	cfg.max_handshakes = LIMIT;
	struct nbd_server *s = server_with(cfg);
	struct address real, a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct stream *c[LIMIT + 1];

	(void)arg;
	CHECK(nbd_server_listen(s, net_kernel(), &a, &real, NULL) == 0);
	CHECK(real.port != 0);
	for (unsigned i = 0; i <= LIMIT; i++)
		CHECK(net_connect(net_kernel(), &real, UINT64_MAX, &c[i], NULL) == 0);
	for (unsigned i = 0; i < LIMIT; i++)
		HEAR(c[i], "NBDMAGICIHAVEOPT\0\3");
	settle();
	CHECK(s->session_count == LIMIT); /* the fourth waits */
	stream_close(c[0]);
	greet(c[LIMIT], 3); /* and is served when one has gone */
	CHECK(OPTION(c[LIMIT], NBD_OPT_GO, GO_FIRST) == NBD_REP_ACK);
	for (unsigned i = 1; i <= LIMIT; i++)
		stream_close(c[i]);
	server_end(s);
}

static void one_host_gets_only_its_share_of_handshakes_body(void *arg) YIELDS
{
	struct nbd_server_config cfg = script_config();
	cfg.max_handshakes_per_peer = 2;
	struct nbd_server *s = server_with(cfg);
	struct address real, a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct stream *c[3];

	(void)arg;
	CHECK(nbd_server_listen(s, net_kernel(), &a, &real, NULL) == 0);
	for (unsigned i = 0; i < 3; i++) {
		CHECK(net_connect(net_kernel(), &real, UINT64_MAX, &c[i], NULL) == 0);
		if (i < 2)
			HEAR(c[i], "NBDMAGICIHAVEOPT\0\3");
	}
	hear_end(c[2]);
	for (unsigned i = 0; i < 3; i++)
		stream_close(c[i]);
	server_end(s);
}

#define ON_LOOP(name)                                                                                                  \
	static void name(void **state)                                                                                 \
	{                                                                                                              \
		(void)state;                                                                                           \
		on_every_backend(name##_body);                                                                         \
	}

ON_LOOP(writes_and_reads_of_any_size_carry_their_bytes)
ON_LOOP(a_burst_of_writes_keeps_every_payload_until_its_provider_is_done)
ON_LOOP(every_command_reaches_the_provider_with_its_flags)
ON_LOOP(refused_writes_leave_the_stream_in_step)
ON_LOOP(errors_of_the_provider_come_as_chunks_with_text)
ON_LOOP(structured_reads_tell_holes_and_df_does_not)
ON_LOOP(block_status_joins_neighbours_and_obeys_req_one)
ON_LOOP(block_status_answers_at_least_one_extent_and_not_more_than_fit)
ON_LOOP(beyond_the_bound_on_requests_the_socket_is_not_read)
ON_LOOP(beyond_the_bound_on_bytes_the_socket_is_not_read)
ON_LOOP(disconnect_waits_for_what_is_under_way)
ON_LOOP(a_client_that_vanishes_leaves_its_requests_to_finish)
ON_LOOP(bytes_that_make_no_sense_end_the_connection)
ON_LOOP(a_stop_answers_what_runs_and_leaves_what_comes_to_the_next_server)
ON_LOOP(a_session_serves_an_export_in_its_new_size)
ON_LOOP(a_stop_does_not_wait_for_a_client_that_takes_no_replies_or_sends_half_a_write)
ON_LOOP(a_request_that_outlives_the_server_frees_what_it_holds)
ON_LOOP(sessions_are_told_with_what_they_did)
ON_LOOP(a_listener_serves_and_holds_strangers_back_at_its_limits)
ON_LOOP(one_host_gets_only_its_share_of_handshakes)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(writes_and_reads_of_any_size_carry_their_bytes),
	    cmocka_unit_test(a_burst_of_writes_keeps_every_payload_until_its_provider_is_done),
	    cmocka_unit_test(every_command_reaches_the_provider_with_its_flags),
	    cmocka_unit_test(refused_writes_leave_the_stream_in_step),
	    cmocka_unit_test(errors_of_the_provider_come_as_chunks_with_text),
	    cmocka_unit_test(structured_reads_tell_holes_and_df_does_not),
	    cmocka_unit_test(block_status_joins_neighbours_and_obeys_req_one),
	    cmocka_unit_test(block_status_answers_at_least_one_extent_and_not_more_than_fit),
	    cmocka_unit_test(beyond_the_bound_on_requests_the_socket_is_not_read),
	    cmocka_unit_test(beyond_the_bound_on_bytes_the_socket_is_not_read),
	    cmocka_unit_test(disconnect_waits_for_what_is_under_way),
	    cmocka_unit_test(a_client_that_vanishes_leaves_its_requests_to_finish),
	    cmocka_unit_test(bytes_that_make_no_sense_end_the_connection),
	    cmocka_unit_test(a_stop_answers_what_runs_and_leaves_what_comes_to_the_next_server),
	    cmocka_unit_test(a_session_serves_an_export_in_its_new_size),
	    cmocka_unit_test(a_stop_does_not_wait_for_a_client_that_takes_no_replies_or_sends_half_a_write),
	    cmocka_unit_test(a_request_that_outlives_the_server_frees_what_it_holds),
	    cmocka_unit_test(sessions_are_told_with_what_they_did),
	    cmocka_unit_test(a_listener_serves_and_holds_strangers_back_at_its_limits),
	    cmocka_unit_test(one_host_gets_only_its_share_of_handshakes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
