#!/usr/bin/env bash
# Bricks on small file systems of their own: a clean "no space" to the client, reads and healing go on, space comes back by trim. ext4 and XFS.
. "$(dirname "$0")/lib.sh"
((EUID == 0)) || skip "needs root for loop mounts"
[[ -e /dev/loop-control ]] || skip "no loop devices here"

mounts=()
unmount_all() { for m in "${mounts[@]}"; do umount "$m" || true; done; mounts=(); }
trap 'myfs demo down -q --keep >/dev/null 2>&1 || true; unmount_all; finish' EXIT

try() { # fs mkfs-command...
  local fs=$1; shift
  step "$fs"
  for n in 1 2 3; do
    truncate -s 400M "$work/$fs$n.img"
    "$@" "$work/$fs$n.img" >/dev/null
    mkdir -p "$work/$fs$n"
    mount -o loop "$work/$fs$n.img" "$work/$fs$n" || skip "cannot mount $fs here"
    mounts+=("$work/$fs$n")
  done
  myfs volume create -q "$fs" --layout 2+1 --journal 32M node{1,2,3}:"$work/$fs"{1,2,3}/brick 2>/dev/null ||
    myfs volume create -q "$fs" --layout 2+1 --journal 32M node1:"$work/${fs}1/brick" node2:"$work/${fs}2/brick" node3:"$work/${fs}3/brick"
  until_ok 20 myfs-block create -q --if-missing "$fs/lun" 2G
  uri=$(lun_uri "$fs/lun")
  nbdsh -u "$uri" -c '
import errno
block = open("/dev/urandom","rb").read(1 << 20)
n = 0
try:
    while n < 2048:
        h.pwrite(block, n << 20); n += 1
    raise SystemExit("the bricks never got full")
except nbd.Error as e:
    assert e.errno == "ENOSPC", e
assert n > 300, n
print("full after", n, "MiB: ENOSPC")
h.flush()
for i in range(0, n, 7):
    assert h.pread(1 << 20, i << 20) == block, i
h.trim(n << 20, 0)
h.flush()
'
  step "$fs: full bricks still heal"
  nbdsh -u "$uri" -c 'h.trim(64 << 20, 0); h.flush()'
  written() { nbdsh -u "$uri" -c 'h.pwrite(b"x" * (1 << 20), 0); h.flush()'; }
  until_ok 30 written
  myfs demo kill -q node2
  nbdsh -u "$uri" -c 'h.pwrite(b"y" * (4 << 20), 0); h.flush()'
  myfs demo revive -q node2
  heal_all
  nbdsh -u "$uri" -c 'assert h.pread(4 << 20, 0) == b"y" * (4 << 20)'
}
demo_up
try ext4 mkfs.ext4 -q
if command -v mkfs.xfs >/dev/null; then try xfs mkfs.xfs -q; fi
