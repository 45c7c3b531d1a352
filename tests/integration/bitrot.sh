#!/usr/bin/env bash
# A bit flipped by hand in any fragment file is found on read, the read returns right bytes, the fragment is repaired, and status says so.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 64M
head -c 64M /dev/urandom >"$work/a.img"
nbdcopy --flush "$work/a.img" "$uri"
# What is in the journal only is not in the fragment files yet: the orderly stop of the nodes writes everything out.
settled() { for n in 1 2 3 4 5 6; do f=$MYFS_DEMO_DIR/node$n/b1/block/lun; [[ $(stat -c %b "$f") -ge $((64 * 1024 / 4 * 2)) ]] || return 1; done; }
until_ok 20 settled

flip() { # file offset
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
wrong() { myfs brick list --json >/dev/null; myfs status --json | jq '[.gateways[].status.volumes[].counters.checksum_errors] | add'; }

for n in 1 2 3 4 5 6; do
  f=$MYFS_DEMO_DIR/node$n/b1/block/lun
  sum=$(sha256sum <"$f")
  step "flip one bit in three blocks of $f"
  for off in 5 4097005 9000001; do flip "$f" "$off"; done
  # Parity fragments are read when a data fragment is not there, one of the two by lot: read until the file is as it was. Four of the other
  # bricks, at least, hold data beside it, and six times each leave one case in 2^24.
  nbdcopy "$uri" "$work/b.img"
  cmp "$work/a.img" "$work/b.img"
  same() { [[ $(sha256sum <"$f") == "$sum" ]]; }
  for i in 0 1 2 3 4; do
    other=$(((n + i) % 6 + 1))
    myfs demo kill -q "node$other"
    for pass in 1 2 3 4 5 6; do
      nbdcopy "$uri" "$work/b.img"
      cmp "$work/a.img" "$work/b.img"
    done
    myfs demo revive -q "node$other"
    heal_all
    ! same || break
  done
  until_ok 20 same
done
step "counted and said"
[[ $(wrong) -ge 12 ]] || die "only $(wrong) wrong blocks counted"
myfs status | grep -q 'did not match the checksum'
