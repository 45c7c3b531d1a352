#!/usr/bin/env bash
# 1,000 LUNs: created, listed within a second, and next to nothing while idle (below 1 % CPU and 100 MiB, all daemons' growth together).
. "$(dirname "$0")/lib.sh"
count=${COUNT:-1000}
demo_up
pids() { myfs demo status -H -o pid; }
ticks() { for p in $(pids); do awk '{print $14 + $15}' "/proc/$p/stat"; done | paste -sd+ | bc; }
resident() { for p in $(pids); do awk '/^VmRSS/ {print $2}' "/proc/$p/status"; done | paste -sd+ | bc; }
before=$(resident)
step "create $count LUNs"
began=$SECONDS
for ((i = 0; i < count; i++)); do myfs-block create -q "vol/l$i" 10G; done
echo "created in $((SECONDS - began)) s"
step "list"
began=$(date +%s%N)
[[ $(myfs-block list -H | wc -l) == "$count" ]]
took=$((($(date +%s%N) - began) / 1000000))
echo "listed in $took ms"
((took < 1000)) || die "the list took $took ms"
step "idle cost over 20 s"
t0=$(ticks)
read -rt 20 <> <(:) || true
t1=$(ticks)
cpu=$(((t1 - t0) * 100 / ($(getconf CLK_TCK) * 20)))
grown=$(($(resident) - before))
echo "idle: $(((t1 - t0) * 1000 / ($(getconf CLK_TCK) * 20)))/1000 of one core, memory grew by $((grown / 1024)) MiB"
((cpu < 1)) || die "idle daemons use $cpu % CPU"
((grown < 100 * 1024)) || die "memory grew by $grown KiB"
