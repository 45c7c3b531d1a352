"""What is measured: fio jobs over NBD, and what they cost the servers."""
import json, os, resource, subprocess, time

SIZE = "1G"
FIO = ["fio", "--name=b", "--ioengine=nbd", f"--size={SIZE}", "--randrepeat=0", "--norandommap", "--output-format=json"]

# key: (title, fio options). Reads come before writes, so that no workload pays for what an earlier one left to be written back.
WORKLOADS = {
    "randread-4k-q1": ("4K random read QD1", "--rw=randread --bs=4k --iodepth=1"),
    "randread-4k-q16": ("4K random read QD16", "--rw=randread --bs=4k --iodepth=16"),
    "randread-4k-q64": ("4K random read QD64", "--rw=randread --bs=4k --iodepth=64"),
    "randread-64k-q16": ("64K random read QD16", "--rw=randread --bs=64k --iodepth=16"),
    "read-1m-q8": ("1M sequential read QD8", "--rw=read --bs=1m --iodepth=8"),
    "randwrite-4k-q1": ("4K random write QD1", "--rw=randwrite --bs=4k --iodepth=1"),
    "randwrite-4k-q16": ("4K random write QD16", "--rw=randwrite --bs=4k --iodepth=16"),
    "randwrite-4k-q64": ("4K random write QD64", "--rw=randwrite --bs=4k --iodepth=64"),
    "rw70-4k-q1": ("4K random 70/30 QD1", "--rw=randrw --rwmixread=70 --bs=4k --iodepth=1"),
    "rw70-4k-q16": ("4K random 70/30 QD16", "--rw=randrw --rwmixread=70 --bs=4k --iodepth=16"),
    "rw70-4k-q64": ("4K random 70/30 QD64", "--rw=randrw --rwmixread=70 --bs=4k --iodepth=64"),
    "write-4k-q1": ("4K sequential write QD1", "--rw=write --bs=4k --iodepth=1"),
    "syncwrite-4k-q1": ("4K random write+flush QD1", "--rw=randwrite --bs=4k --iodepth=1 --fsync=1"),
    "randwrite-64k-q16": ("64K random write QD16", "--rw=randwrite --bs=64k --iodepth=16"),
    "write-1m-q8": ("1M sequential write QD8", "--rw=write --bs=1m --iodepth=8"),
}
QUICK = ["randread-4k-q1", "randread-4k-q16", "read-1m-q8", "randwrite-4k-q1", "randwrite-4k-q16", "write-1m-q8"]
STATE = ["randread-4k-q16", "read-1m-q8", "randwrite-4k-q16", "write-1m-q8"]  # measured while degraded, healing, with a slow brick


QUIET_CORES = 0.15  # what other processes may use in a sample that counts as undisturbed


class Failed(Exception):
    """A contender or a tool did not do what it should; the text says what."""


def run(*argv, **kw):
    try:
        return subprocess.run(argv, check=True, text=True, capture_output=True, timeout=kw.pop("timeout", 300), **kw).stdout
    except subprocess.CalledProcessError as e:
        raise Failed(f"{' '.join(map(str, argv[:6]))} ...: exit {e.returncode}: {(e.stderr or e.stdout).strip()[-600:]}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{' '.join(map(str, argv[:6]))} ...: no end in sight") from None


def cpu_seconds(pids):
    """User and system time of the processes, in seconds."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def busy_seconds():
    """CPU time of everything on this machine."""
    with open("/proc/stat") as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def children_seconds():
    """CPU time of children that have ended: of fio, when nothing else ended in between."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def peak_mib(pids):
    kib = 0
    for pid in pids:
        with open(f"/proc/{pid}/status") as f:
            kib += sum(int(line.split()[1]) for line in f if line.startswith("VmHWM:"))
    return kib / 1024


AGE_S = 6  # by then a server has begun to write back what it kept for later (myfs: after 5 s)


class Disk:
    """The block device under a directory: what it can write, and what it has been written."""

    def __init__(self, directory):
        device = os.stat(directory).st_dev
        self.stat = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"

    def written_mib(self):
        """Since the machine started; None when there is no such device (tmpfs, overlay)."""
        try:
            with open(self.stat) as f:
                return int(f.read().split()[6]) / 2048  # sectors of 512 bytes
        except OSError:
            return None

    @staticmethod
    def limit_mib_s(directory):
        """Sequential writes past the page cache; None where that cannot be done (tmpfs)."""
        path = os.path.join(directory, "disk-limit")
        try:
            text = run("fio", "--name=disk", f"--filename={path}", "--rw=write", "--bs=1m", "--size=1g", "--iodepth=8", "--ioengine=io_uring", "--direct=1", "--time_based",
                       "--runtime=3", "--output-format=json")
        except Failed:
            return None
        finally:
            if os.path.exists(path):
                os.unlink(path)
        return json.loads(text[text.index("{"):])["jobs"][0]["write"]["bw_bytes"] / 2**20


def settle(pids, quiet_s=0.5, limit_s=15):
    """Waits until the servers are quiet (under 3 % of a core in each half second): what is left of the last workload is not the next one's."""
    end = time.monotonic() + limit_s
    before, quiet = cpu_seconds(pids), 0
    while time.monotonic() < end and quiet < quiet_s:
        time.sleep(0.5)
        now = cpu_seconds(pids)
        quiet = quiet + 0.5 if now - before < 0.015 else 0
        before = now


def fill(uri, *where):
    """Written once as a whole, so that reads find data and writes overwrite."""
    run(*FIO, *where, f"--uri={uri}", "--rw=write", "--bs=1m", "--iodepth=8", "--end_fsync=1")


def fio(uri, options, seconds):
    text = run(*FIO, f"--uri={uri}", "--time_based", f"--runtime={seconds}", *options.split(), timeout=seconds + 120)
    job = json.loads(text[text.index("{"):])["jobs"][0]
    if job["error"]:
        raise Failed(f"fio {options}: error {job['error']}: {os.strerror(job['error'])}")
    sides = [job[s] for s in ("read", "write") if job[s]["total_ios"]]
    ops = sum(s["total_ios"] for s in sides)
    if not ops:
        raise Failed(f"fio {options}: not one request was completed in {seconds} s")
    # Of a mix, the slower side's latency: that is what somebody waits for.
    at = {p: max(s["clat_ns"]["percentile"][f"{p:.6f}"] for s in sides) / 1000 for p in (50, 99, 99.9)}
    return {"ops": ops, "iops": sum(s["iops"] for s in sides), "mib_s": sum(s["bw_bytes"] for s in sides) / 2**20,
            "p50_us": at[50], "p99_us": at[99], "p999_us": at[99.9]}


def measure(contender, key, seconds, patience_s, disk=None):
    """One sample. With patience, a sample that other processes disturbed is taken again within that time; the least disturbed one counts,
    whatever it says."""
    end, best = time.monotonic() + patience_s, None
    while True:
        settle(contender.pids())
        row = sample(contender, key, seconds, disk)
        if best is None or row["other_cores"] < best["other_cores"]:
            best = row
        if best["other_cores"] <= QUIET_CORES or time.monotonic() + seconds > end:
            return best


def sample(contender, key, seconds, disk=None):
    pids = contender.pids()
    written = disk.written_mib() if disk else None
    servers, all_of_it, client, began = cpu_seconds(pids), busy_seconds(), children_seconds(), time.monotonic()
    row = fio(contender.uri, WORKLOADS[key][1], seconds)
    servers, all_of_it, client = cpu_seconds(pids) - servers, busy_seconds() - all_of_it, children_seconds() - client
    row["disk_mib_s"] = (disk.written_mib() - written) / (time.monotonic() - began) if written is not None else 0
    row["cpu_us"] = servers * 1e6 / row.pop("ops")
    row["other_cores"] = max(0, all_of_it - servers - client) / (time.monotonic() - began)
    return row
