/* How connections of core/rpc end: by loss, by choice, by misbehaving peers, by limits; and who is let in. */
#include "rpc_fixture.h"

/* ---- the end of a connection ---- */

struct ending {
	unsigned *order, *n;
	unsigned id;
	struct rpc_client *close, *restart_on;
	struct rpc_call again;
};

static void note_ending(struct rpc_call *call)
{
	struct ending *e = call->user;

	e->order[(*e->n)++] = e->id;
	if (e->close)
		rpc_client_close(e->close);
	if (e->restart_on) {
		e->again = (struct rpc_call){.type = T_ECHO};
		rpc_call_start(e->restart_on, &e->again, NULL);
	}
}

BOTH(losing_the_connection_ends_every_call_in_order_and_then_tells_the_owner)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[5], n = 0;
	struct rpc_call calls[5];
	struct ending endings[5];
	u_int v = 1, r = 0;
	struct rpc_group g;

	rpc_group_init(&g);
	for (unsigned i = 0; i < 5; i++) {
		calls[i] = echo_call(&v, &r);
		calls[i].type = T_GATE;
		endings[i] = (struct ending){.order = order, .n = &n, .id = i};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], &g);
	}
	while (S.handled < 5)
		fiber_yield();
	rpc_conn_close(S.last_conn);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(n, 5);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(order[i], i);
		assert_int_equal(calls[i].rc, -MYFS_E_GONE);
	}
	while (down.times == 0)
		fiber_yield();
	assert_string_equal(down.why, "peer closed the connection");
	assert_false(rpc_client_up(c));
	rpc_client_free(c);
	assert_int_equal(down.times, 1);
}

BOTH(a_call_on_a_dead_connection_ends_later_not_inside_start)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	struct rpc_call call = {.type = T_ECHO}, bye = {.type = T_REPLY_AND_CLOSE};
	struct rpc_group g;

	assert_int_equal(rpc_call_sync(c, &bye), 0); /* the last reply still arrives */
	while (down.times == 0)
		fiber_yield();
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	assert_false(call.ended);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(call.rc, -MYFS_E_GONE);
	assert_int_equal(rpc_post(c, T_NOTE, NULL, NULL, NULL, 0), -MYFS_E_GONE);
	rpc_client_free(c);
}

BOTH(closing_ends_calls_before_it_returns_and_tells_nobody)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);

	call.type = T_GATE;
	rpc_call_start(c, &call, NULL);
	settle();
	rpc_client_close(c);
	assert_true(call.ended);
	assert_int_equal(call.rc, -MYFS_E_GONE);
	settle();
	assert_int_equal(down.times, 0);
	rpc_client_close(c);
	rpc_client_free(c);
}

BOTH(a_callback_may_close_the_client_while_calls_end)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[3], n = 0;
	struct rpc_call calls[3];
	struct ending endings[3];

	for (unsigned i = 0; i < 3; i++) {
		calls[i] = (struct rpc_call){.type = i == 0 ? T_FENCED : T_SILENT};
		endings[i] = (struct ending){.order = order, .n = &n, .id = i, .close = i == 0 ? c : NULL};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], NULL);
	}
	while (n < 3)
		fiber_yield();
	assert_int_equal(calls[0].rc, -MYFS_E_FENCED);
	assert_int_equal(calls[2].rc, -MYFS_E_GONE);
	settle();
	assert_int_equal(down.times, 0);
	rpc_client_free(c);
}

BOTH(a_callback_that_tries_again_on_a_dead_connection_does_not_hold_the_loop)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	unsigned order[4], n = 0;
	struct rpc_call calls[2] = {{.type = T_GATE}, {.type = T_GATE}};
	struct ending endings[2];

	for (unsigned i = 0; i < 2; i++) {
		endings[i] = (struct ending){.order = order, .n = &n, .id = i, .restart_on = c};
		calls[i].done = note_ending;
		calls[i].user = &endings[i];
		rpc_call_start(c, &calls[i], NULL);
	}
	while (S.handled < 2)
		fiber_yield();
	rpc_conn_close(S.last_conn);
	while (!endings[1].again.ended)
		fiber_yield();
	assert_int_equal(endings[1].again.rc, -MYFS_E_GONE);
	assert_int_equal(down.times, 1);
	rpc_client_free(c);
}

BOTH(the_owner_may_free_the_client_when_told_that_it_is_down)
{
	struct down down = {.free_it = true};
	struct rpc_client *c = client_new(net, &down);
	struct rpc_call bye = {.type = T_REPLY_AND_CLOSE};

	assert_int_equal(rpc_call_sync(c, &bye), 0);
	while (down.times == 0)
		fiber_yield();
	settle();
}

BOTH(freeing_right_after_connecting_is_fine)
{
	rpc_client_free(client_new(net, NULL));
	rpc_client_free(NULL);
	settle();
}

/* ---- misbehaving peers ---- */

static struct stream *raw_connect(struct net *net)
{
	struct stream *s = NULL;
	struct err e = ERR_INIT;

	assert_int_equal(net_connect(net, &S.address, loop_now_ns() + 5 * NS_PER_S, &s, &e), 0);
	return s;
}

static void raw_send(struct stream *s, const void *p, size_t len)
{
	struct iovec v = {(void *)(uintptr_t)p, len};

	(void)stream_send(s, &v, 1);
}

/* A valid request frame with a 4-byte body. */
static size_t frame_make(uint8_t out[128], uint16_t type, uint16_t flags, uint64_t seq)
{
	struct frame_header h = {.type = type, .flags = flags, .seq = seq, .body_len = 4};

	memset(out + RPC_HEADER_BYTES, 0, 4);
	frame_header_write(out, &h);
	return RPC_HEADER_BYTES + 4;
}

BOTH(broken_frames_end_the_connection_and_nothing_else)
{
	static const struct {
		size_t offset;
		uint8_t value;
	} damage[] = {
	    {0, 'X'},     /* magic */
	    {7, 0x80},    /* unknown flag */
	    {7, 0x03},    /* reply and one-way at once */
	    {7, 0x01},    /* a reply to a server: crc is wrong too */
	    {8, 0xff},    /* crc */
	    {12, 0xff},   /* body length */
	    {40, 0xff},   /* payload length */
	    {47, 0x01},   /* status in a request */
	    {44, 0x01},   /* status out of range */
	    {49, 0x77},   /* body damaged */
	};

	for (size_t i = 0; i < ARRAY_LEN(damage); i++) {
		uint8_t f[128];
		size_t len = frame_make(f, T_ECHO, 0, 1);
		struct stream *s = raw_connect(net);

		f[damage[i].offset] = damage[i].value;
		raw_send(s, f, len);
		uint8_t b;
		assert_true(stream_recv(s, &b, 1) <= 0);
		stream_close(s);
	}
	assert_int_equal(S.handled, 0);
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	assert_int_equal(rpc_call_sync(c, &call), 0);
	rpc_client_free(c);
}

BOTH(a_frame_that_says_reply_ends_a_server_connection)
{
	uint8_t f[128], b;
	struct stream *s = raw_connect(net);

	raw_send(s, f, frame_make(f, T_ECHO, RPC_FLAG_REPLY, 1));
	assert_true(stream_recv(s, &b, 1) <= 0);
	stream_close(s);
}

BOTH(frames_arriving_one_byte_at_a_time_are_put_together)
{
	uint8_t f[128], reply[RPC_HEADER_BYTES + 4];
	size_t len = frame_make(f, T_ECHO, 0, 9);
	struct stream *s = raw_connect(net);

	for (size_t i = 0; i < len; i++) {
		raw_send(s, f + i, 1);
		fiber_yield();
	}
	assert_int_equal(stream_recv_full(s, reply, sizeof(reply)), 0);
	struct frame_header h;
	const char *why;
	assert_int_equal(frame_header_parse(reply, &h, &why), 0);
	assert_int_equal(h.seq, 9);
	assert_int_equal(h.flags, RPC_FLAG_REPLY);
	stream_close(s);
}

BOTH(a_two_way_type_sent_one_way_gets_no_reply)
{
	uint8_t f[128], reply[RPC_HEADER_BYTES + 4];
	struct stream *s = raw_connect(net);

	raw_send(s, f, frame_make(f, T_ECHO, RPC_FLAG_ONEWAY, 1));
	raw_send(s, f, frame_make(f, T_ECHO, 0, 2));
	assert_int_equal(stream_recv_full(s, reply, sizeof(reply)), 0);
	assert_int_equal(reply[31], 2);
	stream_close(s);
}

/* A server that is the test itself: accepts one stream on the memory net. */
static void reply_make(struct mem_stream *to, uint16_t type, uint16_t flags, uint64_t seq, uint32_t status)
{
	uint8_t f[RPC_HEADER_BYTES];
	struct frame_header h = {.type = type, .flags = flags, .seq = seq, .status = status};

	frame_header_write(f, &h);
	raw_send(&to->base, f, sizeof(f));
}

/* A client whose peer end the test plays: the server under test does not see it. */
static struct rpc_client *client_against_test(struct net *net, struct down *down, struct mem_stream **ret_peer)
{
	struct rpc_client *c = client_new(net, down);

	S.net.waiting_n = 0;
	*ret_peer = S.net.last_server;
	return c;
}

MEMORY(a_reply_nobody_asked_for_ends_the_connection)
{
	static const struct {
		uint16_t type, flags;
		uint64_t seq;
		const char *why;
	} bad[] = {
	    {T_ECHO, RPC_FLAG_REPLY, 2, "peer sent something that is no reply to a request of ours"},
	    {T_ECHO, 0, 1, "peer sent something that is no reply to a request of ours"},
	    {T_NOTE, RPC_FLAG_REPLY, 1, "peer sent a malformed reply"},
	    {T_ECHO, RPC_FLAG_REPLY, 1, "peer sent a malformed reply"}, /* body missing */
	};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct down down = {0};
		struct mem_stream *peer;
		struct rpc_client *c = client_against_test(net, &down, &peer);
		u_int v = 1, r = 0;
		struct rpc_call call = echo_call(&v, &r);

		rpc_call_start(c, &call, NULL);
		settle();
		reply_make(peer, bad[i].type, bad[i].flags, bad[i].seq, 0);
		while (down.times == 0)
			fiber_yield();
		assert_string_equal(down.why, bad[i].why);
		assert_true(call.ended && call.rc < 0);
		rpc_client_free(c);
		stream_close(&peer->base);
	}
}

MEMORY(a_reply_before_the_request_was_sent_does_not_end_the_call_early)
{
	struct mem_stream *peer;
	struct rpc_client *c = client_against_test(net, NULL, &peer);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1};
	struct rpc_group g;

	rpc_group_init(&g);
	S.net.last_client->send_held = true;
	rpc_call_start(c, &call, &g);
	settle();
	reply_make(peer, T_SILENT, RPC_FLAG_REPLY, 1, 0);
	settle();
	assert_false(call.ended); /* its payload is still being read */
	S.net.last_client->send_held = false;
	waitq_wake_all(&S.net.last_client->q);
	assert_int_equal(rpc_group_wait_all(&g), 1);
	rpc_client_free(c);
	stream_close(&peer->base);
}

MEMORY(a_peer_that_does_not_read_is_cut_off_at_the_output_limit)
{
	static uint8_t mib[1048576];
	struct down down = {0};
	struct mem_stream *peer;
	struct rpc_client *c = client_against_test(net, &down, &peer);
	struct iovec v = {mib, sizeof(mib)};
	static struct rpc_call calls[80];
	struct rpc_group g;

	rpc_group_init(&g);
	S.net.last_client->send_held = true;
	for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
		calls[i] = (struct rpc_call){.type = T_SILENT, .payload = &v, .payload_n = 1};
		rpc_call_start(c, &calls[i], &g);
	}
	assert_false(rpc_client_up(c));
	assert_int_equal(rpc_group_wait_all(&g), 0);
	assert_int_equal(g.ended, 80);
	while (down.times == 0)
		fiber_yield();
	assert_string_equal(down.why, "peer does not read, output limit reached");
	rpc_client_free(c);
	stream_close(&peer->base);
}

/* ---- limits and admission of the server ---- */

MEMORY(a_server_stops_reading_when_too_many_requests_are_unfinished)
{
	enum { N = 5000 };
	uint8_t f[128];
	struct stream *s = raw_connect(net);
	uint8_t *all = malloc((size_t)N * (RPC_HEADER_BYTES + 4));
	size_t len = 0;

	for (unsigned i = 0; i < N; i++) {
		size_t n = frame_make(f, T_GATE, 0, i);
		memcpy(all + len, f, n);
		len += n;
	}
	raw_send(s, all, len);
	free(all);
	settle();
	assert_int_equal(S.handled, 4096);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(stream_recv_full(s, f, RPC_HEADER_BYTES + 4), 0);
	assert_int_equal(S.handled, N);
	stream_close(s);
}

MEMORY(a_server_stops_reading_from_a_client_that_does_not_take_its_replies)
{
	enum { N = 40 };
	u_int size = htonl(RPC_PAYLOAD_MAX);
	uint8_t f[128];
	struct stream *s = raw_connect(net);

	settle();
	S.net.last_server->send_held = true;
	for (unsigned i = 0; i < N; i++) {
		struct frame_header h = {.type = T_FILL, .seq = i, .body_len = 4};
		memcpy(f + RPC_HEADER_BYTES, &size, 4);
		frame_header_write(f, &h);
		raw_send(s, f, RPC_HEADER_BYTES + 4);
	}
	settle();
	assert_in_range(S.handled, 8, 10); /* 8 MiB of replies wait */
	S.net.last_server->send_held = false;
	waitq_wake_all(&S.net.last_server->q);
	settle();
	while (S.handled < N)
		fiber_yield();
	stream_close(s);
}

MEMORY(a_unix_peer_of_another_user_is_turned_away)
{
	struct down down = {0};

	S.net.uid = getuid() + 4711;
	struct rpc_client *c = client_new(net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(S.opened, 0);
	rpc_client_free(c);

	S.net.uid = 0; /* root may */
	c = client_new(net, NULL);
	struct rpc_call call = {.type = T_FENCED};
	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_FENCED);
	rpc_client_free(c);
}

MEMORY(tcp_without_a_key_is_neither_listened_on_nor_accepted)
{
	struct address a = {.kind = ADDRESS_TCP, .host = "127.0.0.1"};
	struct err e = ERR_INIT;
	struct down down = {0};

	assert_int_equal(rpc_server_listen(S.server, &a, NULL, &e), -EACCES);
	assert_string_equal(e.text, "listen on tcp:127.0.0.1:0: TCP needs a cluster key");
	S.net.tcp = true;
	struct rpc_client *c = client_new(net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(S.opened, 0);
	rpc_client_free(c);
}

MEMORY(connections_beyond_the_limit_are_closed)
{
	struct mem_net other;
	struct rpc_server *limited;
	struct rpc_server_config cfg = server_config(&other.net);
	struct down down = {0};
	struct rpc_call call = {.type = T_FENCED};

	(void)net;
	mem_net_init(&other);
	other.uid = getuid();
	cfg.max_conns = 1;
	assert_int_equal(rpc_server_new(&cfg, &limited), 0);
	assert_int_equal(rpc_server_listen(limited, &S.address, NULL, NULL), 0);
	struct rpc_client *first = client_new(&other.net, NULL);
	assert_int_equal(rpc_call_sync(first, &call), -MYFS_E_FENCED);
	struct rpc_client *second = client_new(&other.net, &down);
	while (down.times == 0)
		fiber_yield();
	assert_int_equal(rpc_call_sync(first, &call), -MYFS_E_FENCED);
	rpc_client_free(first);
	rpc_client_free(second);
	rpc_server_stop(limited);
	rpc_server_free(limited);
}

BOTH(stopping_waits_for_handlers_and_ends_connections)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	while (S.handled == 0)
		fiber_yield();
	server_stop(); /* opens the gate, too */
	assert_int_equal(S.closed, 1);
	rpc_group_wait_all(&g);
	rpc_client_free(c);
	S.opened = S.closed = 0;
	server_start(net, NULL); /* for the frame of the test */
	S.net.stopped = false;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(losing_the_connection_ends_every_call_in_order_and_then_tells_the_owner),
	    cmocka_unit_test(a_call_on_a_dead_connection_ends_later_not_inside_start),
	    cmocka_unit_test(closing_ends_calls_before_it_returns_and_tells_nobody),
	    cmocka_unit_test(a_callback_may_close_the_client_while_calls_end),
	    cmocka_unit_test(a_callback_that_tries_again_on_a_dead_connection_does_not_hold_the_loop),
	    cmocka_unit_test(the_owner_may_free_the_client_when_told_that_it_is_down),
	    cmocka_unit_test(freeing_right_after_connecting_is_fine),
	    cmocka_unit_test(broken_frames_end_the_connection_and_nothing_else),
	    cmocka_unit_test(a_frame_that_says_reply_ends_a_server_connection),
	    cmocka_unit_test(frames_arriving_one_byte_at_a_time_are_put_together),
	    cmocka_unit_test(a_two_way_type_sent_one_way_gets_no_reply),
	    cmocka_unit_test(a_reply_nobody_asked_for_ends_the_connection),
	    cmocka_unit_test(a_reply_before_the_request_was_sent_does_not_end_the_call_early),
	    cmocka_unit_test(a_peer_that_does_not_read_is_cut_off_at_the_output_limit),
	    cmocka_unit_test(a_server_stops_reading_when_too_many_requests_are_unfinished),
	    cmocka_unit_test(a_server_stops_reading_from_a_client_that_does_not_take_its_replies),
	    cmocka_unit_test(a_unix_peer_of_another_user_is_turned_away),
	    cmocka_unit_test(tcp_without_a_key_is_neither_listened_on_nor_accepted),
	    cmocka_unit_test(connections_beyond_the_limit_are_closed),
	    cmocka_unit_test(stopping_waits_for_handlers_and_ends_connections),
	};
	return cmocka_run_group_tests_name("rpc_ends", tests, NULL, NULL);
}
