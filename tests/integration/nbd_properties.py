"""Properties of an NBD export, through libnbd: python3 nbd_properties.py URI [SEED [ROUNDS]]

A model in memory is compared with the export after random operations of every kind and flag; then every rule on errors.
The first 4 MiB of the export are overwritten."""

import errno
import random
import sys

import nbd

uri = sys.argv[1]
seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 1500
print(f"nbd_properties: seed {seed}, {rounds} rounds")
rng = random.Random(seed)
SPAN = 4 * 1024 * 1024


def connect(**opts):
    h = nbd.NBD()
    h.set_uri_allow_local_file(True)  # tls-certificates=
    h.set_request_structured_replies(opts.get("structured", True))
    if opts.get("meta", True):
        h.add_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
    h.set_strict_mode(opts.get("strict", nbd.STRICT_COMMANDS | nbd.STRICT_FLAGS))
    h.connect_uri(uri)
    return h


def some_range():
    unit = rng.choice([1, 1, 512, 4096, 65536])
    length = rng.choice([1, 100, 511, 512, 4096, 5000, 65536, 100000, rng.randrange(1, 300000)])
    off = rng.randrange(0, SPAN - length + 1) // unit * unit
    return off, length


def fail(what):
    sys.exit(f"nbd_properties: seed {seed}: {what}")


def read_all(h, off, length):
    """One read in one of the ways there are; checks the shape of structured replies."""
    how = rng.randrange(3)
    if how == 0:
        return bytes(h.pread(length, off))
    out = bytearray(length)
    seen = []

    def chunk(data, at, status, err):
        if err.value:
            return
        if not (off <= at and at + len(data) <= off + length) or len(data) == 0:
            fail(f"chunk {at}+{len(data)} outside {off}+{length}")
        seen.append((at, len(data), status))
        out[at - off:at - off + len(data)] = data

    h.pread_structured(length, off, chunk, nbd.CMD_FLAG_DF if how == 1 else 0)
    if how == 1 and len(seen) != 1:
        fail(f"{len(seen)} chunks despite DF")
    at = off
    for start, n, status in sorted(seen):
        if start != at:
            fail(f"chunks leave a gap or overlap at {at}")
        at += n
    if at != off + length:
        fail("chunks do not cover the read")
    return bytes(out)


def check_status(h, model, off, length):
    extents = []

    def extent(context, at, entries, err):
        if context != nbd.CONTEXT_BASE_ALLOCATION or at != off:
            fail("block status of something else")
        extents.extend(zip(entries[::2], entries[1::2]))

    one = rng.random() < 0.3
    h.block_status(length, off, extent, nbd.CMD_FLAG_REQ_ONE if one else 0)
    if not extents or (one and len(extents) != 1) or (one and extents[0][0] > length):
        fail(f"block status {extents} of {length}, one={one}")
    at = off
    for n, flags in extents:
        if n == 0:
            fail("extent of no bytes")
        if flags & nbd.STATE_ZERO and at < off + length and any(model[at:min(at + n, off + length, SPAN)]):
            fail(f"extent {at}+{n} said to be zero is not")
        at += n


def random_operations(h):
    model = bytearray(SPAN)
    h.zero(SPAN, 0)
    for _ in range(rounds):
        off, length = some_range()
        op = rng.choice("wwwwrrrrzztscf")
        if op == "w":
            data = rng.randbytes(length) if rng.random() < 0.7 else bytes(length)
            h.pwrite(data, off, rng.choice([0, 0, nbd.CMD_FLAG_FUA]))
            model[off:off + length] = data
        elif op == "r":
            if read_all(h, off, length) != model[off:off + length]:
                fail(f"read {off}+{length} differs")
        elif op == "z":
            flags = rng.choice([0, nbd.CMD_FLAG_NO_HOLE, nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_FUA | nbd.CMD_FLAG_NO_HOLE,
                                nbd.CMD_FLAG_FAST_ZERO])
            h.zero(length, off, flags)
            model[off:off + length] = bytes(length)
        elif op == "t":
            h.trim(length, off, rng.choice([0, nbd.CMD_FLAG_FUA]))
            # The protocol promises nothing about trimmed bytes, except that they stay what they are read as.
            model[off:off + length] = h.pread(length, off)
        elif op == "s":
            check_status(h, model, off, length)
        elif op == "c":
            h.cache(length, off)
        elif op == "f":
            h.flush()
    if h.pread(SPAN, 0) != model:
        fail("the whole differs at the end")
    return model


def batches(h):
    """Many requests under way at once, on ranges that do not overlap."""
    unit = 16384
    model = bytearray(h.pread(SPAN, 0))
    for _ in range(20):
        places = rng.sample(range(SPAN // unit), 60)
        done = []
        for p in places[:40]:
            off = p * unit + rng.randrange(0, 1000)
            data = rng.randbytes(rng.randrange(1, unit - 1000))
            model[off:off + len(data)] = data
            done.append(h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), off))
        reads = []
        for p in places[40:]:
            buf = nbd.Buffer(unit)
            reads.append((p, buf, h.aio_pread(buf, p * unit)))
        for c in done + [r[2] for r in reads]:
            while not h.aio_command_completed(c):
                h.poll(-1)
        for p, buf, _ in reads:
            if buf.to_bytearray() != model[p * unit:(p + 1) * unit]:
                fail(f"batched read at {p * unit} differs")
    if h.pread(SPAN, 0) != model:
        fail("the whole differs after the batches")


def expect(number, call, *args):
    try:
        call(*args)
    except nbd.Error as e:
        if e.errnum != number:
            fail(f"{call.__name__}{args[1:]}: {e} instead of {errno.errorcode[number]}")
        return
    fail(f"{call.__name__}{args[1:]} succeeded; {errno.errorcode[number]} was due")


def errors():
    h = connect(strict=0)
    size = h.get_size()
    fua, df = nbd.CMD_FLAG_FUA, nbd.CMD_FLAG_DF
    expect(errno.EINVAL, h.pread, 512, size)
    expect(errno.EINVAL, h.pread, 2, size - 1)
    expect(errno.ENOSPC, h.pwrite, bytes(2), size - 1)
    expect(errno.ENOSPC, h.zero, 2, size - 1)
    expect(errno.EINVAL, h.trim, 2, size - 1)
    expect(errno.EINVAL, h.cache, 2, size - 1)
    expect(errno.EINVAL, h.block_status, 2, size - 1, lambda *a: 0)
    expect(errno.EINVAL, h.pwrite, b"x", 0, df)
    expect(errno.EINVAL, h.trim, 512, 0, nbd.CMD_FLAG_NO_HOLE)
    expect(errno.EINVAL, h.cache, 512, 0, nbd.CMD_FLAG_REQ_ONE)
    expect(errno.EOPNOTSUPP, h.zero, 512, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE)
    h.pread(1, size - 1)
    h.pread(512, 0, fua)  # FUA is fine on anything
    h.shutdown()

    plain = connect(structured=False, meta=False, strict=0)
    if plain.get_structured_replies_negotiated() or plain.can_df():
        fail("structured replies without being asked for")
    expect(errno.EINVAL, plain.pread, 512, 0, df)
    expect(errno.EINVAL, plain.pread, 512, size)
    plain.pread(512, 0)
    plain.shutdown()

    bare = connect(meta=False, strict=0)
    expect(errno.EINVAL, bare.block_status, 512, 0, lambda *a: 0)
    bare.shutdown()


def connections():
    """CAN_MULTI_CONN: what one connection wrote and flushed, another reads."""
    a, b = connect(), connect()
    if not a.can_multi_conn():
        fail("multi-conn is not offered")
    for i in range(20):
        data = rng.randbytes(30000)
        a.pwrite(data, 7 + i)
        a.flush()
        if b.pread(len(data), 7 + i) != data:
            fail("another connection reads old bytes after a flush")
        a, b = b, a
    a.shutdown()
    b.shutdown()


main = connect()
flags = {n: getattr(main, n)() for n in dir(main) if n.startswith("can_") and n not in ("can_meta_context",)}
wanted = {"can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"}
if {n for n, v in flags.items() if v} != wanted or main.is_read_only() or not main.can_meta_context("base:allocation"):
    fail(f"flags {flags}")
if (main.get_block_size(nbd.SIZE_MINIMUM), main.get_block_size(nbd.SIZE_MAXIMUM)) != (1, 32 * 1024 * 1024):
    fail("block sizes")
random_operations(main)
batches(main)
main.shutdown()
errors()
connections()
print("nbd_properties: ok")
