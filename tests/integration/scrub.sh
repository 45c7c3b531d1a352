#!/usr/bin/env bash
# Damage nobody has read yet: bits flipped in every fragment file (parity too), a fragment and its checksums put back to what they were
# before a write (a lost write), found and repaired by a scrub; pause, resume and progress survive the death of a gateway; a schedule.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 128M
new_lun vol/other 64M; other=$uri
uri=$(lun_uri vol/lun)
head -c 48M /dev/urandom >"$work/a.img"
nbdcopy --flush "$work/a.img" "$uri"
nbdcopy --flush "$work/a.img" "$other"
frag() { echo "$MYFS_DEMO_DIR/node$1/b1/block/lun"; }
# The orderly stop of everything writes the journal out to the fragment files.
restart() { myfs demo down -q --keep; "$@"; myfs demo up -q; }
flip() { # file offset
  local byte
  byte=$(od -An -tu1 -j "$2" -N 1 "$1")
  printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
value() { myfs scrub status vol --json | jq -r ".items[0].$1"; }
scrub() { myfs scrub start -q vol; myfs scrub status --watch -q --timeout 120s; }

step "nothing wrong: nothing found"
scrub
[[ $(value state) == idle && $(value luns_done) == 2 && $(value percent) == 100 ]]
[[ $(value rotten) == 0 && $(value stale) == 0 && $(value undecided) == 0 && $(value repaired) == 0 ]]
[[ $(value bytes) -ge $((2 * 48 * 1024 * 1024 * 6 / 4)) ]] || die "only $(value bytes) bytes were checked"

step "a bit in three blocks of every fragment file, cold parity too; no reader meets them"
sums() { for n in 1 2 3 4 5 6; do sha256sum <"$(frag $n)"; done; }
rot() { sums >"$work/sums"; for n in 1 2 3 4 5 6; do for off in $((n * 40960 + 5)) $((n * 81920 + 4096007)) $((n * 4096 + 8000001)); do flip "$(frag $n)" "$off"; done; done; }
restart rot
scrub
echo "  rotten $(value rotten), repaired $(value repaired)"
[[ $(value rotten) == 18 && $(value repaired) == 18 && $(value undecided) == 0 ]] || { myfs scrub status --json; die "not all of it was found"; }
compared() { sums >"$work/sums.now"; }
restart compared
cmp "$work/sums" "$work/sums.now" || die "a fragment is not what it was"

step "a lost write: one brick's fragment and checksums are put back to what they were"
keep() { for dir in block .shard .glusterfs/myfs/csum; do mkdir -p "$work/old/$dir"; cp -a "$MYFS_DEMO_DIR/node3/b1/$dir/." "$work/old/$dir/"; done; }
restart keep
head -c 1M /dev/urandom >"$work/new"
nbdsh -u "$uri" -c "
data = open('$work/new', 'rb').read()
for off in range(0, len(data), 65536):
    h.pwrite(data[off:off + 65536], 3 << 20 | off)
h.flush()"
dd if="$work/new" of="$work/a.img" bs=1M seek=3 conv=notrunc status=none
# Bytes go back into the files that are there (names are hard links).
put_back() { (cd "$work/old" && find . -type f -print0) | while IFS= read -rd '' f; do cat "$work/old/$f" >"$MYFS_DEMO_DIR/node3/b1/$f"; done; }
restart put_back
scrub
echo "  stale $(value stale), rotten $(value rotten), repaired $(value repaired)"
[[ $(value stale) -ge 40 && $(value undecided) == 0 && $(value repaired) -ge 40 ]] || { myfs scrub status --json; die "the lost write was not found"; }
nbdcopy "$(lun_uri vol/lun)" "$work/b.img"
cmp -n $((48 << 20)) "$work/a.img" "$work/b.img"
myfs demo kill -q node1 node2
nbdcopy "$(lun_uri vol/lun)" "$work/b.img"
cmp -n $((48 << 20)) "$work/a.img" "$work/b.img"
myfs demo revive -q node1 node2
heal_all
myfs status | grep -q 'repaired' || die "status does not say that blocks were repaired"

step "pause, a gateway's death, resume"
myfs scrub start -q vol
myfs scrub pause -q vol
[[ $(value state) == paused ]]
myfs demo kill -q gateway
myfs demo revive -q gateway
[[ $(value state) == paused ]]
myfs scrub resume -q vol
myfs scrub status --watch -q --timeout 120s
[[ $(value state) == idle && $(value luns_done) == 2 ]] || { myfs scrub status --json; die "the scrub did not go on"; }

step "LUNs on two gateways are scrubbed by both"
myfs-block move -q vol/other --to gw2
myfs-block move -q vol/lun --to gw1
scrub
[[ $(value luns_done) == 2 ]] || { myfs scrub status --json; die "not both LUNs were scrubbed"; }

step "schedules"
myfs scrub schedule -q vol "Sun 02:00"
[[ $(value schedule) == "Sun 02:00" && $(date -ud "$(value next)" '+%a %H:%M') == "Sun 02:00" ]] || die "next: $(value next)"
myfs scrub schedule -q vol never
[[ $(value next) == null ]]
expect_error 64 "is no schedule" myfs scrub schedule vol "someday"
expect_exit 5 myfs scrub start nothere
# Due: the last run began long ago.
myfs scrub schedule -q vol 1h
run=$(value started)
sqlite3 -cmd ".timeout 5000" "$MYFS_DEMO_DIR/registry.db" "update cluster set value = '7 idle 1000000 1000000 1h' where key = 'scrub/vol'"
began() { [[ $(value started) != "$run" && $(value started) != 1970* ]]; }
until_ok 40 began
myfs scrub status --watch -q --timeout 120s
