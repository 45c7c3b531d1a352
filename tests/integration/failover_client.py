#!/usr/bin/python3
"""A block device client that survives its gateway: writes, remembers what was acknowledged, attaches elsewhere when the
connection ends, repeats what was not answered, and at the end reads every byte it was promised.

  failover_client.py URI... < commands      URIs of one LUN, any of which may serve it

Several threads, each with blocks of its own (4 KiB, one request at a time), so that for every block the legal content is
known: the last acknowledged one, or the one being written. Commands on standard input: "count" prints the number of
acknowledged writes; "mark" resets the longest gap; "gap" prints the longest time without an acknowledged write since
the mark, in ms; "stop" ends the writers, verifies everything through a new connection and prints a summary."""
import random
import struct
import sys
import threading
import time

import nbd

BLOCK = 4096
THREADS = 4
BLOCKS = 1024  # per thread
uris = sys.argv[1:]
stop = threading.Event()
pause = threading.Event()  # never set: a moment between two attempts
lock = threading.Lock()
acked = 0
last_ack = time.monotonic()
gap = 0.0
reconnects = 0
failed = []


def content(thread, block, version):
    return struct.pack("<QQQ", thread, block, version) * (BLOCK // 24) + b"\0" * (BLOCK % 24)


def attach(first):
    """Tries the addresses in turn until one serves the LUN."""
    at = first
    while not failed:
        h = nbd.NBD()
        try:
            h.connect_uri(uris[at % len(uris)])
            return h, at % len(uris)
        except nbd.Error:
            at += 1
            pause.wait(0.02)
    raise SystemExit(1)


def acknowledge():
    global acked, last_ack, gap
    with lock:
        now = time.monotonic()
        acked += 1
        gap = max(gap, now - last_ack)
        last_ack = now


def writer(thread):
    global reconnects
    rng = random.Random(thread)
    base = thread * BLOCKS * BLOCK
    have = [0] * BLOCKS  # acknowledged version of each block
    h, at = attach(thread)
    try:
        while not stop.is_set() and not failed:
            block = rng.randrange(BLOCKS)
            while True:  # until it is answered
                try:
                    if rng.random() < 0.3:
                        got = bytes(h.pread(BLOCK, base + block * BLOCK))
                        want = content(thread, block, have[block]) if have[block] else b"\0" * BLOCK
                        if got != want:
                            failed.append("thread %d block %d: %r instead of version %d" % (thread, block, got[:24], have[block]))
                            return
                    version = have[block] + 1
                    h.pwrite(content(thread, block, version), base + block * BLOCK, nbd.CMD_FLAG_FUA if rng.random() < 0.05 else 0)
                    have[block] = version
                    acknowledge()
                    break
                except nbd.Error:
                    with lock:
                        reconnects += 1
                    h, at = attach(at + 1)
                    # The write may or may not have happened; it is repeated, so nothing else may be found from here on but
                    # the read before it, which may find it done.
                    got = bytes(retry_read(h, base + block * BLOCK, at))
                    legal = [content(thread, block, have[block]) if have[block] else b"\0" * BLOCK, content(thread, block, have[block] + 1)]
                    if got not in legal:
                        failed.append("thread %d block %d after reconnecting: %r, acknowledged version %d" % (thread, block, got[:24], have[block]))
                        return
                    if got == legal[1]:
                        have[block] += 1
    finally:
        results[thread] = have


def retry_read(h, off, at):
    while True:
        try:
            return h.pread(BLOCK, off)
        except nbd.Error:
            h, at = attach(at + 1)


results = {}


def verify():
    h, at = attach(0)
    for thread, have in results.items():
        for block, version in enumerate(have):
            want = content(thread, block, version) if version else b"\0" * BLOCK
            got = bytes(retry_read(h, (thread * BLOCKS + block) * BLOCK, at))
            if got != want:
                failed.append("at the end thread %d block %d: %r instead of version %d" % (thread, block, got[:24], version))
                return


threads = [threading.Thread(target=writer, args=(i,)) for i in range(THREADS)]
for t in threads:
    t.start()
for line in sys.stdin:
    word = line.strip()
    if word == "count":
        print(acked, flush=True)
    elif word == "mark":
        with lock:
            gap, last_ack = 0.0, time.monotonic()
        print("ok", flush=True)
    elif word == "gap":
        with lock:
            print(int(max(gap, 0) * 1000), flush=True)
    elif word == "stop":
        break
stop.set()
for t in threads:
    t.join()
if not failed:
    verify()
if failed:
    print("WRONG: " + failed[0], flush=True)
    sys.exit(1)
print("right: %d acknowledged writes, %d reconnects, every byte there" % (acked, reconnects), flush=True)
