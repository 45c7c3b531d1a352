# lib.sh - what every integration test starts with: strict shell, a directory of its own, a demo cluster in it, and an end that
# leaves nothing running. Sourced.
set -euo pipefail

: "${MYFS_BIN:=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build/bin}"
export PATH="$MYFS_BIN:$PATH"
work=$(mktemp -d "${TMPDIR:-/tmp}/myfs-test.XXXXXX")
export MYFS_DEMO_DIR=$work/demo
unset MYFS_REGISTRY MYFS_FORMAT
helpers=()

step() { printf '== %s\n' "$*"; }
# Debian's nbdsh asks for whatever python3 comes first in PATH; its module belongs to Debian's own.
nbdsh() { /usr/bin/python3 -mnbd "$@"; }
export -f nbdsh
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
skip() { printf '%s\n' "$*"; exit 77; }

finish() {
  local status=$? pid
  trap - EXIT
  if ((status != 0 && status != 77)); then
    printf 'exit %d at: %s\n' "$status" "$BASH_COMMAND"
    for log in "$MYFS_DEMO_DIR"/*/log; do
      [[ -s $log ]] && { printf -- '--- %s\n' "$log"; tail -15 "$log"; }
    done
    [[ -n ${MYFS_KEEP:-} ]] && { printf 'kept: %s\n' "$work"; exit "$status"; }
  fi
  for pid in "${helpers[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${helpers[@]}"; do wait "$pid" 2>/dev/null || true; done
  myfs demo down -q >/dev/null 2>&1 || true
  if mountpoint -q "$work/mnt" 2>/dev/null; then fusermount3 -u "$work/mnt" || umount "$work/mnt" || true; fi
  rm -rf "$work"
  exit "$status"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Asks until the command succeeds; the command itself must not block for long.
until_ok() { # seconds command...
  local limit=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < limit)) || die "not within the time: $*"
    read -rt 0.05 <> <(:) || true
  done
}

# One brick per node, so that bricks can be killed one by one.
demo_up() { myfs demo up -q --nodes 6 "$@"; }
lun_uri() { myfs-block info "$1" --json | jq -r '.exports[0].uri'; }
new_lun() { myfs-block create -q "$1" "$2" && uri=$(lun_uri "$1"); }
heal_all() { myfs heal status --watch >/dev/null; }
expect_exit() { # code command...
  local want=$1 got=0; shift
  "$@" >"$work/out" 2>"$work/err" || got=$?
  [[ $got == "$want" ]] || { cat "$work/out" "$work/err"; die "exit $got instead of $want: $*"; }
}
expect_error() { # code text command...
  local want=$1 text=$2; shift 2
  expect_exit "$want" "$@"
  grep -qF -- "$text" "$work/err" || { cat "$work/err"; die "the message lacks \"$text\": $*"; }
}
