#!/usr/bin/env bash
# kill -9 of both gateways (and now and then of a node) in the middle of creates, deletes, restores and resizes on a volume of two sets. Whatever the
# commands were told, in the end registry and bricks agree: every LUN has its name on every brick of one set, nothing else is there.
# ROUNDS=12; the seed is printed.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-12}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "seed $seed, $rounds rounds"

myfs demo up -q --nodes 3 --sets 2

# One client that makes, grows, deletes and brings back LUNs; what fails while the gateway is gone is simply not done.
busy() {
  local i=$1 n=0
  while [[ ! -e $work/stop ]]; do
    n=$((n + 1))
    myfs-block create -q "vol/c$i-$n" 1G || continue
    ((n % 2)) || myfs-block resize -q "vol/c$i-$n" 2G || true
    ((n % 3)) || myfs-block delete -q "vol/c$i-$n" || true
    ((n % 6)) || myfs-block trash restore -q "vol/c$i-$n" || true
    ((n % 5)) || myfs-block delete -q "vol/c$i-$n" --now --yes || true
  done
}
for i in 1 2 3; do busy $i >>"$work/busy.log" 2>&1 & helpers+=($!); done

for ((round = 1; round <= rounds; round++)); do
  before=$(myfs-block list -H -o name | wc -l)
  until_ok 30 sh -c "test \$(myfs-block list -H -o name | wc -l) -ge $((before + 2 + RANDOM % 4))"
  node=node$((1 + RANDOM % 3))
  if ((RANDOM % 3 == 0)); then
    myfs demo kill -q gateway "$node"
    myfs demo revive -q gateway
    until_ok 20 sh -c "test \$(myfs-block list -H -o name | wc -l) -gt $before"
    myfs demo revive -q "$node"
  else
    myfs demo kill -q gateway
    myfs demo revive -q gateway
  fi
done
touch "$work/stop"
for pid in "${helpers[@]}"; do wait "$pid"; done
helpers=()
myfs demo revive -q node1 node2 node3
heal_all

registry=$MYFS_DEMO_DIR/registry.db
settled() { [[ $(sqlite3 "$registry" "select count(*) from lun where state in (0, 3)") == 0 && $(sqlite3 "$registry" "select count(*) from cluster where key like 'resizing.%' and value != ''") == 0 ]]; }
until_ok 30 settled

step "names on the bricks are those of the registry, each on all six bricks of one set"
wanted() {
  sqlite3 "$registry" "select name from lun where state = 1 union all
    select '.trash.' || lower(substr(hex(gfid),1,8)||'-'||substr(hex(gfid),9,4)||'-'||substr(hex(gfid),13,4)||'-'||substr(hex(gfid),17,4)||'-'||substr(hex(gfid),21)) from lun where state = 2" | sort
}
agree() {
  wanted >"$work/wanted"
  # b1 and b2 of each node are set 0, b3 and b4 set 1.
  for half in "b1 b2" "b3 b4"; do
    local first='' n b
    for n in node1 node2 node3; do
      for b in $half; do
        ls -A "$MYFS_DEMO_DIR/$n/$b/block" | sort >"$work/names.$n.$b"
        [[ -z $first ]] && first=$work/names.$n.$b
        cmp -s "$first" "$work/names.$n.$b" || return 1
      done
    done
  done
  sort "$work/names.node1.b1" "$work/names.node1.b3" | cmp -s - "$work/wanted"
}
until_ok 30 agree
echo "$(wc -l <"$work/wanted") names agree, $(wc -l <"$work/names.node1.b1") on set 0 and $(wc -l <"$work/names.node1.b3") on set 1"

step "every LUN can be attached and has the size the registry says"
while IFS='|' read -r name size; do
  [[ $(nbdinfo --size "$(lun_uri "vol/$name")") == "$size" ]] || die "size of $name"
done < <(sqlite3 "$registry" "select name, size_bytes from lun where state = 1 order by random() limit 15")

step "purging all of it leaves nothing"
myfs-block trash purge --older 0s --yes >/dev/null 2>&1 || myfs-block trash purge --older 1s --yes
myfs-block list -H -o name | xargs -rn1 myfs-block delete -q --now --yes
until_ok 30 sh -c "test -z \"\$(ls -A $MYFS_DEMO_DIR/node*/b*/block | grep -v :)\""
until_ok 30 sh -c "test -z \"\$(ls -A $MYFS_DEMO_DIR/node*/b*/.shard | grep -v :)\""
