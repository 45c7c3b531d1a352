#!/usr/bin/env bash
# iscsi-test-cu, all its SCSI families, against a LUN behind the real tcmu-runner and the kernel's target.
# guest: kernel=uml mem=1280 limit=600
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lib_target.sh"

step "iscsi-test-cu, all SCSI families: nothing fails but what scsi.known lists"
timeout 500 iscsi-test-cu -d -v -t SCSI "iscsi://127.0.0.1/$iqn/0" >"$work/icu" 2>&1 || true
/usr/bin/python3 - "$work/icu" >"$work/results" <<'PY'
import re, sys
suite = test = None
tests = {}
for line in open(sys.argv[1], errors="replace"):
    m = re.match(r"Suite: (\S+)", line)
    if m:
        suite = m.group(1)
    m = re.match(r"\s+Test: (\S+) \.\.\.(.*)", line)
    if m:
        test = suite + "." + m.group(1)
        tests[test] = "unfinished"
        line = m.group(2)
    if test and "[SKIPPED]" in line:
        tests[test] = "skipped"
    if test and re.search(r"\bFAILED\s*$", line):
        tests[test] = "failed"
    elif test and re.search(r"^passed\b|passed\s*$", line.strip()) and tests[test] == "unfinished":
        tests[test] = "passed"
for name, result in tests.items():
    print(result, name)
PY
kill -0 "$runner" || die "tcmu-runner died"
awk '{n[$1]++} END {printf "   "; for (r in n) printf "%s %d, ", r, n[r]; printf "of %d\n", NR}' "$work/results"
(($(wc -l <"$work/results") == 215)) || { tail -5 "$work/icu"; die "the suite did not run to its end"; }
awk '$1 == "failed" || $1 == "unfinished" {print $2}' "$work/results" | sort >"$work/bad"
awk '!/^#/ {print $1}' tests/vm/scsi.known | sort >"$work/known"
new=$(comm -23 "$work/bad" "$work/known")
[[ -z $new ]] || { grep -aE 'FAIL|CU_' "$work/icu" | sort | uniq -c | sort -rn | head -20; die "fail and are not listed in tests/vm/scsi.known: ${new//$'\n'/ }"; }
comm -13 "$work/bad" "$work/known" | sed 's/^/   listed, but passes: /'
# A test that is skipped says that the device lacks a command: these are the ones it may lack.
awk '$1 == "skipped" {sub(/\..*/, "", $2); print $2}' "$work/results" | sort -u | tr '\n' ' ' | sed 's/^/   skipped in: /; s/$/\n/'

step "the target and tcmu-runner end"
target_stop
myfs demo down -q
