#!/usr/bin/env bash
# nbdkit as referee: its checkwrite filter compares every write of an image with what the LUN holds; its other filters shape the requests.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 128M
head -c 128M /dev/urandom >"$work/a.img"
nbdcopy --flush "$work/a.img" "$uri"
check() {
  step "checkwrite, $1: the image written again must equal what is there"
  nbdkit -U - --filter=checkwrite nbd uri="$uri" --run "nbdcopy '$work/a.img' \"\$uri\""
}
check healthy
myfs demo kill -q node1
check "one brick dead"
myfs demo kill -q node2
check "two bricks dead"
nbdcopy --flush "$work/a.img" "$uri" # something to heal
myfs heal throttle -q vol 4M
myfs demo revive -q node1 node2
check healing
myfs heal throttle -q vol 0
heal_all
step "requests reshaped to 512 bytes"
nbdkit -U - --filter=blocksize nbd uri="$uri" maxdata=512 --run "qemu-io -f raw -c 'write -P 9 3k 70k' -c 'read -P 9 3k 70k' \"\$uri\"" >/dev/null
