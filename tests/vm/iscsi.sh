#!/usr/bin/env bash
# LUNs over iSCSI, kernel target and kernel initiator: from create to compare, refusals, both protocols, trim, growing, deleting.
# guest: kernel=uml mem=1280 limit=400
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_iscsi.sh"
portal=127.0.0.1:3260

step "tcmu-runner, cluster, a LUN for ext4 and one for xfs: targetcli shows them"
runner_start
demo_up --gateways 1 --portal 127.0.0.1
for fs in ext4 xfs; do
  myfs-block create vol/$fs 1G --allow "$initiator" >"$work/created.$fs"
  until_ok 60 exported vol/$fs
done
declare -A iqn=([ext4]=$(iqn_of vol/ext4) [xfs]=$(iqn_of vol/xfs)) device client
grep -q "${iqn[ext4]}" "$work/created.ext4" || { cat "$work/created.ext4"; die "create does not name the target"; }
targetcli ls >"$work/targetcli"
for fs in ext4 xfs; do
  grep -q "${iqn[$fs]}" "$work/targetcli" && grep -q "vol.$fs " "$work/targetcli" || { cat "$work/targetcli"; die "targetcli does not show vol/$fs"; }
done

step "discovery; no password, a wrong one and a stranger are refused"
iscsiadm -m discovery -t st -p $portal >"$work/found"
for fs in ext4 xfs; do grep -q "${iqn[$fs]}" "$work/found" || { cat "$work/found"; die "discovery does not find vol/$fs"; }; done
record() { iscsiadm -m node -T "${iqn[ext4]}" -p $portal -o update -n "node.session.$1" -v "$2"; }
secret=$(myfs-block auth show vol/ext4 --secret --json | jq -r .secret)
user=$(myfs-block auth show vol/ext4 --json | jq -r .user)
expect_exit 24 iscsiadm -m node -T "${iqn[ext4]}" -p $portal --login
record auth.authmethod CHAP
record auth.username "$user"
record auth.password "not-$secret"
expect_exit 24 iscsiadm -m node -T "${iqn[ext4]}" -p $portal --login
record auth.password "$secret"
myfs-block acl remove -q vol/ext4 "$initiator"
expect_exit 24 iscsiadm -m node -T "${iqn[ext4]}" -p $portal --login
myfs-block acl add -q vol/ext4 "$initiator"

attach() { # ext4|xfs iscsiadm|map
  client[$1]=$2
  if [[ $2 == map ]]; then
    device[$1]=$(myfs-block map "vol/$1" --proto iscsi)
  else
    iscsiadm -m node -T "${iqn[$1]}" -p $portal --login >"$work/login" 2>&1 || { cat "$work/login"; die "login"; }
    until_ok 20 has_disk "${iqn[$1]}"
    device[$1]=$(disk_of "${iqn[$1]}")
  fi
}
detach() {
  if [[ ${client[$1]} == map ]]; then myfs-block unmap -q "vol/$1"
  else iscsiadm -m node -T "${iqn[$1]}" -p $portal --logout >/dev/null; fi
}

step "login with iscsiadm, and with myfs-block map; file systems, files"
files_make
attach ext4 iscsiadm
attach xfs map
for fs in ext4 xfs; do
  [[ $(blockdev --getsize64 "${device[$fs]}") == $((1 << 30)) ]] || die "size of ${device[$fs]}"
  make_fs $fs "${device[$fs]}"
  mkdir -p "$work/$fs"
  mount "${device[$fs]}" "$work/$fs"
  files_copy "$work/$fs"
done
[[ $(myfs-block mapped --json | jq -r '.items[] | .name + " " + .proto + " " + .state') == "vol/xfs iscsi connected" ]] || { myfs-block mapped; die "mapped"; }
(($(myfs-block session list --json | jq '[.items[] | select(.proto == "iscsi")] | length') == 2)) || { myfs-block session list; die "sessions"; }
expect_error 6 "$initiator" myfs-block delete vol/ext4 --yes

step "two bricks killed; fio verify on both file systems"
myfs demo kill -q node2 node5
for fs in ext4 xfs; do fio_verify "$work/$fs/fio" 12; done

step "unmounted, logged out, logged in: fsck and compare, still with two bricks dead"
for fs in ext4 xfs; do
  umount "$work/$fs"
  detach $fs
done
for fs in ext4 xfs; do
  attach $fs "${client[$fs]}"
  check_fs $fs "${device[$fs]}"
  mount "${device[$fs]}" "$work/$fs"
  files_compare "$work/$fs"
done
myfs demo revive -q node2 node5
heal_all

step "one LUN, both protocols: what one writes the other reads at once"
myfs-block create -q vol/both 64M --allow "$initiator"
until_ok 60 exported vol/both
both=$(myfs-block map vol/both --proto iscsi)
uri=$(lun_uri vol/both)
for i in 1 2 3; do
  head -c 64K /dev/urandom >"$work/block"
  dd if="$work/block" of="$both" bs=64K seek=$i oflag=direct status=none
  nbdsh -u "$uri" -c "assert h.pread(65536, $i * 65536) == open('$work/block', 'rb').read(), 'NBD reads something else'"
  nbdsh -u "$uri" -c "h.pwrite(bytes(reversed(open('$work/block', 'rb').read())), $i * 65536)"
  dd if="$both" bs=64K skip=$i count=1 iflag=direct status=none of="$work/back"
  /usr/bin/python3 -c "a, b = (open('$work/' + n, 'rb').read() for n in ('block', 'back')); assert a == b[::-1], 'iSCSI reads something else'"
done
myfs-block unmap -q vol/both

trim_gives_space_back

step "the LUN grows online, the file system with it after a rescan"
myfs-block resize -q vol/ext4 1536M
grown() {
  iscsiadm -m node -T "${iqn[ext4]}" -p $portal --rescan >/dev/null
  [[ $(blockdev --getsize64 "${device[ext4]}") == $((1536 << 20)) ]]
}
until_ok 60 grown
resize2fs "${device[ext4]}" >"$work/resize.out" 2>&1 || { cat "$work/resize.out"; die "resize2fs"; }
(($(df -m --output=size "$work/ext4" | tail -1) > 1300)) || die "ext4 did not grow"

step "logged out; the LUNs deleted, their targets are gone"
for fs in ext4 xfs; do
  umount "$work/$fs"
  check_fs $fs "${device[$fs]}"
  detach $fs
  myfs-block delete -q vol/$fs --yes
done
myfs-block delete -q vol/both --yes
no_targets() { ! ls -d /sys/kernel/config/target/iscsi/iqn.2026-11* /sys/kernel/config/target/core/user_*/vol.*; }
until_ok 60 no_targets
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }
step end
