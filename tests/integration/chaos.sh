#!/usr/bin/env bash
# kill -9 of random daemons (bricks within what the layout survives, and the gateway) while fio writes and verifies: no wrong byte, no
# acknowledged write lost, the gateway back in service within 2 s of its restart. ROUNDS=20; the seed is printed.
. "$(dirname "$0")/lib.sh"
rounds=${ROUNDS:-20}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "seed $seed, $rounds rounds"

demo_up
new_lun vol/lun 512M
# The retry filter connects again when the gateway is gone, as a client's own reconnect does: fio sees waits, never errors.
nbdkit -f -U "$work/retry.sock" --filter=retry nbd uri="$uri" retries=40 retry-delay=1 retry-exponential=no 2>"$work/nbdkit.log" &
helpers+=($!)
until_ok 10 test -S "$work/retry.sock"
steady="nbd+unix:///?socket=$work/retry.sock"

fio_start() { # round
  fio --name=chaos --verify_state_save=0 --ioengine=nbd --uri="$steady" --rw=randrw --rwmixread=30 --bsrange=512-256k --bs_unaligned=1 --size=512M --io_size=64M --rate=12M,24M \
    --verify=crc32c --verify_fatal=1 --verify_backlog=512 --iodepth=16 --randseed=$((seed + $1)) --output="$work/fio.$1.log" &
  fio_pid=$!
}

in_service() { nbdsh -u "$uri" -c 'h.pread(4096, 0)'; }

for ((round = 1; round <= rounds; round++)); do
  fio_start "$round"
  victims=(node1 node2 node3 node4 node5 node6)
  first=${victims[RANDOM % 6]} second=${victims[RANDOM % 6]}
  kind=$((RANDOM % 4))
  case $kind in
    0) dead=("$first") ;;
    1) dead=("$first"); [[ $first == "$second" ]] || dead+=("$second") ;;
    2) dead=(gateway) ;;
    3) dead=("$first" gateway) ;;
  esac
  # Let some writes be in flight: wait for fio's own progress, not for time.
  until_ok 20 sh -c "test \$(myfs-block session list -H -p -o writes | head -1) -gt $((RANDOM % 200 + 20))"
  echo "round $round: kill ${dead[*]}"
  myfs demo kill -q "${dead[@]}"
  if [[ " ${dead[*]} " == *" gateway "* ]]; then
    myfs demo revive -q gateway
    began=$(date +%s%N)
    until_ok 10 in_service
    took=$((($(date +%s%N) - began) / 1000000))
    echo "  gateway in service $took ms after its restart"
    ((took <= 2000)) || die "the gateway took $took ms"
  fi
  wait "$fio_pid" || { tail -30 "$work/fio.$round.log"; die "fio found a wrong byte or an error in round $round (seed $seed)"; }
  myfs demo revive -q node1 node2 node3 node4 node5 node6
  heal_all
done
step "at the end every brick holds everything: kill two, read; kill two others, read; same bytes"
nbdcopy "$uri" "$work/all.img"
for pair in "node1 node2" "node3 node4" "node5 node6"; do
  # shellcheck disable=SC2086
  myfs demo kill -q $pair
  nbdcopy "$uri" "$work/some.img"
  cmp "$work/all.img" "$work/some.img"
  # shellcheck disable=SC2086
  myfs demo revive -q $pair
  heal_all
done
