#!/usr/bin/env bash
# The kernel's NBD client on LUNs: file systems, two bricks dead, detach and attach, trim, growing online.
# guest: kernel=uml mem=1280 limit=200
. "$(dirname "$0")/lib.sh"
kernel_modules nbd ext4 xfs

step "cluster, a LUN for ext4 and one for xfs"
demo_up --gateways 1
new_lun vol/ext4 1G
new_lun vol/xfs 1G
for fs in ext4 xfs; do myfs-block acl add -q vol/$fs 127.0.0.1; done
address=$(myfs-block info vol/ext4 --json | jq -r '[.exports[].uri | select(startswith("nbd://"))][0] | ltrimstr("nbd://") | split("/")[0]')
declare -A device client
attach() { # ext4|xfs nbd-client|map
  client[$1]=$2
  if [[ $2 == map ]]; then
    device[$1]=$(myfs-block map "vol/$1")
  else
    device[$1]=/dev/nbd9
    nbd-client "${address%:*}" "${address##*:}" /dev/nbd9 -N "vol/$1" >"$work/nbd-client.out" 2>&1 || { cat "$work/nbd-client.out"; die "nbd-client $1"; }
  fi
}
detach() {
  if [[ ${client[$1]} == map ]]; then
    myfs-block unmap -q "vol/$1"
  else
    nbd-client -d /dev/nbd9
    until_ok 20 sh -c "! nbd-client -c /dev/nbd9"
  fi
}

step "nbd-client attaches one, myfs-block map the other; file systems, files"
files_make
attach ext4 nbd-client
attach xfs map
for fs in ext4 xfs; do
  [[ $(blockdev --getsize64 "${device[$fs]}") == $((1 << 30)) ]] || die "size of ${device[$fs]}"
  make_fs $fs "${device[$fs]}"
  mkdir -p "$work/$fs"
  mount "${device[$fs]}" "$work/$fs"
  files_copy "$work/$fs"
done
[[ $(myfs-block mapped --json | jq -r '.items[] | .name + " " + .proto + " " + .state') == "vol/xfs nbd connected" ]] || { myfs-block mapped; die "mapped"; }
[[ $(myfs-block info vol/xfs --json | jq .sessions) == 1 ]] || die "sessions of a mapped LUN"

step "what cannot be done is refused, with words"
expect_error 3 "is mapped already" myfs-block map vol/xfs
expect_error 6 "in use" myfs-block unmap vol/xfs
expect_error 6 "is in use" myfs-block map vol/ext4 --device /dev/nbd9
expect_error 5 "vol/none" myfs-block map vol/none
expect_error 5 "not mapped" myfs-block unmap vol/ext4
expect_error 64 "/dev/nbdN" myfs-block map vol/ext4 --device /dev/sda

step "two bricks killed; fio verify on both file systems"
myfs demo kill -q node2 node5
for fs in ext4 xfs; do fio_verify "$work/$fs/fio" 16; done

step "unmounted, detached, attached the other way round: fsck and compare, still with two bricks dead"
for fs in ext4 xfs; do
  umount "$work/$fs"
  detach $fs
done
attach ext4 map
attach xfs nbd-client
for fs in ext4 xfs; do
  check_fs $fs "${device[$fs]}"
  mount "${device[$fs]}" "$work/$fs"
  files_compare "$work/$fs"
done

step "the bricks come back and heal; other two die; compare"
myfs demo revive -q node2 node5
heal_all
myfs demo kill -q node1 node4
drop_caches
for fs in ext4 xfs; do files_compare "$work/$fs"; done
myfs demo revive -q node1 node4
heal_all

trim_gives_space_back

step "the LUN grows online, the file system with it"
myfs-block resize -q vol/ext4 1536M
grown() { [[ $(blockdev --getsize64 "${device[ext4]}") == $((1536 << 20)) ]]; }
until_ok 30 grown
resize2fs "${device[ext4]}" >"$work/resize.out" 2>&1 || { cat "$work/resize.out"; die "resize2fs"; }
(($(df -m --output=size "$work/ext4" | tail -1) > 1300)) || die "ext4 did not grow"

for fs in ext4 xfs; do
  umount "$work/$fs"
  check_fs $fs "${device[$fs]}"
  detach $fs
done
[[ -z $(myfs-block mapped -H -o device 2>/dev/null) ]] || die "something stays mapped"
[[ ! -e /sys/block/${device[ext4]##*/}/pid ]] || die "the kernel still has ${device[ext4]}"
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }
step end
