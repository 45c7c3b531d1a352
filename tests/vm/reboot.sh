#!/usr/bin/env bash
# The guest goes down without stopping anything and boots again: cluster, LUNs, targets and logins are back by themselves.
# guest: kernel=uml mem=1280 limit=150 boots=2
. "$(dirname "$0")/lib.sh"
export MYFS_DEMO_DIR=/run/disk/demo
# What a machine keeps over a reboot: the initiator's records.
mkdir -p /run/disk/iscsi
[[ $VM_BOOT != 1 ]] || cp /etc/iscsi/iscsid.conf /run/disk/iscsi/
mkdir -p /etc/iscsi
mount --bind /run/disk/iscsi /etc/iscsi
. "$(dirname "$0")/lib_iscsi.sh"

if ((VM_BOOT == 1)); then
  step "first boot: cluster, a LUN over iSCSI with ext4, files"
  runner_start
  myfs demo up -q --nodes 6 --gateways 1 --portal 127.0.0.1
  myfs-block create -q vol/lun 512M --allow "$initiator"
  until_ok 60 exported vol/lun
  dev=$(myfs-block map vol/lun --proto iscsi)
  iscsiadm -m node -T "$(iqn_of vol/lun)" -o update -n node.startup -v automatic
  make_fs ext4 "$dev"
  mkdir -p /run/mnt
  mount "$dev" /run/mnt
  files_make
  mv "$work/files" /run/disk/files
  cp -r /run/disk/files /run/mnt/
  sync -f /run/mnt
  iqn_of vol/lun >/run/disk/iqn
  myfs-block info vol/lun --json | jq -r .id >/run/disk/id
  step "power off, with everything mounted and running"
  sync # the guest's disk only: nothing is unmounted, stopped or logged out
  exit 0
fi

step "second boot: daemons start, as a service manager would start them"
iqn=$(</run/disk/iqn)
runner_start
myfs demo up -q
until_ok 60 exported vol/lun
[[ $(iqn_of vol/lun) == "$iqn" ]] || die "another target than before: $(iqn_of vol/lun)"
[[ $(myfs-block info vol/lun --json | jq -r .id) == "$(</run/disk/id)" ]] || die "another LUN than before"
iscsiadm -m node --loginall=automatic >"$work/login" 2>&1 || { cat "$work/login"; die "login"; }
until_ok 30 has_disk "$iqn"
dev=$(disk_of "$iqn")

step "the file system and its files are there"
mkdir -p /run/mnt
mount "$dev" /run/mnt # replays its journal
diff -r /run/disk/files /run/mnt/files || die "the files are not those copied in"
fio_verify /run/mnt/fio 8
umount /run/mnt
check_fs ext4 "$dev"
iscsiadm -m node -T "$iqn" --logout >/dev/null
step end
