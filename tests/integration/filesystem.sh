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
step "mkfs, fsck"
mkfs.ext4 -q -F "$work/mnt/nbd"
e2fsck -fn "$work/mnt/nbd"
step "files in, two bricks die, files out"
head -c 40M /dev/urandom >"$work/file"
debugfs -w -R "write $work/file file" "$work/mnt/nbd" 2>/dev/null
myfs demo kill -q node3 node6
debugfs -R "dump file $work/file.out" "$work/mnt/nbd" 2>/dev/null
cmp "$work/file" "$work/file.out"
e2fsck -fn "$work/mnt/nbd"
fusermount3 -u "$work/mnt"
