#!/usr/bin/env bash
# Somebody has the registry locked: who changes it waits, clients of the gateway do not.
. "$(dirname "$0")/lib.sh"
demo_up
new_lun vol/lun 64M
myfs-block create -q vol/other 16M
step "another process takes the registry's write lock; a LUN is created and another one attached meanwhile"
nbdsh -u "$uri" -c '
import os, sqlite3, subprocess
h.pwrite(b"x" * 4096, 0)
db = sqlite3.connect(os.environ["MYFS_DEMO_DIR"] + "/registry.db", isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
db.execute("INSERT INTO history(who, what) VALUES(?, ?)", ("a test", "held"))
create = subprocess.Popen(["myfs-block", "create", "-q", "vol/new", "16M"])
for i in range(300):
    h.pwrite(bytes([i % 256]) * 4096, i * 4096)
    assert h.pread(4096, i * 4096) == bytes([i % 256]) * 4096
h.flush()
assert create.poll() is None, "the creation did not wait for the lock"
db.execute("COMMIT")
assert create.wait() == 0, "the creation failed when the lock was free again"
'
step "and what waited is there"
myfs-block info vol/new >/dev/null
nbdcopy "$(lun_uri vol/new)" "$work/b"
