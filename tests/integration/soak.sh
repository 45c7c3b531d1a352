#!/usr/bin/env bash
# kill -9 of bricks and gateways without a pause while fio writes and verifies through both gateways: no wrong byte, nothing acknowledged lost.
# Two minutes in CI; the long run by hand: KILLS=2000 MYFS_TIMEOUT=14400 tests/integration/run soak. The seed is printed (SEED=n).
. "$(dirname "$0")/lib.sh"
kills=${KILLS:-0}
minutes=${MINUTES:-2}
seed=${SEED:-$RANDOM}
RANDOM=$seed
echo "seed $seed, $( ((kills)) && echo "$kills kills" || echo "$minutes minutes")"

demo_up
new_lun vol/lun 256M
mapfile -t uris < <(myfs-block info vol/lun --json | jq -r '.exports[].uri' | grep unix)
nbdkit -f -U "$work/retry.sock" --filter=retry nbd uri="${uris[0]}" retries=60 retry-delay=1 retry-exponential=no 2>"$work/nbdkit.log" &
helpers+=($!)
until_ok 10 test -S "$work/retry.sock"

# One fio after the other, each with bytes of its own; each reads back all it wrote.
writer() {
  local run=0
  while [[ ! -e $work/stop ]]; do
    run=$((run + 1))
    fio --name=soak --verify_state_save=0 --ioengine=nbd --uri="nbd+unix:///?socket=$work/retry.sock" --rw=randrw --rwmixread=30 --bsrange=512-128k --bs_unaligned=1 --size=256M --io_size=48M \
      --verify=crc32c --verify_fatal=1 --verify_backlog=512 --iodepth=16 --randseed=$((seed + run)) >"$work/fio.log" 2>&1 && { echo "$run" >"$work/runs"; continue; }
    grep -q 'nbd_connect_uri' "$work/fio.log" && continue # nobody was there to attach to: it never began
    cp "$work/fio.log" "$work/failed"
    return
  done
}
writer &
writer_pid=$!

in_service() { local u; for u in "${uris[@]}"; do timeout 10 bash -c "nbdsh -u '$u' -c 'h.pread(4096, 0)'" && return; done; return 1; }
done_kills=0 rounds=0 out=()
until ((kills ? done_kills >= kills : SECONDS >= minutes * 60)); do
  [[ -e $work/failed ]] && { tail -40 "$work/failed"; die "fio found a wrong byte or an error after $done_kills kills (seed $seed)"; }
  rounds=$((rounds + 1))
  # Bricks that are still healing may die again at once; others only when everything is healed.
  if ((${#out[@]} == 0 || RANDOM % 3 == 0)); then
    heal_all
    out=("node$((RANDOM % 6 + 1))")
    ((RANDOM % 2)) && second="node$((RANDOM % 6 + 1))" && [[ $second != "${out[0]}" ]] && out+=("$second")
  fi
  case $((RANDOM % 4)) in
    0) victims=("${out[@]}") ;;
    1) victims=("${out[0]}") ;;
    2) victims=("gw$((RANDOM % 2 + 1))") ;;
    3) victims=("${out[@]}" "gw$((RANDOM % 2 + 1))") ;;
  esac
  myfs demo kill -q "${victims[@]}"
  done_kills=$((done_kills + ${#victims[@]}))
  ((RANDOM % 2)) && until_ok 60 in_service # a takeover may wait 30 s for bricks that are coming back
  myfs demo revive -q "${victims[@]}"
  ((rounds % 50)) || echo "  $done_kills kills, $(cat "$work/runs" 2>/dev/null || echo 0) fio runs verified"
done
touch "$work/stop"
wait "$writer_pid"
[[ ! -e $work/failed ]] || { tail -40 "$work/failed"; die "fio found a wrong byte or an error after $done_kills kills (seed $seed)"; }
heal_all
echo "$done_kills kills in $rounds rounds, $(cat "$work/runs") fio runs of 48 MiB verified"
step "every brick holds everything: any two may go, the bytes are the same"
uri=$(lun_uri vol/lun)
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
