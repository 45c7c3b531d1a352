# launch.sh - what vmrun and umlrun share: options, the directory host and guest share while the guest lives, and its end. Sourced.
#
#   RUN/cmd      what the guest runs                  RUN/console, RUN/dmesg  the kernel's messages
#   RUN/init     guest-init                           RUN/rw                  writable directories
#   RUN/status   exit status, written by the guest as its last act; without it the guest did not end by itself
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mem=1536 limit_s=600 disk='' rw=() env=() extra=() net=''
usage() { sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"; }
while (($# > 0)); do
  case $1 in
    -m) mem=$2; shift 2 ;;                      # guest memory, MiB
    -t) limit_s=$2; shift 2 ;;                  # seconds until the guest is killed: exit 124
    -d) disk=$(realpath "$2"); shift 2 ;;       # file the guest sees as a disk; its name there is in $VM_DISK
    -w) rw+=("$(realpath "$2")"); shift 2 ;;    # directory of the host the guest may write
    -e) env+=("$2"); shift 2 ;;                 # NAME=value for the command
    -f) net+=,$2; shift 2 ;;                    # qemu only: user network option, as hostfwd=tcp:127.0.0.1:13260-:3260
    -q) read -ra more <<<"$2"; extra+=("${more[@]}"); shift 2 ;; # more arguments for qemu, or for the kernel of umlrun
    -h | --help) usage; exit 0 ;;
    --) shift; break ;;
    *) break ;;
  esac
done
(($# > 0)) || { usage >&2; exit 64; }

missing() { printf '%s: %s is not installed (cli/install-deps vm)\n' "${0##*/}" "$1" >&2; exit 77; }
need() { local p; for p; do command -v "$p" >/dev/null || missing "$p"; done; }

prepare() { # device name of the disk in the guest
  run=$(mktemp -d "${TMPDIR:-/tmp}/myfs-vm.XXXXXX")
  trap 'rm -rf "$run"' EXIT
  [[ -z $disk ]] || env+=("VM_DISK=$1")
  {
    printf 'cd %q || exit 125\n' "$PWD"
    ((${#env[@]} == 0)) || printf 'export %q\n' "${env[@]}"
    printf 'exec'; printf ' %q' "${command[@]}"; echo
  } >"$run/cmd"
  cp "$here/guest-init" "$run/init"
  ((${#rw[@]} == 0)) || printf '%s\n' "${rw[@]}" >"$run/rw"
  touch "$run/rw"
}

# Runs the emulator; its file descriptor 3 is the guest's output. The pipe keeps a slow reader of ours from being taken for a closed port.
boot() {
  local status=0
  timeout --foreground -k 5 "$limit_s" setpriv --pdeathsig KILL "$@" </dev/null 3>&1 >"$run/emulator" 2>&1 | cat || status=${PIPESTATUS[0]}
  touch "$run/console" "$run/dmesg"
  [[ -z ${VM_CONSOLE:-} ]] || cat "$run/emulator" "$run/console" "$run/dmesg" >"$VM_CONSOLE" # a file that keeps the kernel's messages
  if [[ -s $run/status ]]; then exit "$(<"$run/status")"; fi
  printf '%s: the guest left no status, its emulator ended with %d; last words:\n' "${0##*/}" "$status" >&2
  tail -qn 25 "$run/emulator" "$run/console" >&2
  ((status == 124)) && exit 124
  exit 125
}
command=("$@")
