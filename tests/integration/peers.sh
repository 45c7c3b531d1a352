#!/usr/bin/env bash
# Other people's NBD clients against a real cluster: healthy, with one and with two bricks dead, and while healing.
. "$(dirname "$0")/lib.sh"

head -c 24M /dev/urandom >"$work/random.bin"
{ cat "$work/random.bin"; head -c 20M /dev/zero; yes pattern | head -c 20M || true; } >"$work/a.img"
truncate -s 96M "$work/a.img"

tools() { # state
  step "$1: nbdinfo"
  nbdinfo "$uri" | grep -q 'export-size: 268435456'
  nbdinfo --can multi-conn "$uri"; nbdinfo --can fua "$uri"; nbdinfo --can trim "$uri"; nbdinfo --can zero "$uri"; nbdinfo --can fast-zero "$uri"; nbdinfo --can df "$uri"; nbdinfo --can cache "$uri"
  nbdinfo --map "$uri" >/dev/null

  step "$1: nbdcopy in and out"
  nbdcopy --flush "$work/a.img" "$uri"
  nbdcopy "$uri" "$work/b.img"
  cmp -n "$(stat -c %s "$work/a.img")" "$work/a.img" "$work/b.img"

  step "$1: qemu-img compare, convert, map"
  qemu-img convert -f raw -O qcow2 "$uri" "$work/c.qcow2"
  qemu-img compare -f raw -F qcow2 "$uri" "$work/c.qcow2"
  qemu-img convert -n -p -f qcow2 -O raw "$work/c.qcow2" "$uri" >/dev/null
  qemu-img compare -f raw -F qcow2 "$uri" "$work/c.qcow2"
  qemu-img map --output=json -f raw "$uri" | jq -e 'length > 0' >/dev/null
  rm -f "$work/c.qcow2" "$work/b.img"

  step "$1: qemu-io patterns, discard, zeroes"
  qemu-io -f raw -c 'write -P 0x5a 0 1M' -c 'write -P 0xa5 777 12345' -c 'read -P 0x5a 0 777' -c 'read -P 0xa5 777 12345' -c 'read -P 0x5a 13122 512' \
    -c 'discard 256k 128k' -c 'write -z 512k 64k' -c 'read -P 0 512k 64k' -c 'write -P 7 -f 600k 8k' -c flush -c 'read -P 7 600k 8k' "$uri" >"$work/out" || { cat "$work/out"; die qemu-io; }
  ! grep -iE 'fail|error' "$work/out" || { cat "$work/out"; die "qemu-io"; }
}

properties() { # state
  step "$1: any export against a model, through libnbd"
  /usr/bin/python3 "$(dirname "$0")/nbd_properties.py" "$uri"
}

fio_verify() { # state
  properties "$1"
  step "$1: fio verify, 512 B to 1 MiB, unaligned, trims between"
  fio --name=v --verify_state_save=0 --ioengine=nbd --uri="$uri" --rw=randwrite --bsrange=512-1M --bs_unaligned=1 --size=192M --io_size=96M --verify=crc32c --verify_fatal=1 --iodepth=16 \
    --output="$work/fio.log" --randseed="${2:-7}" || { cat "$work/fio.log"; die fio; }
  fio --name=t --ioengine=nbd --uri="$uri" --rw=randtrimwrite --bs=64k --size=192M --io_size=32M --iodepth=8 --output="$work/fio.log" || { cat "$work/fio.log"; die "fio trim"; }
}

demo_up
new_lun vol/lun 256M
tools healthy
fio_verify healthy 1

step "a brick dies"
myfs demo kill -q node2
tools "one dead"
fio_verify "one dead" 2

step "a second brick dies"
myfs demo kill -q node5
tools "two dead"
fio_verify "two dead" 3

step "they come back; work goes on while they heal"
myfs heal throttle -q vol 2M
myfs demo revive -q node2 node5
tools healing
fio_verify healing 4
myfs heal throttle -q vol 0
heal_all

step "two other bricks die: what was healed is read"
nbdcopy "$uri" "$work/before.img"
myfs demo kill -q node1 node4
nbdcopy "$uri" "$work/after.img"
cmp "$work/before.img" "$work/after.img"
