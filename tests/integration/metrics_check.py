"""Reads a /metrics page as strictly as the text exposition format 0.0.4 asks, and looks values up.

    metrics_check.py URL                      the page is well-formed
    metrics_check.py URL NAME{label="v",..}   prints the sum of the samples that have these labels
"""
import http.client, re, socket, sys
from urllib.parse import urlsplit

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(,|$)')
SAMPLE = re.compile(rf"^({NAME})(?:\{{(.*)\}})? (\S+)$")


def fail(text):
    sys.exit(f"metrics: {text}")


def labels_of(text):
    found, at = {}, 0
    while text and at < len(text):
        m = LABEL.match(text, at)
        if not m or m[1] in found:
            fail(f"bad labels: {text}")
        found[m[1]], at = m[2], m.end()
    return found


def parse(text):
    """{family: (type, [(sample name, labels, value)])}"""
    if not text.endswith("\n"):
        fail("the last line has no end")
    families, family, seen = {}, None, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            if family in families or len(line.split(None, 3)) < 4:
                fail(f"family {family} twice, or without help")
            families[family] = [None, []]
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            if name != family or kind not in ("counter", "gauge", "histogram") or families[family][0]:
                fail(f"bad type line: {line}")
            families[family][0] = kind
        else:
            m = SAMPLE.match(line)
            if not m:
                fail(f"bad line: {line}")
            name, labels, value = m[1], labels_of(m[2]), float(m[3])
            kind, base = families[family][0], re.sub(r"_(bucket|sum|count)$", "", m[1])
            if (base if kind == "histogram" else name) != family:
                fail(f"{name} stands among the samples of {family}")
            if (name, tuple(sorted(labels.items()))) in seen:
                fail(f"twice: {line}")
            seen.add((name, tuple(sorted(labels.items()))))
            if kind == "counter" and (value < 0 or not (name.endswith("_total"))):
                fail(f"no counter: {line}")
            families[family][1].append((name, labels, value))
    for family, (kind, samples) in families.items():
        if kind == "histogram":
            check_histogram(family, samples)
    return families


def check_histogram(family, samples):
    series = {}
    for name, labels, value in samples:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        series.setdefault(key, {"bucket": [], "sum": None, "count": None})
        if name.endswith("_bucket"):
            series[key]["bucket"].append((float(labels["le"]), value))
        else:
            series[key][name.rsplit("_", 1)[1]] = value
    for key, s in series.items():
        bounds, counts = [b for b, _ in s["bucket"]], [c for _, c in s["bucket"]]
        if bounds != sorted(bounds) or counts != sorted(counts) or bounds[-1] != float("inf") or counts[-1] != s["count"] or s["sum"] is None:
            fail(f"histogram {family} {key} does not add up")


class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.host)


def get(url):
    connection = Unix(url[5:]) if url.startswith("unix:") else http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    if answer.status != 200 or not answer.getheader("Content-Type", "").startswith("text/plain; version=0.0.4"):
        fail(f"{url}: status {answer.status}, {answer.getheader('Content-Type')}")
    return answer.read().decode()


families = parse(get(sys.argv[1]))
for want in sys.argv[2:]:
    m = re.match(rf"^({NAME})(?:\{{(.*)\}})?$", want)
    wanted = labels_of(m[2])
    values = [v for _, samples in families.values() for n, l, v in samples if n == m[1] and wanted.items() <= l.items()]
    if not values:
        fail(f"no sample {want}")
    print(f"{sum(values):.12g}")
