/* Calls over core/rpc: results, order, groups, cancelling; over real unix sockets and over streams in memory. */
#include "rpc_fixture.h"

/* ---- calls ---- */

BOTH(a_call_brings_back_result_payload_and_epoch)
{
	struct rpc_client *c = client_new(net, NULL);
	char text[] = "some bytes";
	struct iovec v[] = {{text, 4}, {text + 4, 6}};
	u_int value = 41, result = 0;
	struct rpc_call call = echo_call(&value, &result);

	rpc_client_set_session(c, 7);
	call.payload = v;
	call.payload_n = 2;
	assert_int_equal(rpc_call_sync(c, &call), 0);
	assert_int_equal(result, 42);
	assert_int_equal(call.epoch, 107);
	assert_int_equal(call.payload_in.len, 10);
	assert_memory_equal(call.payload_in.ptr, text, 10);
	rpc_call_release(&call);
	assert_null(call.payload_in.owner);
	rpc_client_free(c);
}

BOTH(a_failed_request_carries_its_status)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call call = {.type = T_FENCED};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_FENCED);
	assert_true(rpc_client_up(c));
	rpc_client_free(c);
}

BOTH(a_body_that_does_not_decode_is_refused_and_the_connection_lives)
{
	struct rpc_client *c = client_new(net, NULL);
	u_quad_t trailing = 1;
	u_int value = 1, result = 0;
	struct rpc_call bad = {.type = T_ECHO, .args_proc = (xdrproc_t)xdr_u_int64_t, .args = &trailing};
	struct rpc_call empty = {.type = T_ECHO};
	struct rpc_call good = echo_call(&value, &result);

	assert_int_equal(rpc_call_sync(c, &bad), -MYFS_E_PROTO);
	assert_int_equal(rpc_call_sync(c, &empty), -MYFS_E_PROTO);
	assert_int_equal(rpc_call_sync(c, &good), 0);
	rpc_client_free(c);
}

BOTH(a_handler_without_an_answer_does_not_leave_the_caller_waiting)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call call = {.type = T_SILENT};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_PROTO);
	rpc_client_free(c);
}

BOTH(payloads_up_to_the_limit_travel_both_ways)
{
	static const u_int sizes[] = {1, 4096, 65536, 262144 - 48 - 4, 262144, 1048576, RPC_PAYLOAD_MAX};
	static uint8_t out[RPC_PAYLOAD_MAX];
	struct rpc_client *c = client_new(net, NULL);

	for (size_t i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct iovec v = {out, sizes[i]};
		u_int value = sizes[i], result = 0;
		struct rpc_call fill = {.type = T_FILL, .args_proc = (xdrproc_t)xdr_u_int, .args = &value};
		struct rpc_call echo = echo_call(&value, &result);

		assert_int_equal(rpc_call_sync(c, &fill), 0);
		assert_int_equal(fill.payload_in.len, sizes[i]);
		assert_memory_equal(fill.payload_in.ptr, out, sizes[i]);
		rpc_call_release(&fill);
		echo.payload = &v;
		echo.payload_n = 1;
		assert_int_equal(rpc_call_sync(c, &echo), 0);
		assert_memory_equal(echo.payload_in.ptr, out, sizes[i]);
		rpc_call_release(&echo);
	}
	rpc_client_free(c);
}

BOTH(what_does_not_fit_a_frame_is_refused_without_harm)
{
	static uint8_t out[RPC_PAYLOAD_MAX + 1];
	static char big[RPC_BODY_MAX + 1];
	struct rpc_client *c = client_new(net, NULL);
	struct iovec v = {out, sizeof(out)};
	char *text = big;
	u_int value = 1, result = 0;

	memset(big, 'x', sizeof(big) - 1);
	struct rpc_call payload = {.type = T_SILENT, .payload = &v, .payload_n = 1};
	struct rpc_call body = {.type = T_SILENT, .args_proc = (xdrproc_t)xdr_wrapstring, .args = &text};
	struct rpc_call huge_reply = {.type = T_HUGE_BODY};
	struct rpc_call good = echo_call(&value, &result);
	assert_int_equal(rpc_call_sync(c, &payload), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &body), -EMSGSIZE);
	assert_int_equal(rpc_post(c, T_NOTE, (xdrproc_t)xdr_wrapstring, &text, NULL, 0), -EMSGSIZE);
	assert_int_equal(rpc_post(c, T_NOTE, NULL, NULL, &v, 1), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &huge_reply), -EMSGSIZE);
	assert_int_equal(rpc_call_sync(c, &good), 0);
	rpc_client_free(c);
}

BOTH(a_body_larger_than_the_arena_still_travels)
{
	struct rpc_client *c = client_new(net, NULL);
	bp_decide_args args = {.txs = {.txs_len = BP_MAX_TX, .txs_val = calloc(BP_MAX_TX, sizeof(bp_tx))}};
	struct rpc_call call = {.type = T_ECHO, .args_proc = (xdrproc_t)xdr_bp_decide_args, .args = &args};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_PROTO); /* arrived, and is no u_int */
	free(args.txs.txs_val);
	rpc_client_free(c);
}

BOTH(the_longest_list_of_missed_regions_fits_a_frame)
{
	struct rpc_client *c = client_new(net, NULL);
	bp_view_args args = {
	    .view.boot = {.boot_len = BP_MAX_BRICKS, .boot_val = calloc(BP_MAX_BRICKS, sizeof(bp_uuid))},
	    .missed = {.missed_len = BP_MAX_MISSED, .missed_val = calloc(BP_MAX_MISSED, sizeof(bp_missed))}};
	struct rpc_call call = {.type = T_ECHO, .args_proc = (xdrproc_t)xdr_bp_view_args, .args = &args};

	assert_int_equal(rpc_call_sync(c, &call), -MYFS_E_PROTO); /* arrived, and is no u_int */
	free(args.view.boot.boot_val);
	free(args.missed.missed_val);
	rpc_client_free(c);
}

/* ---- order ---- */

BOTH(frames_are_handled_in_the_order_they_were_sent)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call calls[4];
	u_int values[8];
	struct rpc_group g;

	rpc_group_init(&g);
	for (u_int i = 0; i < 8; i++) {
		values[i] = i;
		if (i % 2) {
			calls[i / 2] =
			    (struct rpc_call){.type = T_NOTE, .args_proc = (xdrproc_t)xdr_u_int, .args = &values[i]};
			rpc_call_start(c, &calls[i / 2], &g);
		} else {
			assert_int_equal(rpc_post(c, T_NOTE, (xdrproc_t)xdr_u_int, &values[i], NULL, 0), 0);
		}
	}
	assert_int_equal(rpc_group_wait_all(&g), 4);
	assert_int_equal(S.notes_n, 8);
	for (u_int i = 0; i < 8; i++)
		assert_int_equal(S.notes[i], i);
	rpc_client_free(c);
}

BOTH(a_handler_runs_up_to_its_first_suspend_before_the_next_frame)
{
	struct rpc_client *c = client_new(net, NULL);
	struct rpc_call calls[2];
	u_int values[2] = {1, 2};
	struct rpc_group g;

	rpc_group_init(&g);
	for (int i = 0; i < 2; i++) {
		calls[i] =
		    (struct rpc_call){.type = T_NOTE_PARK, .args_proc = (xdrproc_t)xdr_u_int, .args = &values[i]};
		rpc_call_start(c, &calls[i], &g);
	}
	rpc_group_wait_all(&g);
	static const unsigned expect[] = {1, 2, 1001, 1002};
	assert_memory_equal(S.notes, expect, sizeof(expect));
	rpc_client_free(c);
}

BOTH(replies_may_overtake_each_other)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r1 = 0, r2 = 0;
	struct rpc_call slow = echo_call(&v, &r1), fast = echo_call(&v, &r2);
	struct rpc_group g, g2;

	slow.type = T_GATE;
	rpc_group_init(&g);
	rpc_group_init(&g2);
	rpc_call_start(c, &slow, &g);
	rpc_call_start(c, &fast, &g2);
	assert_int_equal(rpc_group_wait_all(&g2), 1);
	assert_false(slow.ended);
	assert_true(rpc_client_oldest_ns(c) > 0);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&g), 1);
	assert_int_equal(rpc_client_oldest_ns(c), 0);
	rpc_client_free(c);
}

BOTH(many_outstanding_calls_all_find_their_reply)
{
	enum { N = 3000 };
	static struct rpc_call calls[N];
	static u_int values[N], results[N];
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 5, r = 0;
	struct rpc_call slow = echo_call(&v, &r);
	struct rpc_group g, gs;

	rpc_group_init(&gs);
	slow.type = T_GATE;
	rpc_call_start(c, &slow, &gs); /* the oldest stays, the table must grow around it */
	rpc_group_init(&g);
	for (u_int i = 0; i < N; i++) {
		values[i] = i * 3;
		results[i] = 0;
		calls[i] = echo_call(&values[i], &results[i]);
		rpc_call_start(c, &calls[i], &g);
	}
	assert_int_equal(rpc_group_wait_all(&g), N);
	for (u_int i = 0; i < N; i++)
		assert_int_equal(results[i], i * 3 + 1);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&gs), 1);
	rpc_client_free(c);
}

/* ---- groups ---- */

BOTH(a_group_wait_ends_when_enough_calls_ended_well)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r[3] = {0};
	struct rpc_call calls[3];
	struct rpc_group g;

	rpc_group_init(&g);
	for (int i = 0; i < 3; i++) {
		calls[i] = echo_call(&v, &r[i]);
		calls[i].type = i == 0 ? T_GATE : T_ECHO;
		rpc_call_start(c, &calls[i], &g);
	}
	assert_int_equal(rpc_group_wait(&g, 2, UINT64_MAX), 2);
	assert_false(calls[0].ended);
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_group_wait_all(&g), 3);
	rpc_client_free(c);
}

BOTH(a_group_wait_ends_when_enough_has_become_impossible)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call good = echo_call(&v, &r), bad = {.type = T_FENCED};
	struct rpc_group g;

	rpc_group_init(&g);
	rpc_call_start(c, &bad, &g);
	rpc_call_start(c, &good, &g);
	assert_int_equal(rpc_group_wait(&g, 2, UINT64_MAX), 1);
	assert_int_equal(g.ended, 2);
	rpc_client_free(c);
}

BOTH(a_group_wait_ends_at_its_deadline)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	assert_int_equal(rpc_group_wait(&g, 1, loop_now_ns() + NS_PER_MS), 0);
	assert_false(call.ended);
	rpc_call_cancel(&call);
	assert_int_equal(rpc_group_wait_all(&g), 0);
	rpc_client_free(c);
}

/* ---- cancel ---- */

BOTH(a_cancelled_calls_reply_is_dropped_and_the_connection_goes_on)
{
	struct rpc_client *c = client_new(net, NULL);
	u_int v = 1, r = 0;
	struct rpc_call call = echo_call(&v, &r), next = echo_call(&v, &r);
	struct rpc_group g;

	call.type = T_GATE;
	rpc_group_init(&g);
	rpc_call_start(c, &call, &g);
	settle();
	rpc_call_cancel(&call);
	assert_int_equal(call.rc, -ECANCELED);
	assert_int_equal(g.ended, 1);
	memset(&call, 0xee, sizeof(call)); /* its memory is the caller's again */
	S.gate_open = true;
	waitq_wake_all(&S.gate);
	assert_int_equal(rpc_call_sync(c, &next), 0);
	assert_int_equal(r, 2);
	rpc_client_free(c);
}

BOTH(a_call_cancelled_before_it_was_sent_goes_out_with_the_bytes_it_had)
{
	struct rpc_client *c = client_new(net, NULL);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1}, sync = {.type = T_FENCED};

	rpc_call_start(c, &call, NULL);
	rpc_call_cancel(&call);
	memset(bytes, 'X', 8);
	assert_int_equal(rpc_call_sync(c, &sync), -MYFS_E_FENCED); /* frames stay in step */
	assert_true(rpc_client_up(c));
	rpc_client_free(c);
}

MEMORY(a_call_cancelled_while_the_kernel_sends_it_ends_the_connection)
{
	struct down down = {0};
	struct rpc_client *c = client_new(net, &down);
	char bytes[8] = "precious";
	struct iovec v = {bytes, 8};
	struct rpc_call call = {.type = T_SILENT, .payload = &v, .payload_n = 1};

	S.net.last_client->send_held = true;
	rpc_call_start(c, &call, NULL);
	settle();
	rpc_call_cancel(&call);
	assert_false(rpc_client_up(c));
	settle();
	assert_int_equal(down.times, 1);
	rpc_client_free(c);
}

/* ---- decoding without allocation ---- */

static void arrays_decode_into_memory_of_the_caller(void **state)
{
	uint8_t body[4096];
	u_int crc[BP_MAX_ROWS_PAYLOAD], in[3] = {1, 2, 3};
	bp_read_res out = {.zero = FALSE, .crc = {.crc_len = 3, .crc_val = in}};
	XDR x;

	(void)state;
	xdrmem_create(&x, (char *)body, sizeof(body), XDR_ENCODE);
	assert_true(xdr_bp_read_res(&x, &out));
	struct rpc_request req = {.body = body, .body_len = xdr_getpos(&x)};
	bp_read_res got = {.crc = {.crc_val = crc}};
	assert_int_equal(rpc_decode_into(&req, (xdrproc_t)xdr_bp_read_res, &got), 0);
	assert_ptr_equal(got.crc.crc_val, crc);
	assert_int_equal(got.crc.crc_len, 3);
	assert_int_equal(crc[2], 3);

	body[4] = 0x7f; /* a count past the bound must not be believed */
	got = (bp_read_res){.crc = {.crc_val = crc}};
	assert_int_equal(rpc_decode_into(&req, (xdrproc_t)xdr_bp_read_res, &got), -MYFS_E_PROTO);
	req.body_len--;
	got = (bp_read_res){0};
	assert_int_equal(rpc_decode(&req, (xdrproc_t)xdr_bp_read_res, &got), -MYFS_E_PROTO);
	assert_null(got.crc.crc_val);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_call_brings_back_result_payload_and_epoch),
	    cmocka_unit_test(a_failed_request_carries_its_status),
	    cmocka_unit_test(a_body_that_does_not_decode_is_refused_and_the_connection_lives),
	    cmocka_unit_test(a_handler_without_an_answer_does_not_leave_the_caller_waiting),
	    cmocka_unit_test(payloads_up_to_the_limit_travel_both_ways),
	    cmocka_unit_test(what_does_not_fit_a_frame_is_refused_without_harm),
	    cmocka_unit_test(a_body_larger_than_the_arena_still_travels),
	    cmocka_unit_test(the_longest_list_of_missed_regions_fits_a_frame),
	    cmocka_unit_test(frames_are_handled_in_the_order_they_were_sent),
	    cmocka_unit_test(a_handler_runs_up_to_its_first_suspend_before_the_next_frame),
	    cmocka_unit_test(replies_may_overtake_each_other),
	    cmocka_unit_test(many_outstanding_calls_all_find_their_reply),
	    cmocka_unit_test(a_group_wait_ends_when_enough_calls_ended_well),
	    cmocka_unit_test(a_group_wait_ends_when_enough_has_become_impossible),
	    cmocka_unit_test(a_group_wait_ends_at_its_deadline),
	    cmocka_unit_test(a_cancelled_calls_reply_is_dropped_and_the_connection_goes_on),
	    cmocka_unit_test(a_call_cancelled_before_it_was_sent_goes_out_with_the_bytes_it_had),
	    cmocka_unit_test(a_call_cancelled_while_the_kernel_sends_it_ends_the_connection),
	    cmocka_unit_test(arrays_decode_into_memory_of_the_caller),
	};
	return cmocka_run_group_tests_name("rpc", tests, NULL, NULL);
}
