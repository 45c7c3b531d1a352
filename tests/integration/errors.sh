#!/usr/bin/env bash
# Bad input gets a clear error and the right exit code, and loses nothing.
. "$(dirname "$0")/lib.sh"

step "before there is a cluster"
expect_error 2 "no cluster here" myfs-block list
expect_exit 64 myfs-block
expect_error 64 "did you mean" myfs-block creat vol/x 1G

demo_up
step "sizes, names, specs"
expect_error 64 "10G (= 10 GiB)" myfs-block create vol/lun 10GB
expect_error 64 "did you mean 10M" myfs-block create vol/lun 10
expect_error 64 "multiple of 4096" myfs-block create vol/lun 1048577
expect_error 64 "may hold only" myfs-block create vol/Lun 10M
expect_error 64 "VOLUME/LUN" myfs-block create lun 10M
expect_error 5 "no volume" myfs-block create nope/lun 10M
expect_error 5 "" myfs-block info vol/nope
expect_error 64 "unknown option" myfs-block create vol/lun 10M --blocksize 512
new_lun vol/lun 64M
expect_exit 3 myfs-block create vol/lun 64M
expect_exit 0 myfs-block create vol/lun 64M --if-missing
expect_exit 3 myfs-block create vol/lun 128M --if-missing
expect_error 9 "shrink" myfs-block resize vol/lun 32M
expect_error 9 "--yes" myfs-block delete vol/lun --now </dev/null
expect_exit 0 myfs-block delete vol/nope --if-exists

step "a LUN in use is not deleted, and the client is named"
nbdsh -u "$uri" -c 'import subprocess,sys
r = subprocess.run(["myfs-block", "delete", "vol/lun"], capture_output=True, text=True)
assert r.returncode == 6 and "unix" in r.stderr, (r.returncode, r.stderr)'

step "volumes: used directories, unsafe placement, unsafe layout"
mkdir -p "$work/used" && touch "$work/used/file"
expect_error 9 "" myfs volume create v2 --layout 2+2 node{1,2,3,4}:"$work"/x
expect_error 9 "node node1" myfs volume create v2 --layout 2+1 node1:"$work"/x1 node1:"$work"/x2 node2:"$work"/x3
expect_exit 3 myfs volume create v2 --layout 2+1 node1:"$MYFS_DEMO_DIR"/node1/b1 node2:"$work"/x2 node3:"$work"/x3
expect_exit 3 myfs volume create v2 --layout 2+1 node1:"$work"/used node2:"$work"/x2 node3:"$work"/x3
test -e "$work/used/file"
expect_error 5 "no node" myfs volume create v3 --layout 2+1 node9:"$work"/y1 node2:"$work"/y2 node3:"$work"/y3
expect_exit 6 myfs volume delete vol --yes

step "a brick directory of another volume, and an unmounted one, are not served"
myfs demo kill -q node6
mv "$MYFS_DEMO_DIR/node6/b1" "$work/aside"
mkdir "$MYFS_DEMO_DIR/node6/b1"
myfs demo revive -q node6
myfs brick list -H -o node,state,reason | grep '^node6' | grep -q 'mounted'
[[ -z $(ls -A "$MYFS_DEMO_DIR/node6/b1") ]] || die "something was written into an unmounted brick directory"
myfs demo kill -q node6
rmdir "$MYFS_DEMO_DIR/node6/b1"; mv "$work/aside" "$MYFS_DEMO_DIR/node6/b1"
myfs demo revive -q node6
heal_all

step "a port in use, a registry that is damaged"
expect_exit 2 timeout 10 myfs-blockd --registry "$MYFS_DEMO_DIR/registry.db" --name other --control "unix:$work/c.sock" --nbd "unix:$MYFS_DEMO_DIR/gw1/nbd.sock"
head -c 8192 /dev/urandom >"$work/bad.db"
sum=$(sha256sum <"$work/bad.db")
expect_error 2 "" myfs-block list --registry "$work/bad.db"
[[ $(sha256sum <"$work/bad.db") == "$sum" ]] || die "a damaged registry was overwritten"

step "--json errors are one document"
expect_exit 5 myfs-block info vol/nope --json
jq -e '.schema == "myfs.error/1" and .exit == 5' <"$work/err" >/dev/null
