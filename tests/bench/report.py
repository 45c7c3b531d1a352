"""What the numbers say: targets with floors, one long table, a chart."""
import os, platform

from workloads import WORKLOADS

# What is compared, how, floor and goal of the project. Ratios unless `lower is better`.
#   (text, contender, workload, metric, against contender, against workload, floor, goal)
RATIO, COST = "ratio", "cost"
TARGETS = [
    (RATIO, "4K random read QD16 / nbdkit file", ("myfs-4+2", "randread-4k-q16"), ("nbdkit", "randread-4k-q16"), 0.40, 0.65),
    (RATIO, "4K random write QD16 / nbdkit file", ("myfs-4+2", "randwrite-4k-q16"), ("nbdkit", "randwrite-4k-q16"), 0.25, 0.50),
    (RATIO, "4K random read QD1 / nbdkit file", ("myfs-4+2", "randread-4k-q1"), ("nbdkit", "randread-4k-q1"), 0.45, 0.65),
    (RATIO, "4K random write QD1 / nbdkit file", ("myfs-4+2", "randwrite-4k-q1"), ("nbdkit", "randwrite-4k-q1"), 0.30, 0.50),
    (RATIO, "1M sequential read / nbdkit file", ("myfs-4+2", "read-1m-q8"), ("nbdkit", "read-1m-q8"), 0.40, 0.65),
    (RATIO, "1M sequential write / nbdkit file", ("myfs-4+2", "write-1m-q8"), ("nbdkit", "write-1m-q8"), 0.30, 0.50),
    (RATIO, "4K random read QD16 / GlusterFS 4+2", ("myfs-4+2", "randread-4k-q16"), ("gluster-4+2", "randread-4k-q16"), 12, 25),
    (RATIO, "4K random write QD16 / GlusterFS 4+2", ("myfs-4+2", "randwrite-4k-q16"), ("gluster-4+2", "randwrite-4k-q16"), 5, 12),
    (RATIO, "1M sequential read / GlusterFS 4+2", ("myfs-4+2", "read-1m-q8"), ("gluster-4+2", "read-1m-q8"), 1.1, 2),
    (RATIO, "1M sequential write / GlusterFS 4+2", ("myfs-4+2", "write-1m-q8"), ("gluster-4+2", "write-1m-q8"), 1.1, 2),
    (RATIO, "4K random read, degraded / healthy", ("myfs-4+2-states degraded", "randread-4k-q16"), ("myfs-4+2-states", "randread-4k-q16"), 0.35, 0.6),
    (RATIO, "4K random read, healing / healthy", ("myfs-4+2-states healing", "randread-4k-q16"), ("myfs-4+2-states", "randread-4k-q16"), 0.8, 0.9),
    (RATIO, "4K random write, healing / healthy", ("myfs-4+2-states healing", "randwrite-4k-q16"), ("myfs-4+2-states", "randwrite-4k-q16"), 0.8, 0.9),
    (RATIO, "4K random write, slow brick / healthy", ("myfs-4+2-states slow brick", "randwrite-4k-q16"), ("myfs-4+2-states", "randwrite-4k-q16"), 0.6, 0.8),
    (RATIO, "1M sequential write, slow brick / healthy", ("myfs-4+2-states slow brick", "write-1m-q8"), ("myfs-4+2-states", "write-1m-q8"), 0.6, 0.8),
    (RATIO, "4K random read, TLS-PSK / plain TCP", ("myfs-4+2-tls", "randread-4k-q16"), ("myfs-4+2-tcp", "randread-4k-q16"), 0.8, 0.9),
    (RATIO, "4K random write, TLS-PSK / plain TCP", ("myfs-4+2-tls", "randwrite-4k-q16"), ("myfs-4+2-tcp", "randwrite-4k-q16"), 0.8, 0.9),
    (RATIO, "1M sequential read, TLS-PSK / plain TCP", ("myfs-4+2-tls", "read-1m-q8"), ("myfs-4+2-tcp", "read-1m-q8"), 0.6, 0.75),
    (RATIO, "1M sequential write, TLS-PSK / plain TCP", ("myfs-4+2-tls", "write-1m-q8"), ("myfs-4+2-tcp", "write-1m-q8"), 0.6, 0.75),
    (RATIO, "4K random write QD16, with journal / without", ("myfs-4+2", "randwrite-4k-q16"), ("myfs-4+2-no-journal", "randwrite-4k-q16"), 0.8, 0.9),
    (COST, "server CPU us per 4K random read QD16", ("myfs-4+2", "randread-4k-q16"), None, 12, 7),
    (COST, "server CPU us per 4K random write QD16", ("myfs-4+2", "randwrite-4k-q16"), None, 35, 25),
]


def machine():
    model = ""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":", 1)[1].strip() for line in f if line.startswith("model name")), "")
    with open("/proc/meminfo") as f:
        memory = int(next(line for line in f if line.startswith("MemTotal:")).split()[1])
    return {"cpus": os.cpu_count(), "model": model, "memory_mib": memory // 1024, "kernel": platform.release(), "load_before": os.getloadavg()[0]}


def value(results, at, metric):
    contender, workload = at
    return results.get(contender, {}).get(workload, {}).get(metric)


def targets(results):
    """Rows for what was measured in this run."""
    rows = []
    for kind, text, at, against, floor, goal in TARGETS:
        got = value(results, at, "iops" if kind == RATIO else "cpu_us")
        if got is not None and against:
            base = value(results, against, "iops")
            got = got / base if base else None
        if got is None:
            continue
        better = (lambda limit: got >= limit) if kind == RATIO else (lambda limit: got <= limit)
        rows.append({"target": text, "measured": got, "floor": floor, "goal": goal, "met": "goal" if better(goal) else "floor" if better(floor) else "no",
                     "share_of_floor": got / floor if kind == RATIO else floor / got if got else 0})
    return rows


def change(row, before):
    return f"{(row['iops'] / before - 1) * 100:+8.0f} %" if before else f"{'-':>9}"


def print_table(titles, results, memory, earlier):
    base = results.get("nbdkit", {})
    print(f"\n{'':28}{'workload':28}{'IOPS':>9}{'MiB/s':>8}{'ratio':>7}{'p50 us':>9}{'p99 us':>9}{'p99.9 us':>10}{'CPU us':>8}{'disk':>7}{'others':>8}{'  against' if earlier else ''}")
    for contender, rows in results.items():
        for workload in (w for w in WORKLOADS if w in rows):
            r = rows[workload]
            ratio = f"{r['iops'] / base[workload]['iops']:.2f}" if workload in base else "-"
            print(f"{titles[contender]:28}{WORKLOADS[workload][0]:28}{r['iops']:9.0f}{r['mib_s']:8.0f}{ratio:>7}{r['p50_us']:9.0f}{r['p99_us']:9.0f}{r['p999_us']:10.0f}{r['cpu_us']:8.1f}{r['disk_mib_s']:7.0f}{r['other_cores']:8.2f}"
                  f"{change(r, value(earlier, (contender, workload), 'iops')) if earlier else ''}")
        if contender in memory:
            print(f"{titles[contender]:28}{'peak memory of its servers':28}{memory[contender]:9.0f} MiB")
    print("ratio: IOPS to nbdkit file in this run. CPU us: user and system time of all server processes for each request. disk: MiB/s it was made to write. others: cores used by neither servers nor client.")


def print_targets(rows):
    if not rows:
        return
    print(f"\n{'target':46}{'measured':>10}{'floor':>7}{'goal':>7}  met    0        floor")
    for r in rows:
        bar = "#" * min(round(r["share_of_floor"] * 10), 30)
        print(f"{r['target']:46}{r['measured']:10.2f}{r['floor']:7g}{r['goal']:7g}  {r['met']:5}  {bar[:10]:10}|{bar[10:]}")
