# lib.sh - what every scenario in a guest starts with: the integration tests' functions, with the demo cluster on the guest's disk.
# Nothing is cleaned up at the end: the guest is gone then. What must have ended is asserted, not killed. Sourced.
mkdir -p /run/disk
blkid "$VM_DISK" >/dev/null || mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 "$VM_DISK"
modprobe ext4 2>/dev/null || true
mount "$VM_DISK" /run/disk || exit 1
export TMPDIR=/run/disk
. "$(dirname "${BASH_SOURCE[0]}")/../integration/lib.sh"

finish() {
  local status=$? log
  trap - EXIT
  if ((status != 0 && status != 77)); then
    printf 'exit %d at: %s\n' "$status" "$BASH_COMMAND"
    for log in "$MYFS_DEMO_DIR"/*/log /var/log/tcmu-runner.log; do
      [[ -s $log ]] && { printf -- '--- %s\n' "$log"; tail -15 "$log"; }
    done
  fi
  exit "$status"
}
# Shortly before the guest is taken away: what waits, and where. A hung scenario says nothing else.
if [[ -n ${VM_LIMIT:-} ]]; then
  (
    read -rt $((VM_LIMIT - 15)) <> <(:) || true
    printf 'the time limit comes; what runs:\n'
    ps -eo stat,pid,wchan:32,args | awk '$4 !~ /^\[/'
    for p in $(ps -eo stat=,pid= | awk '/^D/ {print $2}'); do printf -- '--- %s\n' "$(tr '\0' ' ' </proc/"$p"/cmdline)"; cat /proc/"$p"/stack; done
  ) &
fi
step() { printf '== %4d s %s\n' "$SECONDS" "$*"; }
until_ok() { # seconds command...: asks until it succeeds
  local limit=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < limit)) || die "not within the time: $*"
    read -rt 0.1 <> <(:) || true
  done
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
kernel_modules() { modprobe -a "$@" || die "modprobe $*"; }
drop_caches() { sync; echo 3 >/proc/sys/vm/drop_caches; }

make_fs() { # ext4|xfs device
  case $1 in
    ext4) mkfs.ext4 -F -q "$2" ;;
    xfs) mkfs.xfs -f -q "$2" ;;
  esac
}
check_fs() { # ext4|xfs device: a full check that may not find anything
  case $1 in
    ext4) e2fsck -fn "$2" >"$work/fsck" 2>&1 ;;
    xfs) xfs_repair -n "$2" >"$work/fsck" 2>&1 ;;
  esac || { cat "$work/fsck"; die "$1 on $2 is damaged"; }
}
# Files copied in: sources (small, many), a program, and bytes no one can guess.
files_make() {
  mkdir -p "$work/files"
  cp -r "$root/core" "$MYFS_BIN/myfs-blockd" "$work/files/"
  head -c 16M /dev/urandom >"$work/files/random"
}
files_copy() { cp -r "$work/files" "$1/"; sync -f "$1"; }
files_compare() { diff -r "$work/files" "$1/files" || die "the files in $1 are not those copied in"; }

# Random writes that are read back and checked while others go on, and all of them once more at the end. What was read is counted: a run
# that ended before its checks has shown nothing.
fio_verify() { # file or device, MiB, more options
  local target=$1 mib=$2; shift 2
  fio --name=verify --filename="$target" --direct=1 --rw=randwrite --bsrange=4k-64k --size="${mib}M" --ioengine=libaio --iodepth=16 \
    --verify=crc32c --verify_fatal=1 --do_verify=1 --verify_backlog=128 --randseed="${SEED:-1}" --eta=never --output-format=json --output="$work/fio.out" "$@" ||
    { cat "$work/fio.out"; die "fio on $target"; }
  jq -er '.jobs[0] | select(.read.total_ios > 0 and .error == 0) |
    "   fio: \(.write.total_ios) writes, \(.read.total_ios) checked reads, \(.write.iops | floor) writes a second"' "$work/fio.out" ||
    die "fio on $target checked nothing"
}
# The same over and over, until the scenario has done what it had to do: a scenario's steps take as long as they take on a busy machine.
fio_begins() { # file or device, MiB
  rm -f "$work/enough"
  (SEED=1; until [[ -e $work/enough ]]; do fio_verify "$@"; SEED=$((SEED + 1)); done) >"$work/fio.log" 2>&1 &
  fio=$!
}
fio_goes_on() { kill -0 "$fio" 2>/dev/null || { cat "$work/fio.log"; dmesg | tail -20; die "fio ended too early"; }; }
fio_ends() { # when its last round has checked every block
  touch "$work/enough"
  wait "$fio" || { cat "$work/fio.log"; dmesg | tail -20; die "fio"; }
  tail -1 "$work/fio.log"
}
# What no process may be in after I/O was cut off: uninterruptible sleep.
none_hung() {
  [[ -z $(ps -eo stat=,pid=,args= | awk '$1 ~ /^D/ && $3 !~ /^\[/') ]]
}
bricks_used_kb() { du -sk --total "$MYFS_DEMO_DIR"/node*/b* | tail -1 | cut -f1; }
# Files and fio's bytes go from the file systems mounted at $work/ext4 and $work/xfs; the bricks shrink.
trim_gives_space_back() {
  step "fstrim gives space back to the bricks"
  local before fs; before=$(bricks_used_kb)
  for fs in ext4 xfs; do
    rm -r "$work/$fs/files" "$work/$fs/fio"
    sync -f "$work/$fs"
    fstrim "$work/$fs"
  done
  freed() { (($(bricks_used_kb) < before - 60 * 1024)); }
  until_ok 30 freed
  echo "   bricks: $before KiB before, $(bricks_used_kb) KiB after"
}
