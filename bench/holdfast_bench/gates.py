"""What the figures must be. A gate is judged by its own measurement; one that was not measured is said to be so."""
import dataclasses

from .run import quartiles
from .throughput import faster_peer, ratios

# Short of a gate by less than this factor is "close": to be explained. Beyond it the run fails.
CLOSE = 0.9
VALKEY = "valkey"
# Throughput over that of the faster peer; 1 where nothing is said.
THROUGHPUT_MIN = {"get": 1.1, "set": 1.1, "zrank": 2.0, "zrange": 2.0}
# Commands that are also judged by CPU per operation, and by the lower quartile, with one request in flight.
STRICT = ("get", "set")


@dataclasses.dataclass(frozen=True)
class Gate:
    name: str
    text: str
    value: float | None
    limit: float
    # True: the value must be at least the limit; False: at most.
    at_least: bool

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        if (self.value >= self.limit) if self.at_least else (self.value <= self.limit):
            return "pass"
        near = self.value >= self.limit * CLOSE if self.at_least else self.value * CLOSE <= self.limit
        return "close" if near else "FAIL"

    def line(self):
        value = "–" if self.value is None else f"{self.value:.3g}"
        return f"{self.verdict:<12} {self.name:<28} {value:>7} ({'≥' if self.at_least else '≤'} {self.limit:g})  {self.text}"


def throughput(cell, found, run):
    """The gates of one cell of throughput.measure_all."""
    if cell.group == "benchmark":
        return []
    if cell.group == "threads":
        return [
            Gate(f"{cell.name} rps", "two I/O threads / one: throughput", ratios(found, "two threads", "one thread", "rps")[1], 0.95, True),
            Gate(f"{cell.name} cpu", "two I/O threads / one: CPU per operation", ratios(found, "two threads", "one thread", "cpu_us")[1], 1.1, False),
        ]
    if cell.group in ("everysec", "always"):
        # f00b60a and ours have the same denominator, the peer in the same run; so the ratio of both is the comparison.
        return [Gate(f"{cell.name} rps", "ours / f00b60a: throughput", ratios(found, "holdfast", "base", "rps")[1], 1.0, True)]
    peers = [name for name in run.peers() if name in found]
    if not peers:
        return []
    peer = faster_peer(found, peers)
    low, middle, _ = ratios(found, "holdfast", peer, "rps")
    if cell.pipeline == 1 and cell.command in STRICT:
        return [
            Gate(f"{cell.name} rps", f"ours / {peer}: throughput, lower quartile", low, 1.0, True),
            Gate(f"{cell.name} cpu", f"ours / {peer}: CPU per operation", ratios(found, "holdfast", peer, "cpu_us")[1], 0.95, False),
        ]
    return [Gate(f"{cell.name} rps", f"ours / {peer}: throughput", middle, THROUGHPUT_MIN.get(cell.command, 1.0), True)]


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def bytes_per_key(content, found):
    gates = []
    for field, text in (("used", "used_memory"), ("rss", "RSS")):
        value = None
        if "holdfast" in found and VALKEY in found:
            ours, theirs = found["holdfast"], found[VALKEY]
            value = mean(ours[scale][field] / theirs[scale][field] for scale in ours if scale in theirs)
        what = f"ours / Valkey: bytes per {content.unit} in {text}, mean over the numbers of {content.unit}s"
        gates.append(Gate(f"{content.name} {field}", what, value, content.limit, False))
    return gates


def single(name, text, found, field, limit):
    row = found.get("holdfast")
    value = row.get(field) if isinstance(row, dict) else row
    return [Gate(name, text, value, limit, False)]


def latency(event, found):
    texts = {
        "flushall": "worst wait of another client during FLUSHALL of 5 M keys, ms",
        "del-large": "worst wait of another client during DEL of a 512 MB value, ms",
        "growth": "worst wait of another client during growth to 16 M keys, ms",
        "flushall-mixed": "worst wait of another client during FLUSHALL of all types, ms",
        "del-set": "worst wait of another client during DEL of a set of 5 M members, ms",
        "growth-hash": "worst wait of another client during growth of a hash to 5 M fields, ms",
        "save-hash": "worst wait of another client during a save of one hash of 1 GB, ms",
    }
    gates = single(f"latency-{event}", texts[event], found, "max_ms", 10.0)
    if event == "growth":
        gates += single("growth longest split", "thread CPU time of the longest split by the engine's own clock, µs", found, "split_us", 1000.0)
    return gates


def saving(kind, found):
    text = "extra memory of a save while one connection writes, share of the data"
    return single(f"save-{kind}", f"{text}, {'32 B' if kind == 'small' else '1 MiB'} values", found, "share", 0.10)


def hostile(found):
    row = found.get("holdfast")
    p99, rps, held = (row["p99"][1], row["rps"][1], row["connection_bytes"]) if row else (None, None, None)
    return [
        Gate("hostile p99", "p99 of 100 good clients beside 9,900 hostile / beside harmless of the same CPU time", p99, 2.0, False),
        Gate("hostile rps", "throughput of the same / of the same", rps, 0.8, True),
        Gate("hostile memory", "RSS per connection that has not authenticated, bytes", held, 32 * 1024, False),
    ]


def summary(gates):
    counts = {verdict: sum(gate.verdict == verdict for gate in gates) for verdict in ("pass", "close", "FAIL", "not measured")}
    return f"gates: {counts['pass']} pass, {counts['close']} close, {counts['FAIL']} fail, {counts['not measured']} not measured"


def spread(values):
    """`1.12 (1.10–1.15)`: median and quartiles."""
    low, middle, high = quartiles(values) if isinstance(values, list) else values
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"
