"""What do a hundred good clients get while 9,900 hostile ones do what they can?

A quarter each of the hostile ones is idle, sends byte by byte, reads nothing, or resets its connections; none gives the
password. They are compared with as many harmless clients that cost the server the same CPU time: these send PING at the
rate at which the server, without the good ones, spends as much on them. The good clients send GET, one at a time.

The crowd and the good clients run on the CPU of the client; the server has its own. All servers of a round meet both crowds,
one after the other.
"""
import resource
import time

from .run import attempt, quartiles
from .server import Failed

NAME = "hostile"
CROWD = 9_900
GOOD = 100
# Things that the hostile crowd does in a second: a thousand resets, a byte of each slow sender in three seconds.
HOSTILE_RATE = 3_000
# Where the search for the rate of the harmless crowd begins, and how often it is corrected.
HARMLESS_RATE = 3_000
CORRECTIONS = 2
# Enough for the crowd, the good ones and the files of either process.
DESCRIPTORS = 20_000
SETTLE_SECONDS = 3
ALONE_SECONDS = 3
PASSWORD = "a-password-of-the-bench"
DIRECTIVES = ("--requirepass", PASSWORD, "--maxclients", "12000", "--tcp-backlog", "4096")
READY_SECONDS_MAX = 90


def compare(run):
    """{server: {"p99": (quartiles of the ratio), "rps": …, "connection_bytes": …, "rounds": [...]}}"""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    names = ["holdfast", *[name for name in run.peers() if name == "valkey"]]
    directives = dict.fromkeys(names, DIRECTIVES)
    found = {}
    for number in range(run.rounds):
        for name in names if number % 2 == 0 else reversed(names):
            with run.servers([name], directives=directives) as servers:
                row = attempt(f"{NAME} of {name}", lambda name=name, servers=servers: one_round(run, servers[name]))
            if row:
                run.record(NAME, server=name, round=number, **row)
                found.setdefault(name, []).append(row)
    return {name: summary(rows) for name, rows in found.items()}


def summary(rows):
    def ratio(field):
        return quartiles([row["hostile"][field] / row["harmless"][field] for row in rows])

    return {
        "p99": ratio("p99_us"), "rps": ratio("requests_per_second"), "rounds": rows,
        "connection_bytes": max(row["connection_bytes"] for row in rows),
    }


def one_round(run, server):
    options = ["--password", PASSWORD]
    server.load("--command", "set", "--fill", "--keys", str(min(run.keys, 100_000)), "--size", "32", "--pipeline", "64", *options)
    time.sleep(SETTLE_SECONDS)
    before = server.resident_bytes()
    with Crowd(server, "hostile", HOSTILE_RATE) as crowd:
        share, resident = alone(server)
        found = good(run, server)
        found["crowd"] = crowd.end()
    rate, reached = HARMLESS_RATE, None
    for _ in range(CORRECTIONS):
        with Crowd(server, "harmless", rate) as crowd:
            reached, _ = alone(server)
            crowd.end()
        rate = max(1, rate * share / max(reached, 1e-6))
    with Crowd(server, "harmless", rate) as crowd:
        reached, _ = alone(server)
        harmless = good(run, server)
        harmless["crowd"] = crowd.end()
    return {
        "hostile": found, "harmless": harmless, "hostile_cpu": share, "harmless_cpu": reached, "harmless_rate": rate,
        "connection_bytes": max(0, resident - before) / CROWD,
    }


def alone(server):
    """(share of a CPU that the server spends on the crowd, most memory that it has meanwhile)"""
    start, cpu, resident = time.monotonic(), server.cpu_seconds(), 0
    while time.monotonic() - start < ALONE_SECONDS:
        time.sleep(0.2)
        resident = max(resident, server.resident_bytes())
    return (server.cpu_seconds() - cpu) / (time.monotonic() - start), resident


def good(run, server):
    options = ["--connections", str(GOOD), "--keys", str(min(run.keys, 100_000)), "--password", PASSWORD]
    report = server.load("--command", "get", "--seconds", str(run.seconds), "--warm-up", "0.3", *options)
    return {field: report[field] for field in ("requests_per_second", "p50_us", "p99_us", "p999_us", "max_us", "client_cpu")}


class Crowd:
    """A crowd beside what is measured, from when all of it has come."""

    def __init__(self, server, kind, rate):
        self.background = server.crowd(
            "--kind", kind, "--rate", f"{rate:.1f}", "--connections", str(CROWD), "--password", PASSWORD, "--seconds", "600"
        )

    def __enter__(self):
        self.background.__enter__()
        started = time.monotonic()
        line = self.background.process.stdout.readline()
        if line.strip() != "ready" or time.monotonic() - started > READY_SECONDS_MAX:
            raise Failed(f"the crowd did not come: {line!r} {self.background.process.stderr.read()}")
        time.sleep(SETTLE_SECONDS)
        return self

    def __exit__(self, *error):
        self.background.__exit__(*error)

    def end(self):
        return self.background.end()

