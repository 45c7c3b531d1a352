#!/usr/bin/env bash
# A mapped device while daemons are killed: I/O waits and goes on, nothing is wrong, nothing hangs, the device can be taken away.
# guest: kernel=uml mem=1280 limit=400
. "$(dirname "$0")/lib.sh"
kernel_modules nbd ext4

step "cluster, LUN, device"
demo_up
new_lun vol/lun 512M
dev=$(myfs-block map vol/lun --io-timeout 4s -C 2)
reattached() { myfs-block mapped --json | jq -r '.items[0].reattached'; }
connected() { [[ $(myfs-block mapped --json | jq -r '.items[0].state') == connected ]]; }

step "fio verify begins"
fio_begins "$dev" 24
busy() { (($(awk '{print $7}' "/sys/block/${dev##*/}/stat") > wanted)); }
moves() { # I/O goes on
  local wanted
  wanted=$(($(awk '{print $7}' "/sys/block/${dev##*/}/stat") + 4000)) # sectors written
  (until_ok "$1" busy) && return
  fio_goes_on
  die "no I/O for $1 s"
}
moves 30

owner() { myfs-block info vol/lun --json | jq -r .owner; }
other() { [[ $1 == gw1 ]] && echo gw2 || echo gw1; }
step "kill -9 of the gateway: the other takes over, the device follows"
gw=$(owner)
myfs demo kill -q "$gw"
moves 60
[[ $(owner) == "$(other "$gw")" ]] || die "$(owner) serves vol/lun"
myfs demo revive -q "$gw"
# A takeover goes on without bricks that were late to answer. They are healed, and until then no two others may go.
step "kill -9 of two bricks, when all are in sync"
heal_all
myfs demo kill -q node3 node6
moves 60
step "kill -9 of the gateway again, with two bricks dead, and of the only other before it can take over"
myfs demo kill -q gw1 gw2
myfs demo revive -q gw1 gw2
moves 60
step "the bricks come back; the LUN is moved in order; its gateway is stopped in order"
myfs demo revive -q node3 node6
gw=$(owner)
myfs-block move -q vol/lun --to "$(other "$gw")"
moves 60
gw=$(owner)
pid=$(cut -d' ' -f1 "$MYFS_DEMO_DIR/$gw/pid")
kill -TERM "$pid"
until_ok 20 sh -c "! kill -0 $pid"
moves 60
myfs demo revive -q "$gw"

step "fio ends without an error, every block as written"
fio_ends
until_ok 10 connected
(($(reattached) >= 3)) || die "reattached $(reattached) times"
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }

step "the keeper killed: the device stays, map gives it a new one"
kill -9 "$(cut -d' ' -f1 "/run/myfs/map/vol:lun.pid")"
until_ok 10 sh -c "myfs-block mapped | grep -q 'no keeper'"
[[ $(myfs-block map -q vol/lun) == "$dev" ]] || die "map again"
myfs demo kill -q gw1 gw2
myfs demo revive -q gw1 gw2
blkdiscard -z -l 1M "$dev"
until_ok 10 connected

step "unmapped"
myfs-block unmap -q vol/lun
[[ ! -e /sys/block/${dev##*/}/pid ]] || die "the kernel still has $dev"

step "gateways that do not come back: I/O ends with an error, unmap works"
dev=$(myfs-block map vol/lun --io-timeout 2s --reattach-timeout 4s)
myfs demo kill -q gw1 gw2
if dd if=/dev/zero of="$dev" bs=1M count=4 oflag=direct status=none 2>"$work/dd.err"; then die "a write without a gateway succeeded"; fi
until_ok 10 sh -c "myfs-block mapped | grep -q lost"
myfs-block unmap -q vol/lun --force
[[ ! -e /sys/block/${dev##*/}/pid ]] || die "the kernel still has $dev"
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }
step end
