#!/usr/bin/env bash
# A cluster put together by hand: bricks over TCP with the cluster key, NBD with TLS certificates, a wrong key and a plain client refused; the epoll loop.
. "$(dirname "$0")/lib.sh"
command -v certtool >/dev/null || skip "certtool (gnutls-bin) is not installed"
export MYFS_REGISTRY=$work/registry.db MYFS_LOOP=epoll
head -c 32 /dev/urandom >"$work/key"; chmod 600 "$work/key"
head -c 32 /dev/urandom >"$work/wrong"; chmod 600 "$work/wrong"
mkdir "$work/tls"
(
  cd "$work/tls"
  certtool --generate-privkey --outfile ca-key.pem
  printf 'cn=test ca\nca\ncert_signing_key\n' >ca.info
  certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info --outfile ca-cert.pem
  certtool --generate-privkey --outfile server-key.pem
  printf 'cn=localhost\ndns_name=localhost\nip_address=127.0.0.1\ntls_www_server\nencryption_key\nsigning_key\n' >server.info
  certtool --generate-certificate --load-privkey server-key.pem --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem --template server.info --outfile server-cert.pem
) 2>/dev/null

port=$((20000 + RANDOM % 20000))
start() { "$@" 2>>"$work/log" & helpers+=($!); }
for n in 1 2 3; do
  myfs node add -q "node$n" "tcp:127.0.0.1:$((port + n))" "unix:$work/c$n"
  start myfs-brickd --registry "$MYFS_REGISTRY" --node "node$n" --control "unix:$work/c$n" --psk "$work/key"
done
for n in 1 2 3; do until_ok 10 test -S "$work/c$n"; done
step "a volume over TCP with the cluster key"
myfs volume create -q vol --layout 2+1 --journal 16M node1:"$work/b1" node2:"$work/b2" node3:"$work/b3" || { cat "$work/log"; die volume; }
start myfs-blockd --registry "$MYFS_REGISTRY" --name gw --control "unix:$work/gw" --nbd "tcp:127.0.0.1:$((port + 9))" --psk "$work/key" --tls-certs "$work/tls" --tls require
until_ok 10 test -S "$work/gw"
until_ok 20 myfs-block create -q --if-missing vol/lun 64M || { cat "$work/log"; die lun; }
uri="nbds://localhost:$((port + 9))/vol/lun?tls-certificates=$work/tls"
step "nobody is allowed over TCP until named"
expect_exit 1 nbdinfo "$uri"
[[ -z $(nbdinfo --list "nbds://localhost:$((port + 9))/?tls-certificates=$work/tls" 2>/dev/null | grep vol/lun) ]] || die "a LUN is listed to somebody who may not attach it"
myfs-block acl add -q vol/lun 127.0.0.2/32
expect_exit 1 nbdinfo "$uri"
myfs-block acl add -q vol/lun 127.0.0.1
step "NBD over TLS"
nbdinfo "$uri" | grep -q 'with TLS'
head -c 8M /dev/urandom >"$work/a"
nbdcopy --flush "$work/a" "$uri"
nbdcopy "$uri" "$work/b"
cmp -n $((8 << 20)) "$work/a" "$work/b"
step "a client without TLS is refused"
expect_exit 1 nbdinfo "nbd://localhost:$((port + 9))/vol/lun"
step "a gateway with another key reaches no brick"
start myfs-blockd --registry "$MYFS_REGISTRY" --name gw2 --control "unix:$work/gw2" --nbd "unix:$work/nbd2" --psk "$work/wrong"
until_ok 10 test -S "$work/gw2"
myfs gateway list -H -o name | grep -qx gw2
refused() { grep -q 'gw2' "$work/log" && ! timeout 3 nbdinfo "nbd+unix:///vol/lun?socket=$work/nbd2"; }
refused || die "a gateway with the wrong key got through"
step "plain TCP for bricks is refused without the debug option"
myfs node add -q node4 "tcp:127.0.0.1:$((port + 4))" "unix:$work/c4"
expect_exit 2 timeout 10 myfs-brickd --registry "$MYFS_REGISTRY" --node node4 --control "unix:$work/c4"
