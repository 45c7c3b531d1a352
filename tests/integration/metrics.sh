#!/usr/bin/env bash
# /metrics of gateway and bricks is well-formed and counts what was done, no more and no less; `myfs top` shows the same while it happens.
. "$(dirname "$0")/lib.sh"
export MYFS_REGISTRY=$work/registry.db
check() { python3 "$tests/metrics_check.py" "$@"; }
tests=$(cd "$(dirname "$0")" && pwd)
start() { "$@" 2>>"$work/log" & helpers+=($!); }
is() { # what want got
  [[ $2 == "$3" ]] || die "$1: $3 instead of $2"
}

for n in 1 2 3; do
  myfs node add -q "node$n" "unix:$work/n$n" "unix:$work/c$n"
  start myfs-brickd --registry "$MYFS_REGISTRY" --node "node$n" --control "unix:$work/c$n" --metrics "unix:$work/m$n"
done
for n in 1 2 3; do until_ok 10 test -S "$work/m$n"; done
myfs volume create -q vol --layout 2+1 --journal 16M node1:"$work/b1" node2:"$work/b2" node3:"$work/b3"
start myfs-blockd --registry "$MYFS_REGISTRY" --name gw --control "unix:$work/gw" --nbd "unix:$work/nbd" --metrics tcp:127.0.0.1:0
until_ok 10 grep -q 'serving /metrics on tcp:127' "$work/log"
url=http://$(sed -n 's/.*serving \/metrics on tcp:\(127[0-9.:]*\).*/\1/p' "$work/log")/metrics
until_ok 20 myfs-block create -q --if-missing vol/lun 64M
uri="nbd+unix:///vol/lun?socket=$work/nbd"

step "pages are well-formed before anything was done"
check "$url"
for n in 1 2 3; do check "unix:$work/m$n"; done

step "20 writes, 10 reads, 3 flushes, 2 trims and nothing else"
lun='volume="vol",lun="lun"'
nbdsh -u "$uri" -c '
for i in range(20): h.pwrite(bytes([i]) * 4096, i * 65536)
for i in range(10): assert h.pread(8192, i * 65536)[0] == i
for i in range(3): h.flush()
h.trim(65536, 0)
h.trim(131072, 1 << 20)
try: h.set_strict_mode(0); h.pread(4096, 64 << 20)
except nbd.Error: pass
else: raise SystemExit("read past the end")
'
ops=myfs_lun_operation_duration_seconds_count
is writes 20 "$(check "$url" "$ops{$lun,op=\"write\"}")"
is reads 10 "$(check "$url" "$ops{$lun,op=\"read\"}")"
is flushes 3 "$(check "$url" "$ops{$lun,op=\"flush\"}")"
is trims 2 "$(check "$url" "$ops{$lun,op=\"zero\"}")"
is "written bytes" 81920 "$(check "$url" "myfs_lun_written_bytes_total{$lun}")"
is "read bytes" 81920 "$(check "$url" "myfs_lun_read_bytes_total{$lun}")"
is "trimmed bytes" 196608 "$(check "$url" "myfs_lun_zeroed_bytes_total{$lun}")"
is errors 0 "$(check "$url" "myfs_lun_operation_errors_total{$lun}")"
is bricks 3 "$(check "$url" myfs_gateway_brick_up)"
trips=$(check "$url" "myfs_lun_write_round_trips_total{$lun}")
((trips >= 20 && trips <= 60)) || die "20 small writes took $trips round trips"
prepared=0
for n in 1 2 3; do prepared=$((prepared + $(check "unix:$work/m$n" 'myfs_brick_operation_duration_seconds_count{op="prepare"}'))); done
((prepared >= 40)) || die "20 writes on 2+1 were prepared on $prepared bricks; each needs two at least"

step "a brick that is gone is seen as gone"
# Three regions: each brick holds data of two of them and parity of the third.
nbdsh -u "$uri" -c 'h.pwrite(b"x" * (3 << 20), 4 << 20)'
kill -9 "${helpers[2]}"
gone() { [[ $(check "$url" myfs_gateway_brick_up) == 2 ]]; }
until_ok 20 gone
nbdsh -u "$uri" -c 'assert h.pread(3 << 20, 4 << 20) == b"x" * (3 << 20)'
(($(check "$url" "myfs_lun_degraded_reads_total{$lun}") > 0)) || die "no read was degraded with a brick gone"

step "top while a client reads at a fixed rate"
fio --name=r --ioengine=nbd --uri="$uri" --rw=randread --bs=4k --size=1M --rate_iops=200 --time_based --runtime=60 >/dev/null 2>&1 &
helpers+=($!)
busy() { (($(myfs top -n 1 --interval 2 --json | jq '.items[0].read_s') > 0)); }
until_ok 20 busy
myfs top -n 1 --interval 2 --json >"$work/top"
jq -e '.items | length == 1' "$work/top" >/dev/null
jq -e '.items[0] | .lun == "vol/lun" and .gateway == "gw" and .read_s > 20 and .read_s < 300 and .write_s == 0 and .sessions == 1' "$work/top" >/dev/null || { cat "$work/top"; die "top --by lun"; }
jq -e '.items[0] | (.read_bytes_s / .read_s) > 3500 and (.read_bytes_s / .read_s) < 4700 and .read_p50_us > 0 and .read_p99_us >= .read_p50_us' "$work/top" >/dev/null || { cat "$work/top"; die "top: bytes and latencies"; }
myfs top -n 1 --by brick --json | jq -e '[.items[] | select(.online)] | length == 2 and (map(.read_s) | add) > 20' >/dev/null || die "top --by brick"
myfs top -n 1 --by node --json | jq -e '.items | length == 3 and all(.memory_bytes > 1000000) and any(.what == "gateway" and .system_calls_per_operation > 0)' >/dev/null || die "top --by node"
myfs top -n 2 --interval 0.1 >"$work/out"
(($(grep -c '^LUN .*R-P99-US' "$work/out") == 2)) || { cat "$work/out"; die "top does not repeat"; }
expect_error 64 "lun, brick or node" myfs top --by disk
expect_error 64 "0.1 to 60" myfs top --interval 0

step "a deleted LUN is no longer counted"
kill "${helpers[-1]}"
wait "${helpers[-1]}" || true
unset 'helpers[-1]'
free() { myfs-block delete vol/lun --yes --now -q; }
until_ok 20 free
[[ $(check "$url" 2>&1) == "" ]]
if check "$url" "myfs_lun_read_bytes_total{$lun}" 2>/dev/null; then die "still counted"; fi
step "a bad address is refused"
expect_error 64 "--metrics" myfs-blockd --registry "$MYFS_REGISTRY" --name gw9 --metrics nonsense
expect_error 64 "--metrics" myfs-brickd --registry "$MYFS_REGISTRY" --node node1 --metrics tcp:x
