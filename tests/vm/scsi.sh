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
tests, why = {}, {}
for line in open(sys.argv[1], errors="replace"):
    m = re.match(r"Suite: (\S+)", line)
    if m:
        suite = m.group(1)
    m = re.match(r"\s+Test: (\S+) \.\.\.(.*)", line)
    if m:
        test = suite + "." + m.group(1)
        tests[test] = "unfinished"
        line = m.group(2)
    m = re.search(r"\[SKIPPED\]\s*(.*)", line)
    if test and m:
        tests[test] = "skipped"
        why.setdefault(test, m.group(1).strip())
    if test and re.search(r"\bFAILED\s*$", line):
        tests[test] = "failed"
    elif test and re.search(r"^passed\b|passed\s*$", line.strip()) and tests[test] == "unfinished":
        tests[test] = "passed"
for name, result in tests.items():
    print(result, name, why.get(name, ""))
PY
kill -0 "$runner" || die "tcmu-runner died"
awk '{n[$1]++} END {printf "   "; for (r in n) printf "%s %d, ", r, n[r]; printf "of %d\n", NR}' "$work/results"
(($(wc -l <"$work/results") == 215)) || { tail -5 "$work/icu"; die "the suite did not run to its end"; }
awk '$1 != "passed" {print ($1 == "skipped" ? $1 : "failed"), $2}' "$work/results" | sort >"$work/odd"
awk '!/^#/ && NF {print $1, $2}' tests/vm/scsi.known | sort >"$work/known"
new=$(comm -23 "$work/odd" "$work/known")
if [[ -n $new ]]; then
  grep -aE 'FAIL|CU_' "$work/icu" | sort | uniq -c | sort -rn | head -20 || true
  while read -r result name; do grep -F " $name " "$work/results" || true; done <<<"$new"
  die "failed or skipped and not listed in tests/vm/scsi.known, see above"
fi
gone=$(comm -13 "$work/odd" "$work/known")
[[ -z $gone ]] || die "listed in tests/vm/scsi.known, but they pass now: ${gone//$'\n'/, }"

step "the target and tcmu-runner end"
target_stop
myfs demo down -q
