#!/usr/bin/env bash
# The NBD server alone, over memory, judged by other people's clients: libnbd's tools, QEMU, nbdkit, fio, FUSE + ext4, over unix and TCP
# sockets, with TLS, and started by socket activation. A wrong byte here is the protocol's fault, not the storage's.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
server=${MYFS_TESTS:-$root/build/tests}/nbd_memory
work=$(mktemp -d "${TMPDIR:-/tmp}/nbd-memory.XXXXXX")
pids=()

step() { printf '== %s\n' "$*"; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

finish() {
	local status=$? pid
	trap - EXIT
	((status == 0)) || printf 'exit %d at line %s: %s\n' "$status" "${BASH_LINENO[0]}" "$BASH_COMMAND"
	mountpoint -q "$work/mnt" && fusermount3 -u "$work/mnt"
	for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	rm -rf "$work"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# serve NAME ARGS...: starts a server and waits until it says that it is ready. Sets $pid, and $port for a TCP listener.
serve() {
	local name=$1 line
	shift
	mkfifo "$work/$name.out"
	"$server" "$@" >"$work/$name.out" &
	pid=$!
	pids+=("$pid")
	exec {out}<"$work/$name.out"
	while read -rt 20 -u "$out" line; do
		case $line in
		"listening tcp:"*) port=${line##*:} ;;
		ready) exec {out}<&-; return ;;
		esac
	done
	die "server $name did not become ready"
}

# Ends the server and insists on a clean exit in the 5 s it promises (and a little for a busy machine).
stop() {
	local began=$SECONDS
	kill -TERM "$pid"
	wait "$pid" || die "server ended with $?"
	((SECONDS - began <= 7)) || die "server took $((SECONDS - began)) s to stop"
}

expect_status() { # status command...
	local want=$1 got=0
	shift
	"$@" >"$work/out" 2>&1 || got=$?
	[[ $got == "$want" ]] || { cat "$work/out"; die "exit $got instead of $want: $*"; }
}

# A sparse image with a bit of everything.
step "images"
dd if=/dev/urandom of="$work/img" bs=64K count=100 seek=3 status=none
dd if=/dev/urandom of="$work/img" bs=64K count=7 seek=700 conv=notrunc status=none
printf 'odd place' | dd of="$work/img" bs=1 seek=20000001 conv=notrunc status=none
truncate -s 64M "$work/img"

step "unix socket: nbdinfo"
serve unix --size 64M --export vol/lun --export vol/other:ro --listen "unix:$work/s"
U="nbd+unix:///vol/lun?socket=$work/s"
RO="nbd+unix:///vol/other?socket=$work/s"
nbdinfo --list "nbd+unix:///?socket=$work/s" >"$work/list"
[[ $(grep -c '^export=' "$work/list") == 2 ]] || die "list: $(cat "$work/list")"
[[ $(nbdinfo --size "$U") == 67108864 ]] || die "size"
for can in cache df fast-zero flush fua multi-conn trim zero write structured-reply; do nbdinfo --can "$can" "$U" || die "cannot $can"; done
nbdinfo --is read-only "$RO" || die "read-only not told"
expect_status 2 nbdinfo --can trim "$RO"
expect_status 2 nbdinfo --is rotational "$U"
nbdinfo --json "$U" | jq -e '.exports[0]["block_size_minimum"] == 1 and .exports[0]["block_size_preferred"] == 4096 and
	.exports[0]["block_size_maximum"] == 33554432 and .exports[0]["contexts"] == ["base:allocation"]' >/dev/null || die "nbdinfo --json"
[[ $(nbdinfo --map --totals "$U" | awk '{print $1, $3}') == "67108864 3" ]] || die "a fresh export is not one hole"
expect_status 1 nbdinfo "nbd+unix:///nope?socket=$work/s"
expect_status 1 qemu-img info "nbd+unix:///nope?socket=$work/s"
grep -q "there is no export 'nope'" "$work/out" || die "the error does not say why: $(cat "$work/out")"
expect_status 1 qemu-img info "nbd+unix:///?socket=$work/s"
grep -q "no default export" "$work/out" || die "the error does not say why: $(cat "$work/out")"

step "nbdcopy both ways, holes stay holes"
nbdcopy "$work/img" "$U"
nbdcopy "$U" "$work/back"
cmp "$work/img" "$work/back"
data=$(nbdinfo --map --totals "$U" | awk '$3 == 0 {print $1}')
((data <= 108 * 65536)) || die "holes were filled: $data bytes of data"
nbdcopy --connections=4 --requests=64 "$U" - | cmp "$work/img" -
nbdcopy --destination-is-zero --no-extents "$work/img" "$U"
nbdcopy "$U" null:

step "QEMU: info, convert, compare, map"
qemu-img info "$U" | grep -q 'virtual size: 64 MiB'
qemu-img compare -f raw -F raw "$work/img" "$U"
qemu-img convert -f raw -O qcow2 "$U" "$work/q.qcow2"
qemu-img compare "$work/q.qcow2" "$U"
qemu-img map --output=json -f raw "$U" | jq -e 'map(select(.data)) | length >= 2' >/dev/null || die "qemu-img map sees no data"
qemu-img map --output=json -f raw "$U" | jq -e 'map(select(.zero)) | length >= 2' >/dev/null || die "qemu-img map sees no holes"
qemu-io -f raw -c 'write -P 0xaa 0 64M' "$U" >/dev/null
qemu-img convert -n -f qcow2 -O raw "$work/q.qcow2" "$U"
qemu-img compare -f raw -F raw "$work/img" "$U"
nbdcopy "$U" "$work/back" && cmp "$work/img" "$work/back"

step "qemu-io: patterns, unaligned, zero, discard, asynchronous"
qemu-io -f raw -c 'write -P 0x11 0 1M' -c 'write -P 0x22 511 5000' -c 'read -P 0x11 0 511' -c 'read -P 0x22 511 5000' \
	-c 'read -P 0x11 5511 1000' -c 'write -f -P 0x33 1M 64k' -c 'write -z 1000 70000' -c 'read -P 0 1000 70000' \
	-c 'write -z -u 256k 256k' -c 'read -P 0 256k 256k' -c 'discard 512k 256k' -c 'flush' -c 'read -P 0x33 1M 64k' \
	-c 'aio_write -P 0x44 2M 1M' -c 'aio_write -P 0x55 3M 1M' -c 'aio_flush' -c 'read -P 0x44 2M 1M' -c 'read -P 0x55 3M 1M' \
	"$U" >"$work/qemu-io"
! grep -iE 'fail|error|verification' "$work/qemu-io" || die "qemu-io"

step "fio: verified random writes, any size and place, trims mixed in, four connections"
verified() { # name args...
	local name=$1
	shift
	(cd "$work" && exec fio --name="$name" --ioengine=nbd --uri="$U" --iodepth=16 --verify=crc32c --verify_fatal=1 "$@") >"$work/fio" 2>&1 ||
		{ cat "$work/fio"; die "fio $name"; }
}
verified aligned --rw=randwrite --bs=4k --size=64M
verified unaligned --rw=randwrite --bsrange=512-1M --bs_unaligned --size=64M
verified trims --rw=randtrimwrite --bs=64k --size=32M
verified many --rw=randrw --bs=16k --size=16M --offset_increment=16M --numjobs=4

step "properties through libnbd"
for seed in 1 2 3; do /usr/bin/python3 tests/integration/nbd_properties.py "$U" $seed; done

step "nbdkit's checkwrite filter"
nbdcopy "$work/img" "$U"
nbdkit -U - --filter=checkwrite nbd uri="$U" --run "nbdcopy '$work/img' \"\$uri\""
nbdkit -U - --filter=blocksize nbd uri="$U" maxdata=64K --run "nbdcopy \"\$uri\" '$work/back'"
cmp "$work/img" "$work/back"
nbdkit -U - nbd uri="$U" shared=true --run 'nbdinfo --can multi-conn "$uri"'

if [[ -c /dev/fuse ]]; then
	step "a file system through FUSE"
	mkdir "$work/mnt"
	nbdfuse -P "$work/fuse.pid" "$work/mnt" "$U" &
	pids+=("$!")
	for ((i = 0; i < 400; i++)); do
		[[ -s $work/fuse.pid ]] && break
		read -rt 0.05 <> <(:) || true
	done
	[[ -s $work/fuse.pid ]] || die "nbdfuse does not start"
	mkfs.ext4 -q -F "$work/mnt/nbd"
	debugfs -w -R "write $work/q.qcow2 image" "$work/mnt/nbd" 2>/dev/null
	debugfs -R "dump image $work/q2.qcow2" "$work/mnt/nbd" 2>/dev/null
	cmp "$work/q.qcow2" "$work/q2.qcow2"
	e2fsck -fn "$work/mnt/nbd" >/dev/null
	fusermount3 -u "$work/mnt"
	wait "$!" || true
fi

step "the server ends although clients hang on"
cat >"$work/hang.py" <<-'PY'
	# Twenty that never say a word, twenty that ask for data and take none, twenty that send half a write.
	import socket, struct, sys
	held = []
	for i in range(60):
	    s = socket.socket(socket.AF_UNIX)
	    s.connect(sys.argv[1])
	    held.append(s)
	    if i % 3 == 0:
	        continue
	    s.sendall(b"\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\7vol/lun")
	    if i % 3 == 1:
	        s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, 0, 32 << 20) * 3)
	    else:
	        s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 1, 0, 1 << 20) + bytes(1000))
	print("holding", flush=True)
	sys.stdin.read()
PY
coproc HANG { exec /usr/bin/python3 "$work/hang.py" "$work/s"; }
pids+=("$HANG_PID")
read -rt 20 -u "${HANG[0]}" line && [[ $line == holding ]] || die "the hostile client did not connect"
nbdcopy "$U" null: # others are served meanwhile
hang=$HANG_PID
stop
kill "$hang" && { wait "$hang" || true; } 2>/dev/null

step "every request suspended once; the epoll backend"
serve yield --size 64M --yield --listen "unix:$work/y"
/usr/bin/python3 tests/integration/nbd_properties.py "nbd+unix:///?socket=$work/y" 4
stop
MYFS_LOOP=epoll serve epoll --size 64M --listen "unix:$work/e"
/usr/bin/python3 tests/integration/nbd_properties.py "nbd+unix:///?socket=$work/e" 5
stop

step "errors come with words"
serve bad --size 16M --fail-at 1M --listen "unix:$work/b"
B="nbd+unix:///?socket=$work/b"
/usr/bin/python3 - "$B" <<-'PY'
	import errno, nbd, sys
	h = nbd.NBD()
	h.connect_uri(sys.argv[1])
	for call in (lambda: h.pread(4096, 1024 * 1024), lambda: h.pwrite(b"x", 1024 * 1024), lambda: h.zero(2**21, 0)):
	    try:
	        call()
	    except nbd.Error as e:
	        assert e.errnum == errno.EIO, e
	    else:
	        sys.exit("no error")
	h.pwrite(b"x", 1024 * 1024 + 1)
	assert h.pread(1, 1024 * 1024 + 1) == b"x"
PY
expect_status 1 nbdcopy "$B" null:
grep -qi 'input/output error' "$work/out" || die "no words: $(cat "$work/out")"
stop

step "TLS"
mkdir "$work/pki"
(cd "$work/pki"
certtool --generate-privkey --key-type=ecdsa --outfile ca-key.pem
printf 'cn = test CA\nca\ncert_signing_key\nexpiration_days = 2\n' >ca.t
certtool --generate-self-signed --load-privkey ca-key.pem --template ca.t --outfile ca-cert.pem
for who in server client; do
	certtool --generate-privkey --key-type=ecdsa --outfile $who-key.pem
	printf 'cn = %s\ndns_name = localhost\nip_address = 127.0.0.1\ntls_www_%s\nsigning_key\nexpiration_days = 2\n' $who $who >$who.t
	certtool --generate-certificate --load-privkey $who-key.pem --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \
		--template $who.t --outfile $who-cert.pem
done) 2>"$work/certtool" || { cat "$work/certtool"; die "certtool"; }
mkdir "$work/stranger"
cp "$work/pki/ca-cert.pem" "$work/stranger/"
serve tls --size 64M --export vol/lun --tls "$work/pki" --tls-require --listen tcp:127.0.0.1:0
T="nbds://localhost:$port/vol/lun?tls-certificates=$work/pki"
nbdinfo "$T" | grep -q 'with TLS' || die "no TLS"
nbdinfo --list "nbds://localhost:$port/?tls-certificates=$work/pki" | grep -q 'vol/lun' || die "no list over TLS"
expect_status 1 nbdinfo "nbd://localhost:$port/vol/lun"
expect_status 1 nbdinfo --list "nbd://localhost:$port/"
nbdcopy "$work/img" "$T"
nbdcopy "$T" - | cmp "$work/img" -
creds=tls-creds-x509,id=t,dir=$work/pki,endpoint=client
qemu-img compare --object "$creds" --image-opts "driver=raw,file.driver=file,file.filename=$work/img" \
	"driver=raw,file.driver=nbd,file.host=localhost,file.port=$port,file.export=vol/lun,file.tls-creds=t"
/usr/bin/python3 tests/integration/nbd_properties.py "$T" 6 300
stop
cat >"$work/starttls.py" <<-'PY'
	# What was said before TLS must not count after it: neither bytes sent early, nor what was negotiated.
	import socket, ssl, struct, sys
	port, pki = int(sys.argv[1]), sys.argv[2]
	opt = lambda i, data=b"": b"IHAVEOPT" + struct.pack(">II", i, len(data)) + data
	reply = lambda i, t: struct.pack(">QIII", 0x3E889045565A9, i, t, 0)
	go = struct.pack(">I", 7) + b"vol/lun" + bytes(2)

	def exactly(s, n):
	    got = b""
	    while len(got) < n:
	        more = s.recv(n - len(got))
	        assert more, f"the server left after {got}"
	        got += more
	    return got

	s = socket.create_connection(("127.0.0.1", port))
	exactly(s, 18)
	s.sendall(b"\0\0\0\3" + opt(5) + opt(3) + opt(7, go))
	assert exactly(s, 20) == reply(5, 1)
	rest = b""
	try:
	    while more := s.recv(4096):
	        rest += more
	except ConnectionResetError:
	    pass
	assert struct.pack(">Q", 0x3E889045565A9) not in rest, "options sent in clear behind STARTTLS were answered"

	s = socket.create_connection(("127.0.0.1", port))
	exactly(s, 18)
	s.sendall(b"\0\0\0\3" + opt(8))
	assert exactly(s, 20) == reply(8, 1)
	s.sendall(opt(5))
	assert exactly(s, 20) == reply(5, 1)
	context = ssl.create_default_context(cafile=pki + "/ca-cert.pem")
	s = context.wrap_socket(s, server_hostname="localhost")
	s.sendall(opt(5))
	n = struct.unpack(">QIII", exactly(s, 20))
	assert n[2] == 0x80000003, "a second STARTTLS was not refused"
	exactly(s, n[3])
	s.sendall(opt(7, go))
	assert exactly(s, 20)[12:] == struct.pack(">II", 3, 12)
	flags = struct.unpack(">HQH", exactly(s, 12))[2]
	assert not flags & 0x80, "structured replies survived STARTTLS"
	exactly(s, 20)
	s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 2, 1, 0, 0))  # NBD_CMD_DISC
	s.suppress_ragged_eofs = False  # an end without TLS's closing alert is an error
	assert s.recv(1) == b"", "bytes after the goodbye"
PY
serve tls1 --size 64M --export vol/lun --tls "$work/pki" --listen tcp:127.0.0.1:0
/usr/bin/python3 "$work/starttls.py" "$port" "$work/pki"
stop
serve tls2 --size 64M --tls "$work/pki" --tls-verify --listen tcp:127.0.0.1:0
nbdinfo "nbds://localhost:$port/?tls-certificates=$work/pki" >/dev/null
expect_status 1 nbdinfo "nbds://localhost:$port/?tls-certificates=$work/stranger"
nbdinfo "nbd://127.0.0.1:$port/" | grep -q 'without TLS' || die "TLS is not required here"
stop

step "socket activation"
nbdinfo -- [ "$server" --size 5M ] | grep -q 'export-size: 5242880'
nbdcopy -- "$work/q.qcow2" [ "$server" --size 64M ]
if command -v systemd-socket-activate >/dev/null; then
	socket=$work/act
	systemd-socket-activate -l "$socket" "$server" --size 7M 2>"$work/act.log" &
	pid=$!
	pids+=("$pid")
	for ((i = 0; i < 400; i++)); do
		[[ -S $socket ]] && break
		read -rt 0.05 <> <(:) || true
	done
	[[ $(nbdinfo --size "nbd+unix:///?socket=$socket") == 7340032 ]] || { cat "$work/act.log"; die "systemd's way"; }
	stop
fi
echo "nbd_memory: ok"
