#!/usr/bin/env bash
# Two gateways, one LUN under load from a client that attaches elsewhere when its connection ends: the owner is killed, stopped and
# continued, the LUN is moved under load, both gateways fight for it for MOVES (100) moves, and 1,000 LUNs of a dead gateway change hands
# without being opened. Every acknowledged byte is there. Prints the times clients had to wait.
. "$(dirname "$0")/lib.sh"
moves=${MOVES:-100}
luns=${LUNS:-1000}
demo_up
new_lun vol/lun 64M
mapfile -t uris < <(myfs-block info vol/lun --json | jq -r '.exports[].uri' | grep unix)
[[ ${#uris[@]} == 2 ]] || die "create lists the addresses of ${#uris[@]} gateways instead of 2"

coproc CLIENT { exec "$(dirname "$0")/failover_client.py" "${uris[@]}" 2>&1; }
client_pid=$CLIENT_PID
helpers+=("$client_pid")
exec {to}>&"${CLIENT[1]}" {from}<&"${CLIENT[0]}"
ask() { local answer; echo "$1" >&"$to"; read -rt 60 answer <&"$from" || die "the client does not answer"; [[ $answer != WRONG* ]] || die "$answer"; echo "$answer"; }
more_writes() { # until n more are acknowledged
  local goal=$(($(ask count) + $1))
  local limit=$((SECONDS + 30))
  while (($(ask count) < goal)); do ((SECONDS < limit)) || die "no writes for 30 s"; read -rt 0.02 <> <(:) || true; done
}
owner() { myfs-block info vol/lun --json | jq -r .owner; }
is_owner() { [[ $(owner) == "$1" ]]; }
gateway_pid() { read -r pid _ <"$MYFS_DEMO_DIR/$1/pid"; echo "$pid"; }
other() { [[ $1 == gw1 ]] && echo gw2 || echo gw1; }

step "kill -9 of the owner: the other has the LUN, the client goes on"
worst=0
for round in 1 2 3 4 5; do
  more_writes 300
  victim=$(owner)
  ask mark >/dev/null
  began=$(date +%s%N)
  myfs demo kill -q "$victim"
  more_writes 300
  gap=$(ask gap)
  until_ok 5 is_owner "$(other "$victim")"
  echo "  round $round: $victim killed, no write acknowledged for $gap ms, owner $(owner) after $((($(date +%s%N) - began) / 1000000)) ms"
  ((gap > worst)) && worst=$gap
  myfs demo revive -q "$victim"
done
((worst <= 4000)) || die "clients waited $worst ms"
echo "takeover after kill -9: clients waited at most $worst ms"

step "an owner that stands still: a client that comes to the other gateway is served; the old one is deposed when it goes on"
more_writes 300
victim=$(owner)
pid=$(gateway_pid "$victim")
ask mark >/dev/null
kill -STOP "$pid"
# The client's connections hang with the gateway: another client asks for the LUN elsewhere.
index=0; [[ ${uris[0]} == *"/$(other "$victim")/"* ]] || index=1
began=$(date +%s%N)
served() { timeout 5 bash -c "nbdsh -u '${uris[index]}' -c 'h.pread(4096, 0)'"; }
until_ok 10 served
echo "  served by $(other "$victim") $((($(date +%s%N) - began) / 1000000)) ms after $victim stopped"
kill -CONT "$pid"
more_writes 300
echo "  with $victim going on again: no write acknowledged for $(ask gap) ms in all"
is_owner "$(other "$victim")" || die "the deposed gateway took the LUN back from its clients"
until_ok 5 grep -qE 'vol/lun (belongs to gateway|was taken over)' "$MYFS_DEMO_DIR/$victim/log"

step "an orderly move under load"
target=$(other "$(owner)")
ask mark >/dev/null
myfs-block move -q vol/lun --to "$target"
is_owner "$target"
more_writes 300
echo "  no write acknowledged for $(ask gap) ms"
[[ $(myfs-block session list vol/lun -H -o lun | wc -l) -ge 1 ]] || die "session list does not show clients of the other gateway"
step "a mere attach does not take it from its clients, and the refusal names the address"
expect_exit 1 nbdinfo --size "${uris[$([[ ${uris[0]} == *"/$target/"* ]] && echo 1 || echo 0)]}"
expect_error 5 "there are gw1, gw2" myfs-block move vol/lun --to gw9
expect_error 64 "--to GATEWAY" myfs-block move vol/lun

step "both gateways fight for it: $moves moves from two sides, under load"
ask mark >/dev/null
began=$SECONDS
for side in gw1 gw2; do
  for ((i = 0; i < moves / 2; i++)); do myfs-block move -q vol/lun --to "$side" || echo "refused: $side $i"; done >"$work/moves.$side" 2>&1 &
  movers+=($!)
done
wait "${movers[@]}"
more_writes 300
echo "  $moves moves in $((SECONDS - began)) s, $(cat "$work"/moves.* | grep -c '^refused' || true) refused; no write acknowledged for $(ask gap) ms at most"

step "the client is satisfied"
echo stop >&"$to"
read -rt 120 answer <&"$from" || die "the client did not end"
echo "  $answer"
[[ $answer == right:* ]] || die "$answer"
wait "$client_pid"
helpers=()

step "what a deposed gateway was asked while it stood still is not answered with what was true then"
myfs-block move -q vol/lun --to gw1
index=0; [[ ${uris[0]} == *"/gw1/"* ]] || index=1
/usr/bin/python3 - "${uris[index]}" "${uris[1 - index]}" "$(gateway_pid gw1)" <<'PY'
import os, signal, sys
import nbd

a, b = nbd.NBD(), nbd.NBD()
a.connect_uri(sys.argv[1])
a.pwrite(b"1" * 4096, 0)
a.flush()
os.kill(int(sys.argv[3]), signal.SIGSTOP)
try:
    b.connect_uri(sys.argv[2])  # served once the owner was silent for 2 s
    b.pwrite(b"2" * 4096, 0)
    buf = nbd.Buffer(4096)
    cookie = a.aio_pread(buf, 0)
finally:
    os.kill(int(sys.argv[3]), signal.SIGCONT)
try:
    while not a.aio_command_completed(cookie):
        a.poll(-1)
    assert bytes(buf.to_bytearray()) == b"2" * 4096, "a deposed gateway answered a read with old data"
except nbd.Error as e:
    print("  refused:", e.string)
assert b.pread(4096, 0) == b"2" * 4096
PY

step "$luns LUNs of a dead gateway change hands without being opened"
registry=$MYFS_DEMO_DIR/registry.db
myfs-block move -q vol/lun --to gw1
for ((i = 0; i < 10; i++)); do myfs-block create -q "vol/idle$i" 16M; done
# Rows as gw2 would have left them: opened there once, idle since.
{
  echo "begin; create temp table one as select * from lun where name = 'idle0';"
  for ((i = 10; i < luns; i++)); do echo "update one set gfid = randomblob(16), name = 'idle$i'; insert into lun select * from one;"; done
  echo "update lun set owner = 'gw2' where name like 'idle%'; commit;"
} | sqlite3 -cmd ".timeout 5000" "$registry"
moved() { [[ $(sqlite3 "$registry" "select count(*) from lun where owner = 'gw1' and name like 'idle%'") == "$luns" ]]; }
began=$(date +%s%N)
myfs demo kill -q gw2
until_ok 5 moved
echo "  $luns LUNs moved in $((($(date +%s%N) - began) / 1000000)) ms"
[[ $(myfs status --json | jq '[.gateways[] | select(.name == "gw1") | .status.luns_open] | add') -le 2 ]] || die "idle LUNs were opened"
step "a gateway that is gone for good is forgotten; one that answers is not"
expect_exit 6 myfs gateway remove gw1
expect_exit 5 myfs gateway remove gw7
myfs gateway remove -q gw2
[[ $(myfs gateway list -H -o name) == gw1 ]] || die "gw2 is still listed"
myfs status | grep -q 'gw2' && die "status still speaks of gw2"
myfs demo revive -q gw2
[[ $(myfs gateway list -H -o name | wc -l) == 2 ]] || die "gw2 did not come back"
step "a node that returns is healed by whoever has the LUN; the registry's settings are everybody's"
myfs heal pause -q vol
until_ok 5 sh -c '! myfs heal status --json | grep -q running'
paused_on() { myfs status --json | jq -e ".gateways[] | select(.name == \"$1\") | .status.volumes[0].heal_paused"; }
until_ok 5 paused_on gw1
until_ok 5 paused_on gw2
myfs demo kill -q gateway
myfs demo revive -q gateway
until_ok 5 paused_on gw1
until_ok 5 paused_on gw2
myfs heal resume -q vol
