# lib_iscsi.sh - what the kernel's iSCSI target and initiator need in a guest that no service manager has started: modules, directories,
# D-Bus, tcmu-runner with our handler, iscsid. Sourced after lib.sh.
kernel_modules configfs target_core_mod target_core_user iscsi_target_mod iscsi_tcp sd_mod sg ext4 xfs
mountpoint -q /sys/kernel/config || mount -t configfs configfs /sys/kernel/config
mkdir -p /run/dbus /run/lock /etc/iscsi /etc/target /etc/rtslib-fb-target/{pr,alua} /var/target/{pr,alua}
rm -f /usr/share/dbus-1/system-services/org.kernel.TCMUService1.service # any call would start a second runner
rm -f /run/dbus/pid
dbus-daemon --system --fork --nopidfile

runner_start() {
  tcmu-runner --handler-path "${MYFS_BIN%/bin}/tcmu-runner" </dev/null >"$work/runner.out" 2>&1 & runner=$!
  until_ok 60 sh -c 'busctl --auto-start=no --system tree org.kernel.TCMUService1 | grep -q "TCMUService1/myfs$"'
}
initiator=iqn.1993-08.org.debian:01:guest
rm -f /etc/iscsi/initiatorname.iscsi
echo "InitiatorName=$initiator" >/etc/iscsi/initiatorname.iscsi
iscsid

iqn_of() { myfs-block target info "$1" --json | jq -r .iqn; }
exported() { [[ $(myfs-block target info "$1" --json | jq -r .state) == exported ]]; }
disk_of() { # IQN: its disk once the kernel has one
  local s
  for s in /sys/class/iscsi_session/session*; do
    [[ $(cat "$s/targetname" 2>/dev/null) == "$1" ]] || continue
    basename "$s"/device/target*/*/block/* | sed 's,^,/dev/,'
  done
}
has_disk() { [[ -b $(disk_of "$1") ]]; }
