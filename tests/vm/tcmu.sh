#!/usr/bin/env bash
# A LUN behind the real tcmu-runner, attached by the kernel's initiator: sg3-utils, kill -9 of everything under fio verify, growing, fstrim.
# guest: kernel=uml mem=1280 limit=400
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_target.sh"

step "the initiator: sg3-utils"
mkdir -p /etc/iscsi
rm -f /etc/iscsi/initiatorname.iscsi
echo "InitiatorName=$initiator" >/etc/iscsi/initiatorname.iscsi
iscsid
iscsiadm -m discovery -t st -p 127.0.0.1 >/dev/null
iscsiadm -m node -T "$iqn" -p 127.0.0.1 --login >/dev/null
until_ok 20 sh -c 'ls /sys/class/iscsi_session/session*/device/target*/*/block/*/size'
disk=/dev/$(basename "$(echo /sys/class/iscsi_session/session*/device/target*/*/block/*)")
generic=/dev/$(basename "$(echo /sys/block/"${disk#/dev/}"/device/scsi_generic/*)")
sg_inq "$generic" | grep -q 'Product identification: vol/lun' || die "sg_inq: $(sg_inq "$generic")"
sg_inq "$generic" | grep -q 'Vendor identification: MYFS' || die "vendor: $(sg_inq "$generic")"
naa=6001405$(tr -d - <<<"$serial" | cut -c1-25) # as the kernel and tcmu-runner name a unit with this serial
[[ $(cat /sys/block/"${disk#/dev/}"/device/wwid) == "naa.$naa" ]] || die "wwid: $(cat /sys/block/"${disk#/dev/}"/device/wwid)"
sg_vpd -p di "$generic" >"$work/di"
grep -q "0x$naa" "$work/di" && grep -q 'vendor id: MYFS' "$work/di" && ! grep -q socket "$work/di" || { cat "$work/di"; die "page 83"; }
sg_vpd -p bl "$generic" | grep -q 'Maximum compare and write length: 255 blocks' || die "block limits: $(sg_vpd -p bl "$generic")"
sg_vpd -p lbpv "$generic" | grep -q 'Unmap command supported (LBPU): 1' || die "lbpv: $(sg_vpd -p lbpv "$generic")"
sg_readcap -16 "$generic" | grep -q 'physical block exponent=3' || die "readcap: $(sg_readcap -16 "$generic")"
[[ $(cat /sys/block/"${disk#/dev/}"/queue/fua) == 1 ]] || die "the initiator does not use FUA"
head -c 512 /dev/zero >"$work/zero"; head -c 512 /dev/urandom >"$work/new"
cat "$work/zero" "$work/new" >"$work/both"
sg_unmap --force --lba=2048 --num=8 "$generic"
sg_compare_and_write --in="$work/both" --lba=2048 --num=1 --xferlen=1024 "$generic"
expect_exit 14 sg_compare_and_write --in="$work/both" --lba=2048 --num=1 --xferlen=1024 "$generic" # miscompare
nbdsh -u "$uri" -c "assert h.pread(512, 2048*512) == open('$work/new', 'rb').read(), 'NBD does not see what iSCSI wrote'"
sg_opcodes "$generic" | grep -q 'Compare and write' || die "sg_opcodes"

step "kill -9 of the gateway, of a brick and of tcmu-runner under fio verify"
fio_verify "$disk" 96 --rate=8M & fio=$!
busy() { awk '{exit !($7 > '"$1"')}' "/sys/block/${disk#/dev/}/stat"; } # sectors written
sectors() { awk '{print $7}' "/sys/block/${disk#/dev/}/stat"; }
for victim in gateway node1 gateway runner gateway; do
  until_ok 60 busy $(($(sectors) + 8192))
  case $victim in
    runner) kill -9 "$runner"; wait "$runner" || true; runner_start ;;
    *) myfs demo kill -q $victim; myfs demo revive -q $victim ;;
  esac
  echo "   $victim killed and started at $SECONDS s"
done
wait "$fio" || die "fio found a wrong byte or an error"
until_ok 10 none_hung

step "LUN RESET and ABORT TASK with I/O under way: the target waits for the handler, the initiator repeats, nothing is lost"
limit=/sys/block/${disk#/dev/}/device/timeout gateway=$(cut -d' ' -f1 "$MYFS_DEMO_DIR/gw1/pid")
requests() { iscsiadm -m session -s | awk '/tmfcmd_pdus/ {print $2}'; }
more() { (($(requests) > before)); }
echo 5 >"$limit" # counts for commands that begin after this
fio_begins "$disk" 48 --rate=8M
for round in 1 2 3; do
  until_ok 60 busy $(($(sectors) + 4096))
  before=$(requests)
  sg_reset --device "$generic"
  more || die "no LUN RESET was sent"
done
until_ok 60 busy $(($(sectors) + 4096))
before=$(requests)
kill -STOP "$gateway"
until_ok 60 more
kill -CONT "$gateway"
until_ok 60 busy $(($(sectors) + 4096))
fio_ends
dmesg | grep -q 'ABORT_TASK: Sending TMR_FUNCTION_COMPLETE' || { dmesg | tail; die "no ABORT TASK was carried out"; }
echo 30 >"$limit"

step "growing while it is attached"
myfs-block resize -q vol/lun 2G
echo $((2 << 30)) >"$core/attrib/dev_size"
until_ok 20 sh -c "iscsiadm -m node -T $iqn --rescan; test \$(blockdev --getsize64 $disk) = $((2 << 30))"
dd if="$work/new" of="$disk" bs=512 seek=$(((2 << 21) - 1)) oflag=direct status=none

step "fstrim frees space on the bricks"
make_fs ext4 "$disk"
mkdir -p "$work/mnt"
mount "$disk" "$work/mnt"
head -c 64M /dev/urandom >"$work/mnt/big"
sync -f "$work/mnt/big"
used() { myfs-block du vol/lun -H -p -o used; }
filled() { (($(used) >= 90 << 20)); } # parity included, and what checkpoints have not settled yet comes later
until_ok 30 filled
before=$(used)
rm "$work/mnt/big"
sync -f "$work/mnt"
fstrim "$work/mnt"
freed() { (($(used) < before - (60 << 20))); }
until_ok 60 freed
echo "   bricks: $before bytes before, $(used) after"
umount "$work/mnt"
check_fs ext4 "$disk"

step "logout; the target and tcmu-runner end"
iscsiadm -m node -T "$iqn" --logout >/dev/null
target_stop
myfs demo down -q
