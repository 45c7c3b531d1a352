#!/usr/bin/env bash
# More bricks gone than the layout survives: I/O waits, ends well when they return, ends with an error after the io-timeout; never wrong bytes.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 64M
head -c 8M /dev/urandom >"$work/a"
nbdcopy --flush "$work/a" "$uri"
step "three of six bricks die while a client writes; two return: the write ends well"
nbdsh -u "$uri" -c '
import subprocess, threading
data = open("'"$work"'/a","rb").read()
subprocess.run("myfs demo kill -q node1 node2 node3", shell=True, check=True)
done = []
t = threading.Thread(target=lambda: (h.pwrite(data[:1<<20], 16<<20), done.append(1)))
t.start()
t.join(2)
assert not done, "a write was acknowledged without quorum"
subprocess.run("myfs demo revive -q node2 node3", shell=True, check=True)
t.join(60)
assert done, "the write did not end after the bricks came back"
assert h.pread(1<<20, 16<<20) == data[:1<<20]
assert h.pread(1<<20, 0) == data[:1<<20]
'
myfs demo revive -q node1
heal_all
step "status says it"
myfs demo kill -q node1 node2 node3
myfs status | grep -q 'paused'
expect_exit 2 myfs status --nagios
myfs demo revive -q node1 node2 node3
heal_all
nbdcopy "$uri" "$work/b"
cmp -n $((8 << 20)) "$work/a" "$work/b"
step "five of six bricks are up, but too few of them hold everything: status says that I/O waits, and for whom"
myfs heal pause -q vol
for node in node1 node2; do
  myfs demo kill -q $node
  nbdcopy --flush "$work/a" "$uri"
  myfs demo revive -q $node
done
myfs demo kill -q node3
until_ok 10 sh -c 'myfs status --json | jq -e ".findings[] | select(.code == \"LUN_PAUSED\") | .status | test(\"vol/lun.*node3\")"'
expect_exit 2 myfs status --nagios
myfs demo revive -q node3
nbdcopy "$uri" "$work/b"
cmp -n $((8 << 20)) "$work/a" "$work/b"
myfs heal resume -q vol
heal_all
[[ $(myfs status --json | jq -r .health) == ok ]]
step "a killed brick is the one it was; without its witness it may have forgotten something"
identity() { od -An -tx1 -j32 -N16 "$MYFS_DEMO_DIR/node1/b1/.glusterfs/myfs/state"; }
witness=/dev/shm/myfs-brick-$(myfs brick list --json | jq -r '.items[] | select(.node == "node1") | .id')
[[ -s $witness ]] || die "no witness $witness"
before=$(identity)
myfs demo kill -q node1 && myfs demo revive -q node1
heal_all
[[ $(identity) == "$before" ]] || die "a brick that lost nothing took another identity"
myfs demo kill -q node1 && rm "$witness" && myfs demo revive -q node1
heal_all
[[ $(identity) != "$before" && -s $witness ]] || die "a brick that can prove nothing kept its identity"
myfs demo down -q
[[ ! -e $witness ]] || die "an orderly stop left the witness"
