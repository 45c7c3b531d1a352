#!/usr/bin/env bash
# A disk over iSCSI while daemons are killed: I/O waits and goes on, nothing is wrong, nothing hangs, the logout is clean.
# guest: kernel=uml mem=1280 limit=400
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_iscsi.sh"

step "tcmu-runner, cluster, LUN, disk"
runner_start
demo_up --gateways 1 --portal 127.0.0.1
myfs-block create -q vol/lun 512M --allow "$initiator"
until_ok 60 exported vol/lun
dev=$(myfs-block map vol/lun --proto iscsi)

step "fio verify begins"
fio_begins "$dev" 24
written() { awk '{print $7}' "/sys/block/${dev##*/}/stat"; } # sectors
busy() { (($(written) > wanted)); }
moves() { # I/O goes on
  local wanted=$(($(written) + 4000)) from
  from=$(written)
  (until_ok "$1" busy) && return
  fio_goes_on
  echo "I/O stands still: $(($(written) - from)) of 4000 sectors, in flight $(cat "/sys/block/${dev##*/}/inflight")"
  myfs status || true
  myfs heal status || true
  myfs top -n 1 --by brick || true
  myfs top -n 1 --by lun || true
  die "no I/O for $1 s"
}
moves 30
step "kill -9 of the gateway"
myfs demo kill -q gw1
myfs demo revive -q gw1
moves 60
step "kill -9 of tcmu-runner"
kill -9 "$runner"
wait "$runner" || true
runner_start
moves 60
# A takeover goes on without bricks that were late to answer. They are healed, and until then no two others may go.
step "kill -9 of two bricks, when all are in sync"
heal_all
myfs demo kill -q node3 node6
moves 60
step "kill -9 of gateway and tcmu-runner together, with two bricks dead"
kill -9 "$runner"
wait "$runner" || true
myfs demo kill -q gw1
myfs demo revive -q gw1
runner_start
moves 60
step "the bricks come back; the gateway is stopped in order and started"
myfs demo revive -q node3 node6
pid=$(cut -d' ' -f1 "$MYFS_DEMO_DIR/gw1/pid")
kill -TERM "$pid"
until_ok 30 sh -c "! kill -0 $pid"
myfs demo revive -q gw1
moves 60

step "fio ends without an error, every block as written"
fio_ends
until_ok 20 none_hung

step "logged out, deleted, nothing left"
myfs-block unmap -q vol/lun
[[ -z $(ls -d /sys/class/iscsi_session/session* 2>/dev/null) ]] || die "a session is left"
[[ -z $(ls /etc/iscsi/nodes 2>/dev/null) ]] || die "a node record is left"
myfs-block delete -q vol/lun --yes
no_targets() { ! ls -d /sys/kernel/config/target/iscsi/iqn.2026-11* /sys/kernel/config/target/core/user_*/vol.*; }
until_ok 60 no_targets
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }
step end
