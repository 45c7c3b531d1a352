#!/usr/bin/env bash
# TRIM and WRITE_ZEROES really free space on the bricks, holes are reported as holes, sparse stays sparse through a heal.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 1G
used() { myfs-block du vol/lun -H -p -o used; }
at_least() { [[ $(used) -ge $1 ]]; }
at_most() { [[ $(used) -le $1 ]]; }
step "write 96 MiB in three places"
nbdsh -u "$uri" -c '
import os
for at in (0, 300 << 20, 900 << 20):
    for i in range(32):
        h.pwrite(os.urandom(1 << 20), at + (i << 20))
h.flush()'
until_ok 20 at_least $((140 << 20))
step "the map tells holes from data"
nbdinfo --map "$uri" | awk '$4 ~ /hole/ {hole += $2} $4 == "data" {data += $2} END {exit !(data == 100663296 && hole == 973078528)}' || { nbdinfo --map "$uri"; die map; }
step "trim two of them, one through write zeroes"
nbdsh -u "$uri" -c 'h.trim(32 << 20, 0); h.zero(32 << 20, 300 << 20); h.flush(); assert h.pread(1 << 20, 5 << 20) == bytes(1 << 20)'
until_ok 20 at_most $((60 << 20))
step "zeroes written as data are holes too"
nbdsh -u "$uri" -c 'h.pwrite(bytes(16 << 20), 500 << 20); h.flush()'
at_most $((60 << 20)) || die "zeroes took space: $(used)"
step "a brick that lost everything heals sparse"
before=$(used)
myfs demo kill -q node2
nbdsh -u "$uri" -c 'h.pwrite(b"z" * (1 << 20), 900 << 20); h.flush()'
myfs demo revive -q node2
heal_all
until_ok 20 at_most $((before + (2 << 20)))
