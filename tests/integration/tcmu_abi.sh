#!/usr/bin/env bash
# handlers/tcmu/tcmu_abi.h against the headers of Debian's source package `tcmu`: every offset, size, constant and prototype that we declare.
# The package is fetched with apt lists of its own, from the mirror this machine uses. Then the .so itself: it may ask of the installed
# tcmu-runner and libtcmu nothing that they do not export.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$(mktemp -d "${TMPDIR:-/tmp}/tcmu-abi.XXXXXX")
trap 'rm -rf "$work"' EXIT
skip() { printf '%s\n' "$*"; exit 77; }
die() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

echo "== the .so and the installed programs"
handler=${MYFS_TESTS:-$root/build/tests}/../tcmu-runner/handler_myfs.so
if runner=$(command -v tcmu-runner) && lib=$(ldconfig -p | awk '/libtcmu.so.2 / {print $NF; exit}') && [[ -n $lib ]]; then
  nm -D --undefined-only "$handler" | awk '$2 ~ /^tcmu/ {print $2}' | sort -u >"$work/wanted"
  nm -D --defined-only "$runner" "$lib" | awk 'NF == 3 {print $3}' | sort -u >"$work/offered"
  [[ -s $work/wanted ]] || die "the handler wants nothing of tcmu-runner"
  missing=$(comm -23 "$work/wanted" "$work/offered")
  [[ -z $missing ]] || die "tcmu-runner does not export: $missing"
  nm -D --defined-only "$handler" | grep -q ' T handler_init$' || die "handler_init is not exported"
else
  echo "   tcmu-runner is not installed: not looked at"
fi

echo "== Debian's headers"
for tool in apt-get dpkg-source; do command -v "$tool" >/dev/null || skip "no $tool: the headers cannot be fetched"; done
mirror=$(grep -rhoE '^(URIs:|deb) .*' /etc/apt/sources.list /etc/apt/sources.list.d 2>/dev/null | grep -oE 'https?://[^ ]+/debian/?( |$)' | head -1 | tr -d ' ' || true)
[[ -n $mirror ]] || skip "no Debian mirror is configured: the headers cannot be fetched"
cd "$work"
mkdir lists
printf 'Types: deb-src\nURIs: %s\nSuites: bookworm\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" >s.sources
apt=(timeout 120 apt-get -q -o "Dir::Etc::sourcelist=$work/s.sources" -o Dir::Etc::sourceparts=- -o "Dir::State::lists=$work/lists"
  -o "Dir::Cache::pkgcache=" -o "Dir::Cache::srcpkgcache=" -o APT::Sandbox::User=root)
{ "${apt[@]}" update && "${apt[@]}" source --download-only tcmu-runner; } >apt.log 2>&1 || { tail -3 apt.log; skip "the source package cannot be fetched from $mirror"; }
dpkg-source --no-check -x tcmu_1.5.4-*.dsc tcmu >/dev/null

# Theirs first, then ours with every name of ours prefixed by ours_, so that both can be compared in one program.
names=$(grep -oE '\b(struct|enum) tcmu[a-z_]+|\b(tcmu|tcmur|TCMU|TCMULIB)_?[A-Za-z_]*\b' "$root/handlers/tcmu/tcmu_abi.h" | sed 's/.* //' | sort -u |
  grep -vxE 'tcmu_device|TCMU_LOG_ARGS')
{
  for n in $names; do echo "#define $n ours_$n"; done
  grep -vE '^#(include|ifndef|define MYFS|endif)' "$root/handlers/tcmu/tcmu_abi.h"
  for n in $names; do echo "#undef $n"; done
} >ours.h
sed -nE 's/^[[:space:]]+(TCMU_STS_[A-Z_]+).*/\1/p' "$root/handlers/tcmu/tcmu_abi.h" >constants
grep -oE '\bTCMULIB_CFG_[A-Z_]+' "$root/handlers/tcmu/tcmu_abi.h" | sort -u >>constants
grep -oE '\btcmur?_[a-z_]+\(' <(sed -n '/exported by the tcmu-runner/,$p' "$root/handlers/tcmu/tcmu_abi.h" | grep -v '^ \*\|^/\*') | tr -d '(' | sort -u >functions
fields() { # struct: names of its members in our header
  sed -n "/^struct $1 {/,/^}/p" "$root/handlers/tcmu/tcmu_abi.h" | sed 's://.*::; s:/\*.*\*/::' | tr '\n' ' ' |
    sed 's/union {[^}]*} data;/int data;/; s/([^()]*)(\([^()]*\))/&/g' | tr ';' '\n' |
    sed -E 's/^struct [a-z_]+ \{//; s/\(\*([a-z_]+)\)\(.*/ \1/; s/\[[^]]*\]//' |
    awk '{n = split($0, p, ","); for (i = 1; i <= n; i++) {m = split(p[i], w, /[ \t*]+/); if (w[m] ~ /^[a-z_]+$/) print w[m]}}'
}
{
  printf '#define _GNU_SOURCE\n#include <stddef.h>\n#include <stdio.h>\n#include <pthread.h>\n'
  printf '#include "tcmu-runner.h"\n#include "libtcmu.h"\n#include "tcmur_device.h"\n#include "tcmur_cmd_handler.h"\n#include "ours.h"\n'
  printf '#define SAME(what, a, b) _Static_assert((a) == (b), what)\n'
  count=0
  for s in tcmulib_cmd tcmur_cmd tcmulib_cfg_info tcmur_handler; do
    echo "SAME(\"sizeof $s\", sizeof(struct $s), sizeof(struct ours_$s));"
    for f in $(fields $s); do
      echo "SAME(\"$s.$f\", offsetof(struct $s, $f), offsetof(struct ours_$s, $f));"
      echo "SAME(\"size of $s.$f\", sizeof(((struct $s *)0)->$f), sizeof(((struct ours_$s *)0)->$f));"
      count=$((count + 1))
    done
  done
  while read -r c; do echo "SAME(\"$c\", (int)$c, (int)ours_$c);"; count=$((count + 1)); done <constants
  echo 'SAME("sense buffer", SENSE_BUFFERSIZE, sizeof(((struct ours_tcmulib_cmd *)0)->sense_buf));'
  # Types that mention our copies of structs are the same but for the name: compare those of the functions that mention none.
  while read -r f; do
    case $f in
      tcmur_register_handler) echo "static int (*const p_$f)(struct tcmur_handler *) __attribute__((unused)) = $f;" ;;
      *) echo "_Static_assert(__builtin_types_compatible_p(__typeof__($f), __typeof__(ours_$f)), \"prototype of $f\");" ;;
    esac
    count=$((count + 1))
  done <functions
  echo "int main(void) { puts(\"$count members, constants and prototypes agree\"); }"
} >compare.c
gcc -std=gnu17 -w -I. -Itcmu -Itcmu/ccan -c -o compare.o compare.c || die "tcmu_abi.h is not what Debian's tcmu has"
grep -c SAME compare.c | { read -r n; ((n > 60)) || die "only $n comparisons: the header was not understood"; }
grep -oE '[0-9]+ members, [a-z ,]+agree' compare.c
# A header that lies must be found.
sed 's/uint8_t \*cdb;/uint64_t more; uint8_t *cdb;/' ours.h >wrong.h
sed 's/"ours.h"/"wrong.h"/' compare.c >wrong.c
! gcc -std=gnu17 -w -I. -Itcmu -Itcmu/ccan -c -o wrong.o wrong.c 2>/dev/null || die "a wrong header passes"
