#!/usr/bin/env bash
# LUNs created, deleted, renamed by the trash and resized while a brick is away: it gets the missing names on return, and nothing deleted comes back.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/old 32M; old=$uri
new_lun vol/keep 32M; keep=$uri
nbdsh -u "$old" -c 'h.pwrite(b"o"*65536, 0); h.flush()'
nbdsh -u "$keep" -c 'h.pwrite(b"k"*65536, 0); h.flush()'
step "a brick is away; one LUN is made, one deleted for good, one resized"
myfs demo kill -q node4
new_lun vol/new 32M; new=$uri
nbdsh -u "$new" -c 'h.pwrite(b"n"*65536, 0); h.flush()'
myfs-block delete -q vol/old --now --yes
myfs-block resize -q vol/keep 64M
myfs demo revive -q node4
heal_all
ls "$MYFS_DEMO_DIR/node4/b1/block"
step "the returned brick has the new name, not the deleted one"
test -e "$MYFS_DEMO_DIR/node4/b1/block/new"
test -e "$MYFS_DEMO_DIR/node4/b1/block/keep"
! test -e "$MYFS_DEMO_DIR/node4/b1/block/old" || die "a deleted LUN came back"
expect_exit 5 myfs-block info vol/old
step "and carries its share: two others die"
myfs demo kill -q node1 node2
nbdsh -u "$new" -c 'assert h.pread(65536, 0) == b"n"*65536'
nbdsh -u "$keep" -c 'assert h.pread(65536, 0) == b"k"*65536; assert h.get_size() == 64 << 20'
myfs demo revive -q node1 node2
heal_all
step "trash: deleted, listed, restored under another name, same bytes"
myfs-block delete -q vol/keep
expect_exit 5 myfs-block info vol/keep
myfs-block trash list -H -o name | grep -qx vol/keep
myfs-block trash restore -q vol/keep kept
nbdsh -u "$(lun_uri vol/kept)" -c 'assert h.pread(65536, 0) == b"k"*65536'
step "space of a deleted LUN comes back"
myfs-block delete -q vol/kept --now --yes
freed() { [[ ! -e $MYFS_DEMO_DIR/node1/b1/block/kept ]]; }
until_ok 20 freed
