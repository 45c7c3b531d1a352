# lib_target.sh - an iSCSI target made by hand around handler_myfs.so in the real tcmu-runner, one LUN vol/lun. Sourced after lib.sh.
kernel_modules configfs target_core_mod target_core_user iscsi_target_mod iscsi_tcp sd_mod sg ext4
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
mkdir -p /run/dbus /run/lock /var/target/pr /var/target/alua /etc/target
rm -f /usr/share/dbus-1/system-services/org.kernel.TCMUService1.service # any call would start a second runner
dbus-daemon --system --fork --nopidfile
iqn=iqn.2003-01.org.test:scsi
core=/sys/kernel/config/target/core/user_0/lun0
tpg=/sys/kernel/config/target/iscsi/$iqn/tpgt_1
serial=8a3f64c2-1b5d-4e07-9c6a-d2e1f7b40395
testers=(iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test-2)
initiator=iqn.1993-08.org.debian:01:guest

runner_start() {
  tcmu-runner --handler-path "${MYFS_BIN%/bin}/tcmu-runner" </dev/null >"$work/runner.out" 2>&1 & runner=$!
  until_ok 30 sh -c 'busctl --auto-start=no --system tree org.kernel.TCMUService1 | grep -q "TCMUService1/myfs$"'
}
target_start() { # socket size
  mkdir -p "$core"
  echo "dev_size=$2,dev_config=myfs/vol/lun;socket=$1" >"$core/control"
  echo 0 >"$core/attrib/cmd_time_out"
  echo "$serial" >"$core/wwn/vpd_unit_serial"
  echo 1 >"$core/enable"
  mkdir -p "$tpg/np/127.0.0.1:3260" "$tpg/lun/lun_0"
  ln -s "$core" "$tpg/lun/lun_0/lun0"
  echo 0 >"$tpg/attrib/authentication"
  local a
  for a in "${testers[@]}" "$initiator"; do
    mkdir -p "$tpg/acls/$a/lun_0"
    ln -s "$tpg/lun/lun_0" "$tpg/acls/$a/lun_0/lun0"
  done
  echo 1 >"$tpg/enable"
}

target_stop() {
  local a
  echo 0 >"$tpg/enable"
  for a in "${testers[@]}" "$initiator"; do
    rm "$tpg/acls/$a/lun_0/lun0"
    rmdir "$tpg/acls/$a/lun_0" "$tpg/acls/$a"
  done
  rm "$tpg/lun/lun_0/lun0"
  rmdir "$tpg/lun/lun_0" "$tpg/np/127.0.0.1:3260" "$tpg" "${tpg%/*}" "$core"
  kill "$runner"
  wait "$runner" || die "tcmu-runner ended with $?"
}

step "cluster, tcmu-runner with the handler, target"
demo_up --gateways 1
new_lun vol/lun 1G
runner_start
target_start "${uri#*socket=}" $((1 << 30))
! grep -q 'cmd_time_out is set' /var/log/tcmu-runner.log || die "cmd_time_out is not 0"

