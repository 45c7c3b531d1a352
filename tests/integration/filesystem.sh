#!/usr/bin/env bash
# A file system through nbdfuse: mkfs, fsck, files in and out, with bricks dying in between.
. "$(dirname "$0")/lib.sh"
[[ -e /dev/fuse ]] || skip "no /dev/fuse here"

demo_up
new_lun vol/fs 512M
mkdir "$work/mnt"
nbdfuse "$work/mnt/nbd" "$uri" 2>"$work/nbdfuse.log" &
helpers+=($!)
until_ok 10 test -e "$work/mnt/nbd"
head -c 12M /dev/urandom >"$work/file"
try() {
  step "$1: mkfs, fsck, a file in and out"
  mkfs.ext4 -q -F "$work/mnt/nbd"
  e2fsck -fn "$work/mnt/nbd"
  debugfs -w -R "write $work/file file" "$work/mnt/nbd" 2>/dev/null
  rm -f "$work/file.out"
  debugfs -R "dump file $work/file.out" "$work/mnt/nbd" 2>/dev/null
  cmp "$work/file" "$work/file.out"
  e2fsck -fn "$work/mnt/nbd"
}
try healthy
myfs demo kill -q node3
try "one brick dead"
myfs demo kill -q node6
try "two bricks dead"
myfs heal throttle -q vol 2M
myfs demo revive -q node3 node6
try healing
myfs heal throttle -q vol 0
heal_all
fusermount3 -u "$work/mnt"
