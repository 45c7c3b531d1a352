#!/usr/bin/env bash
# The kernel's NBD client on LUNs: file systems, two bricks dead, detach and attach, trim.
# guest: kernel=uml mem=1280 limit=200
. "$(dirname "$0")/lib.sh"
kernel_modules nbd ext4 xfs

step "cluster, a LUN for ext4 and one for xfs"
demo_up
new_lun vol/ext4 1G
new_lun vol/xfs 1G
for fs in ext4 xfs; do myfs-block acl add -q vol/$fs 127.0.0.1; done
address=$(myfs-block info vol/ext4 --json | jq -r '[.exports[].uri | select(startswith("nbd://"))][0] | ltrimstr("nbd://") | split("/")[0]')
declare -A device=([ext4]=/dev/nbd0 [xfs]=/dev/nbd1)
attach() { nbd-client "${address%:*}" "${address##*:}" "${device[$1]}" -N "vol/$1" >"$work/nbd-client.out" 2>&1 || { cat "$work/nbd-client.out"; die "nbd-client $1"; }; }
detach() { nbd-client -d "${device[$1]}"; until_ok 20 sh -c "! nbd-client -c ${device[$1]}"; }

step "nbd-client attaches both; file systems, files"
files_make
for fs in ext4 xfs; do
  attach $fs
  [[ $(blockdev --getsize64 "${device[$fs]}") == $((1 << 30)) ]] || die "size of ${device[$fs]}"
  make_fs $fs "${device[$fs]}"
  mkdir -p "$work/$fs"
  mount "${device[$fs]}" "$work/$fs"
  files_copy "$work/$fs"
done

step "two bricks killed; fio verify on both file systems"
myfs demo kill -q node2 node5
for fs in ext4 xfs; do fio_verify "$work/$fs/fio" 16; done

step "unmounted, detached, attached again: fsck and compare, still with two bricks dead"
for fs in ext4 xfs; do
  umount "$work/$fs"
  detach $fs
  attach $fs
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

step "fstrim gives space back to the bricks"
before=$(bricks_used_kb)
for fs in ext4 xfs; do
  rm -r "$work/$fs/files" "$work/$fs/fio"
  sync -f "$work/$fs"
  fstrim "$work/$fs"
done
freed() { (($(bricks_used_kb) < before - 60 * 1024)); }
until_ok 30 freed
echo "   bricks: $before KiB before, $(bricks_used_kb) KiB after"

for fs in ext4 xfs; do umount "$work/$fs"; detach $fs; done
none_hung || { ps -eo stat,pid,wchan:30,args | grep '^D'; die "processes hang"; }
step end
