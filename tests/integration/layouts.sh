#!/usr/bin/env bash
# Every geometry end to end: written, as many bricks killed as it survives, read, written degraded, healed, others killed, read. And a volume of two sets.
. "$(dirname "$0")/lib.sh"
head -c 20M /dev/urandom >"$work/a.img"
size=$(stat -c %s "$work/a.img")

round() { # name volume-options... ; uses $nodes and $survives
  local name=$1; shift
  step "$name"
  local bricks=()
  for ((i = 1; i <= nodes; i++)); do bricks+=("node$i:$work/$name/b$i"); done
  mkdir -p "$work/$name"
  myfs volume create -q "$name" "$@" --journal 16M "${bricks[@]}"
  until_ok 20 myfs-block create -q --if-missing "$name/lun" 256M
  uri=$(lun_uri "$name/lun")
  nbdcopy --flush "$work/a.img" "$uri"
  local first=() last=()
  for ((i = 1; i <= survives; i++)); do first+=("node$i"); last+=("node$((nodes + 1 - i))"); done
  ((survives == 0)) || myfs demo kill -q "${first[@]}"
  nbdcopy "$uri" "$work/b.img"
  cmp -n "$size" "$work/a.img" "$work/b.img"
  nbdsh -u "$uri" -c '
import os, random
random.seed(5)
want = {}
for i in range(60):
    at, n = random.randrange(30 << 20, 60 << 20), random.choice([1, 511, 4096, 70000, 300000])
    data = os.urandom(n)
    h.pwrite(data, at)
    assert h.pread(n, at) == data
h.flush()
'
  nbdcopy "$uri" "$work/degraded.img"
  ((survives == 0)) || myfs demo revive -q "${first[@]}"
  heal_all
  ((survives == 0)) || myfs demo kill -q "${last[@]}"
  nbdcopy "$uri" "$work/b.img"
  cmp "$work/degraded.img" "$work/b.img"
  ((survives == 0)) || myfs demo revive -q "${last[@]}"
  heal_all
}

# The demo's own volume uses all eleven nodes as one 8+3 set; the others are made beside it.
myfs demo up -q --nodes 11 --layout 8+3 --journal 16M
nodes=11 survives=3 round v83 --layout 8+3
nodes=6 survives=2 round v42 --layout 4+2
nodes=6 survives=2 round v33 --layout 3+3 --force
nodes=3 survives=1 round v21 --layout 2+1 --stripe-unit 64K
nodes=3 survives=1 round r3 --replica 3 --stripe-unit 4K
nodes=2 survives=0 round r2 --replica 2
nodes=6 survives=1 round two-sets --layout 2+1 --sets 2
step "shards of the volume of two sets are spread over both; one brick of each set dies"
myfs-block resize -q two-sets/lun 2G
uri=$(lun_uri two-sets/lun)
nbdsh -u "$uri" -c 'for i in range(32): h.pwrite(bytes([i + 1]) * 65536, i << 26)
h.flush()'
myfs demo kill -q node2 node5
nbdsh -u "$uri" -c 'for i in range(32): assert h.pread(65536, i << 26) == bytes([i + 1]) * 65536, i'
myfs demo revive -q node2 node5
heal_all
for n in 1 4; do
  spread() { [[ $(find "$work/two-sets/b$n/.shard" -type f | wc -l) -gt 4 ]]; }
  until_ok 20 spread
done
