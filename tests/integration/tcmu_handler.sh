#!/usr/bin/env bash
# handler_myfs.so without a kernel: tests/tools/tcmu_host sends it SCSI commands the way tcmu-runner does. With a real gateway: every
# command against a model, kill -9 of the gateway under writes, bricks away, growing, bad configurations. With nbdkit: one error each.
. "$(dirname "$0")/lib.sh"
handler=${MYFS_TESTS%/tests}/tcmu-runner/handler_myfs.so
host() { # config size block scenario...
  timeout 120 "$MYFS_TESTS/tcmu_host" "$handler" "$@" 2>>"$work/host.log" || { status=$?; tail -20 "$work/host.log"; return $status; }
}
gateway_kill() { myfs demo kill -q gateway; }
gateway_revive() { myfs demo revive -q gateway; }

demo_up --gateways 1
new_lun vol/lun 256M
new_lun vol/small 64M
socket=${uri#*socket=}
lun="myfs/vol/lun;socket=$socket" small="myfs/vol/small;socket=$socket"
M=$((1 << 20))

step "every command against a model, blocks of 512 and 4096"
host "$lun" $((256 * M)) 512 model 60
host "$lun" $((256 * M)) 4096 model 40
host "$lun" $((256 * M)) 512 special
host "$lun" $((256 * M)) 4096 special
host "$lun" $((256 * M)) 512 status
host "$lun" $((256 * M)) 4096 status
host "$lun" $((256 * M)) 512 pages
MYFS_NBD_SOCKET=$socket host myfs/vol/lun $((256 * M)) 4096 pages

step "what is written here is read over NBD, and unmapped blocks are free"
host "$small" $((64 * M)) 512 expect 93 0 0 # WRITE SAME of 8 blocks of 07
[[ $(nbdcopy "$(lun_uri vol/small)" - | head -c 4096 | tr -d '\007' | wc -c) == 0 ]] || die "NBD does not see what was written"
host "$small" $((64 * M)) 4096 expect 42 0 0
nbdinfo --map "$(lun_uri vol/small)" | awk '$1 == 0 && $3 != 3 {exit 1}' || die "UNMAP left data behind"

step "one brick rotten or two dead make no difference"
myfs demo kill -q node1 node4
host "$lun" $((256 * M)) 512 model 20
myfs demo revive -q node1 node4
heal_all

step "kill -9 of the gateway under writes: nothing acknowledged is lost, nothing old comes back"
mkfifo "$work/keep.in"
host "$lun;wait=60" $((256 * M)) 4096 keep <"$work/keep.in" >"$work/keep.out" & keeper=$!
exec {hold}>"$work/keep.in"
for round in 1 2 3 4 5; do
  before=$(myfs-block session list -H -p -o writes | head -1)
  until_ok 20 sh -c "test \$(myfs-block session list -H -p -o writes | head -1) -gt $((${before:-0} + 100))"
  gateway_kill
  gateway_revive
  until_ok 20 sh -c "test \$(myfs-block session list -H -p -o writes | head -1) -gt 20"
done
echo enough >&"$hold" # closing it would not do: the revived gateway has inherited it
wait "$keeper" || die "a write was lost, or an old one came back"
cat "$work/keep.out"

step "without a gateway a command waits, then is BUSY; a device opens without one; back again, all is well"
gateway_kill
began=$SECONDS
host "$small;wait=1" $((64 * M)) 512 expect 88 3 0
host "$small;wait=1" $((64 * M)) 512 expect 89 3 0
((SECONDS - began < 20)) || die "BUSY took $((SECONDS - began)) s"
gateway_revive
host "$small" $((64 * M)) 512 expect 88 0 0

step "too few bricks: BUSY, not an error of the medium"
gateway_kill
dir=$MYFS_DEMO_DIR/gw1
myfs-blockd --registry "$MYFS_DEMO_DIR/registry.db" --name gw1 --control "unix:$dir/control.sock" --nbd "unix:$socket" --io-timeout 3s \
  </dev/null >"$work/gw.log" 2>&1 & impatient=$!
helpers+=("$impatient")
host "$lun" $((256 * M)) 512 expect 8a 0 0
myfs demo kill -q node1 node2 node3
host "$lun" $((256 * M)) 512 expect 8a 3 0
host "$lun" $((256 * M)) 512 expect 88 3 0
host "$lun" $((256 * M)) 512 expect 89 3 0
myfs demo revive -q node1 node2 node3
host "$lun" $((256 * M)) 512 expect 88 0 0
kill "$impatient"
wait "$impatient" || true
gateway_revive

step "growing: told by the target, and seen when the gateway comes back"
coproc GROW { host "$lun" $((256 * M)) 512 resize $((512 * M)); }
read -rt 60 -u "${GROW[0]}" line && [[ $line == ready ]] || die "resize does not start"
grow=$GROW_PID
myfs-block resize -q vol/lun 512M
echo >&"${GROW[1]}"
wait "$grow" || die "resize"
coproc GROW { host "$lun" $((512 * M)) 512 adopt $((768 * M)); }
read -rt 60 -u "${GROW[0]}" line && [[ $line == ready ]] || die "adopt does not start"
grow=$GROW_PID
myfs-block resize -q vol/lun 768M
gateway_kill
gateway_revive
echo >&"${GROW[1]}"
wait "$grow" || die "adopt"

step "bad configurations are refused in words"
refused() { # config words
  local got=0
  timeout 60 "$MYFS_TESTS/tcmu_host" "$handler" "$1" check >"$work/reason" || got=$?
  ((got == 2)) && grep -qF -- "$2" "$work/reason" || { cat "$work/reason"; die "exit $got, \"$2\" expected: $1"; }
}
timeout 60 "$MYFS_TESTS/tcmu_host" "$handler" "$lun" check || die "a good configuration is refused"
refused vol/lun 'must begin with "myfs/"'
refused myfs/lun 'is not a LUN'
refused myfs/Vol/lun 'is not a LUN'
refused myfs/vol/a/b 'is not a LUN'
refused "$lun;wait=0" 'wait must be 1 to'
refused "$lun;wait=1x" 'wait must be 1 to'
refused "$lun;color=red" 'unknown option "color=red"'
refused 'myfs/vol/lun;socket=relative' 'absolute path'
refused "myfs/vol/lun;socket=/$(printf 'x%.0s' {1..120})" 'absolute path'
refused "myfs/vol/lun;socket=$work/nobody" 'No such file'
refused "${lun/lun;/none;}" 'none'
myfs demo down -q

step "one error of NBD each: the sense it becomes"
error() { # name opcode status sense
  nbdkit -U "$work/error.sock" -P "$work/error.pid" --filter=error memory 64M error="$1" error-rate=1.0
  host "myfs/vol/lun;socket=$work/error.sock;wait=1" $((64 * M)) 512 expect "$2" "$3" "$4"
  kill "$(cat "$work/error.pid")"
  until_ok 10 sh -c "! test -e /proc/$(cat "$work/error.pid")"
  rm -f "$work/error.sock"
}
error EIO 88 2 031100     # read: unrecovered read error
error EIO 8a 2 030c00     # write: write error
error EIO 8f 2 031100
error ENOSPC 8a 2 072707  # space allocation failed
error ENOSPC 93 2 072707
error ENOSPC 42 2 072707  # UNMAP: tcmu-runner's own would say "good"
error EPERM 8a 2 072700
error ENOMEM 8a 1 0       # TASK SET FULL
error ESHUTDOWN 8a 3 0
error ESHUTDOWN 88 3 0
error EINVAL 88 2 052100
