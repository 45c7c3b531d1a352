"""Who is measured. Each contender is started on an empty directory, offers 1 GiB at an NBD URI on a unix socket, and leaves nothing running.

A contender has: uri, pids() of all its servers, close(); those that can lose bricks also have states().
"""
import json, os, shutil, signal, subprocess, time

from workloads import Failed, fill, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("MYFS_BIN", os.path.join(ROOT, "build", "bin"))
BYTES = 1 << 30
BALLAST = "2g"  # behind what is measured: written while a brick is away, so that healing takes longer than a measurement


def until(what, ready, seconds, alive=lambda: True):
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end or not alive():
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.02)


def nothing():
    return None


class Servers:
    """Child processes with one log file; the last started stops first."""

    def __init__(self, work):
        self.work, self.log, self.children = work, os.path.join(work, "log"), {}

    def start(self, name, argv, **kw):
        with open(self.log, "ab") as log:
            self.children[name] = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **kw)
        return self.children[name]

    def kill(self, name, sig=signal.SIGKILL):
        child = self.children.pop(name)
        child.send_signal(sig)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def pids(self):
        for name, child in self.children.items():
            if child.poll() is not None:
                with open(self.log, errors="replace") as f:
                    raise Failed(f"{name} ended: {f.read()[-600:].strip()}")
        return [c.pid for c in self.children.values()]

    def close(self):
        for name in reversed(list(self.children)):
            self.kill(name, signal.SIGTERM)


class PlainFile:
    """A file server without redundancy: what one hop less costs."""

    def __init__(self, work, argv):
        self.servers = Servers(work)
        sock, disk = os.path.join(work, "nbd.sock"), os.path.join(work, "disk")
        with open(disk, "wb") as f:
            f.truncate(BYTES)
        child = self.servers.start(argv[0], [a.format(sock=sock, disk=disk) for a in argv])
        try:
            until(argv[0], lambda: os.path.exists(sock), 10, lambda: child.poll() is None)
        except Failed:
            self.close()
            raise
        self.uri = f"nbd+unix:///?socket={sock}"
        self.pids, self.close = self.servers.pids, self.servers.close

    def close(self):
        self.servers.close()


class Myfs:
    """A cluster of real daemons: bricks spread over `nodes` node daemons, one gateway. link: unix, tcp or tls between them."""

    def __init__(self, work, layout, nodes, link="unix", size="1G", brickd=()):
        self.work, self.layout, self.link, self.size, self.brickd = work, layout, link, size, brickd
        self.servers = Servers(work)
        self.pids = self.servers.pids
        self.env = dict(os.environ, MYFS_REGISTRY=os.path.join(work, "registry.db"), PATH=BIN + ":" + os.environ["PATH"])
        self.nodes = [f"node{i + 1}" for i in range(nodes)]
        try:
            self.bring_up()
        except Failed:
            self.close()
            raise

    def path(self, name):
        return os.path.join(self.work, name)

    def myfs(self, *argv):
        return run(os.path.join(BIN, "myfs"), *argv, env=self.env)

    def key(self):
        return ["--psk", self.path("key")] if self.link == "tls" else []

    def bring_up(self):
        if self.link == "tls":
            with open(os.open(self.path("key"), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
                f.write(os.urandom(32))
        base = 20000 + os.getpid() % 20000
        for i, n in enumerate(self.nodes):
            address = f"unix:{self.path(n)}.brick" if self.link == "unix" else f"tcp:127.0.0.1:{base + i}"
            self.myfs("node", "add", "-q", n, address, f"unix:{self.path(n)}.control")
            self.start_node(n)
        copies = self.layout.startswith("replica ")
        bricks = int(self.layout.split()[1]) if copies else sum(map(int, self.layout.split("+")))
        places = [f"{self.nodes[i % len(self.nodes)]}:{self.path('b%d' % i)}" for i in range(bricks)]
        kind = ["--replica", str(bricks)] if copies else ["--layout", self.layout]
        self.myfs("volume", "create", "-q", "vol", *kind, "--journal", "256M", *places)
        self.servers.start("gateway", [os.path.join(BIN, "myfs-blockd"), "--registry", self.env["MYFS_REGISTRY"], "--name", "gw", "--control",
                                       f"unix:{self.path('gw.control')}", "--nbd", f"unix:{self.path('nbd.sock')}", *self.key()], env=self.env)
        until("myfs-blockd", lambda: os.path.exists(self.path("gw.control")), 20)
        until("volume vol", lambda: json.loads(self.myfs("status", "--json"))["health"] == "ok", 30)
        run(os.path.join(BIN, "myfs-block"), "create", "-q", "vol/bench", self.size, env=self.env)
        self.uri = f"nbd+unix:///vol/bench?socket={self.path('nbd.sock')}"

    def start_node(self, n, *more):
        control = self.path(n) + ".control"
        if os.path.exists(control):
            os.unlink(control)
        plain = ["--allow-plain-tcp"] if self.link == "tcp" else []
        child = self.servers.start(n, [os.path.join(BIN, "myfs-brickd"), "--registry", self.env["MYFS_REGISTRY"], "--node", n, "--control",
                                       f"unix:{control}", *plain, *self.key(), *self.brickd, *more], env=self.env)
        until(f"myfs-brickd of {n}", lambda: os.path.exists(control), 20, lambda: child.poll() is None)

    def heal_items(self):
        return json.loads(self.myfs("heal", "status", "--json"))["items"]

    def healed(self):
        items = self.heal_items()
        return bool(items) and all(i["state"] == "ok" for i in items)

    def healing(self):
        return any(i["state"] == "healing" and i["missed_bytes"] for i in self.heal_items())

    def wait_healed(self):
        """As long as it gets on: what is missed must shrink within a minute."""
        least, end = None, time.monotonic() + 60
        while not self.healed():
            missed = sum(i["missed_bytes"] for i in self.heal_items())
            if least is None or missed < least:
                least, end = missed, time.monotonic() + 60
            elif time.monotonic() > end:
                raise Failed(f"the heal does not get on: {json.dumps(self.heal_items())}")
            time.sleep(0.1)

    def states(self):
        """Yields (name, before, after): the cluster is in that state until the next step. before() is called ahead of every workload;
        after() returns what has to be said about it, or None."""
        victim = self.nodes[-1]
        self.servers.kill(victim)
        yield "degraded", nothing, nothing
        self.start_node(victim)
        self.wait_healed()

        def miss_much():
            self.servers.kill(victim)
            fill(self.uri)
            fill(self.uri, "--offset=1g", f"--size={BALLAST}")
            self.start_node(victim)
            until("the heal", lambda: self.healing() or self.healed(), 30)

        def still_healing():
            running = self.healing()
            self.wait_healed()
            return None if running else "the heal ended before the measurement did"

        yield "healing", miss_much, still_healing
        self.servers.kill(victim, signal.SIGTERM)
        self.start_node(victim, "--debug-delay", "10%:100ms")
        self.wait_healed()
        yield "slow brick", nothing, nothing

    def close(self):
        self.servers.close()


class Gluster:
    """GlusterFS in a mount, network and process namespace of its own: nothing of it touches the host's, and all of it ends with the namespace."""

    HOST = "192.0.2.1"  # the namespace's own; glusterd refuses loopback names
    PREPARE = """set -e
ip link set lo up; ip addr add {host}/32 dev lo
mount -t tmpfs tmpfs /var/lib/glusterd 2>/dev/null || { mkdir -p /var/lib/glusterd; mount -t tmpfs tmpfs /var/lib/glusterd; }
mkdir -p /var/log/glusterfs /run/gluster; mount -t tmpfs tmpfs /var/log/glusterfs; mount -t tmpfs tmpfs /run/gluster
exec glusterd -N -p {work}/glusterd.pid
"""

    def __init__(self, work, layout):
        self.work, self.layout = work, layout
        self.servers = Servers(work)
        self.space = None
        try:
            self.bring_up()
        except Failed:
            self.close()
            raise

    def inside(self, *argv, **kw):
        return run("nsenter", "-t", str(self.space), "-m", "-n", "-p", *argv, **kw)

    def answers(self):
        try:
            self.inside("gluster", "--mode=script", "volume", "list", timeout=10)
            return True
        except Failed:
            return False

    def bring_up(self):
        script = self.PREPARE.replace("{host}", self.HOST).replace("{work}", self.work)
        child = self.servers.start("glusterd", ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", script])
        find = lambda: subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
        until("glusterd's namespace", find, 10, lambda: child.poll() is None)
        self.space = int(find()[0])
        until("glusterd", self.answers, 60, lambda: child.poll() is None)
        copies = self.layout.startswith("replica ")
        bricks = int(self.layout.split()[1]) if copies else sum(map(int, self.layout.split("+")))
        kind = ["replica", str(bricks)] if copies else ["disperse-data", self.layout.split("+")[0], "redundancy", self.layout.split("+")[1]]
        places = []
        for i in range(bricks):
            os.mkdir(os.path.join(self.work, f"b{i}"))
            places.append(f"{self.HOST}:{self.work}/b{i}/brick")
        self.inside("gluster", "--mode=script", "volume", "create", "vol", *kind, *places, "force")
        self.inside("gluster", "--mode=script", "volume", "start", "vol")
        image = f"gluster+tcp://{self.HOST}/vol/disk"
        self.inside("qemu-img", "create", "-q", "-f", "raw", image, str(BYTES))
        sock = os.path.join(self.work, "nbd.sock")
        self.servers.start("qemu-nbd", ["nsenter", "-t", str(self.space), "-m", "-n", "-p", "qemu-nbd", "-f", "raw", "-t", "-e", "8", "--cache=writeback", "--aio=threads",
                                        "-x", "", "-k", sock, image])
        until("qemu-nbd on gluster", lambda: os.path.exists(sock), 30)
        self.uri = f"nbd+unix:///?socket={sock}"

    def pids(self):
        self.servers.pids()
        mine = os.readlink(f"/proc/{self.space}/ns/net")
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/ns/net") == mine:
                    found.append(int(pid))
            except OSError:
                continue  # it has ended
        return found

    def close(self):
        self.servers.close()


class GlusterPackages:
    """GlusterFS from Debian's packages: installed when first needed, what was installed is removed again. why: not available, and for what reason."""

    WANTED = ["glusterfs-server", "qemu-block-extra", "qemu-utils"]

    def __init__(self):
        self.installed, self.ready, self.why = [], False, None

    def get(self):
        """None, or why there is no GlusterFS."""
        if self.ready or self.why:
            return self.why
        if os.geteuid() != 0:
            self.why = "needs root: glusterd runs in namespaces of its own"
        elif subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"], capture_output=True).returncode:
            self.why = "needs mount, network and process namespaces, which this host refuses"
        else:
            self.install()
        self.ready = not self.why
        return self.why

    def dpkg(self):
        text = run("dpkg-query", "-W", "-f", "${Package} ${db:Status-Abbrev}\n")
        return {line.split()[0] for line in text.splitlines() if line.split()[1:] == ["ii"]}

    def install(self):
        before = self.dpkg()
        if before.issuperset(self.WANTED):
            return
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        apt = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300"]
        try:
            run(*apt, "update", env=env)
            run(*apt, "install", "-y", "--no-install-recommends", *self.WANTED, env=env, timeout=900)
        except Failed as e:
            self.why = f"its packages cannot be installed: {e}"
        self.installed = sorted(self.dpkg() - before)

    def close(self):
        if self.installed:
            run("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "purge", "-y", *self.installed, env=dict(os.environ, DEBIAN_FRONTEND="noninteractive"), timeout=600)
            for leftover in ("/var/lib/glusterd", "/var/log/glusterfs"):
                shutil.rmtree(leftover, ignore_errors=True)


NBDKIT = ["nbdkit", "-f", "-U", "{sock}", "file", "{disk}"]
QEMU_NBD = ["qemu-nbd", "-f", "raw", "-t", "-e", "8", "-x", "", "--cache=writeback", "--aio=threads", "-k", "{sock}", "{disk}"]

# Contenders that are there for one comparison.
ONLY = {"myfs-4+2-no-journal": ["randwrite-4k-q16"]}

# key: (title, start). nbdkit file is the measure of all. Without its journal myfs survives no crash: it is there to show what the journal costs.
CONTENDERS = {
    "nbdkit": ("nbdkit file", lambda work: PlainFile(work, NBDKIT)),
    "qemu-nbd": ("qemu-nbd raw file", lambda work: PlainFile(work, QEMU_NBD)),
    "myfs-4+2": ("myfs 4+2", lambda work: Myfs(work, "4+2", 3)),
    "myfs-4+2-no-journal": ("myfs 4+2, no journal", lambda work: Myfs(work, "4+2", 3, brickd=["--debug-no-journal"])),
    "myfs-4+2-tcp": ("myfs 4+2 TCP", lambda work: Myfs(work, "4+2", 3, "tcp")),
    "myfs-4+2-tls": ("myfs 4+2 TLS-PSK", lambda work: Myfs(work, "4+2", 3, "tls")),
    "myfs-4+2-states": ("myfs 4+2 six nodes", lambda work: Myfs(work, "4+2", 6, size="3G")),
    "myfs-2+1": ("myfs 2+1", lambda work: Myfs(work, "2+1", 3)),
    "myfs-replica3": ("myfs replica 3", lambda work: Myfs(work, "replica 3", 3)),
    "gluster-4+2": ("GlusterFS 4+2", lambda work: Gluster(work, "4+2")),
    "gluster-replica3": ("GlusterFS replica 3", lambda work: Gluster(work, "replica 3")),
}
