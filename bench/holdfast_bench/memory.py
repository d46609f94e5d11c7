"""How many bytes does a key cost, an element of a collection, a large value, and a save?"""
import dataclasses
import os
import threading
import time

from .run import attempt

@dataclasses.dataclass(frozen=True)
class Content:
    """What servers are filled with, and which share of Valkey's bytes it may take."""

    name: str
    limit: float
    # Of the load generator; `elements` of one request, `members` of each collection.
    command: str
    size: int
    elements: int | None = None
    members: int | None = None

    @property
    def unit(self):
        """What the bytes are counted for: a key of a string, a member, field or element of a collection."""
        return "element" if self.members else "key"


CONTENTS = (
    *(Content(f"bytes-{size}", 0.92, "set", size) for size in (3, 32, 100)),
    Content("bytes-hash-10", 0.95, "hset", 32, 10, 10),
    Content("bytes-list-10000", 1.0, "rpush", 32, 100, 10_000),
    Content("bytes-set-100", 1.0, "sadd", 32, 100, 100),
    Content("bytes-set-100000", 1.0, "sadd", 32, 100, 100_000),
    Content("bytes-zset-100", 1.0, "zadd", 32, 100, 100),
    Content("bytes-zset-100000", 0.9, "zadd", 32, 100, 100_000),
)
# The peers that collections are compared with.
COLLECTIONS_PEERS = ("valkey",)
MILLIONS = (1, 3, 5)
SETTLE_SECONDS = 2
# The values of the second question: about a mebibyte each, so that a class of the allocator cannot fit all by luck.
LARGE = "943718-1153433"
LARGE_COUNT = 1000
SAVE_SECONDS_MAX = 300


def all_names():
    return [*(content.name for content in CONTENTS), "bytes-large", "save-small", "save-large", "shrink"]


def state(server):
    """(used_memory, RSS) when nothing changes any more."""
    time.sleep(SETTLE_SECONDS)
    return int(server.info()["used_memory"]), server.resident_bytes()


def per_key(run, content):
    """{server: {"1M": (used, rss), ...}} in bytes per key or element. One server at a time: they would share the cache of pages."""
    found = {}
    for name in ["holdfast", *(it for it in run.peers() if not content.members or it in COLLECTIONS_PEERS)]:
        rows = attempt(f"{content.name} of {name}", lambda name=name: per_key_of(run, name, content))
        if rows:
            found[name] = rows
    return found


def per_key_of(run, name, content):
    rows = {}
    with run.servers([name]) as servers:
        server = servers[name]
        empty, first = state(server), 0
        for millions in MILLIONS:
            keys = millions * run.keys
            server.fill(keys, content.size, first, content.command, content.elements, content.members)
            first = keys
            used, rss = ((now - before) / keys for now, before in zip(state(server), empty))
            run.record(content.name, server=name, keys=keys, used_per_key=used, rss_per_key=rss)
            rows[f"{millions}M"] = {"used": used, "rss": rss}
    return rows


def large_values(run):
    """{server: RSS / payload} of random values of 0.9 to 1.1 MiB."""
    found = {}
    for name in ["holdfast", *run.peers()]:
        ratio = attempt(f"bytes-large of {name}", lambda name=name: large_values_of(run, name))
        if ratio:
            found[name] = ratio
    return found


def payload_of(server, keys):
    """Bytes of all values, by asking for each length."""
    with server.connect() as client:
        return sum(client.ask("STRLEN", f"key:{number:012d}") or 0 for number in range(keys))


def large_values_of(run, name):
    with run.servers([name]) as servers:
        server = servers[name]
        _, empty = state(server)
        server.fill(LARGE_COUNT, LARGE)
        payload = payload_of(server, LARGE_COUNT)
        used, rss = state(server)
        ratio = (rss - empty) / payload
        run.record("bytes-large", server=name, values=LARGE_COUNT, payload=payload, used=used, rss=rss - empty, ratio=ratio)
        return ratio


class Peak(threading.Thread):
    """The highest RSS of a process and its children while it runs, sampled every few milliseconds.

    Of a child that shares pages with its parent only what is its own counts.
    """

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.highest, self.over = pid, 0, threading.Event()

    def run(self):
        while not self.over.wait(0.005):
            try:
                self.highest = max(self.highest, self.sample())
            except (OSError, ValueError):
                continue

    def sample(self):
        pages = os.sysconf("SC_PAGE_SIZE")
        with open(f"/proc/{self.pid}/statm") as file:
            total = int(file.read().split()[1]) * pages
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            children = file.read().split()
        for child in children:
            with open(f"/proc/{child}/smaps_rollup") as file:
                total += sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_Dirty:"))
        return total

    def stop(self):
        self.over.set()
        self.join()
        return self.highest


def saving(run, kind):
    """{server: extra memory of a save while one connection writes, as a share of the data}"""
    found = {}
    for name in ["holdfast", *run.peers()]:
        row = attempt(f"save-{kind} of {name}", lambda name=name: saving_of(run, name, kind))
        if row:
            found[name] = row
    return found


def saving_of(run, name, kind):
    keys, size = (3 * run.keys, 32) if kind == "small" else (LARGE_COUNT, LARGE)
    with run.servers([name]) as servers:
        server = servers[name]
        _, empty = state(server)
        server.fill(keys, size)
        _, before = state(server)
        writes = ["--command", "set", "--keys", str(keys), "--size", "32" if kind == "small" else str(size)]
        peak, start = Peak(server.pid), time.monotonic()
        # Seconds far beyond the save: it is stopped when the save is over.
        with server.start_load(*writes, "--connections", "1", "--seconds", str(SAVE_SECONDS_MAX)) as load:
            peak.start()
            server.ask("BGSAVE")
            while server.info().get("rdb_bgsave_in_progress") != "0" and time.monotonic() - start < SAVE_SECONDS_MAX:
                time.sleep(0.02)
            seconds = time.monotonic() - start
            load.process.kill()
        extra = max(0, peak.stop() - before)
        ok = server.info().get("rdb_last_bgsave_status") == "ok"
        row = {"share": extra / (before - empty), "seconds": seconds, "extra": extra, "data": before - empty, "ok": ok}
        run.record(f"save-{kind}", server=name, **row)
        return row


def shrink(run):
    """{server: RSS over what is left, after 80 % of the keys have gone}, values of mixed sizes."""
    found = {}
    for name in ["holdfast", *run.peers()]:
        ratio = attempt(f"shrink of {name}", lambda name=name: shrink_of(run, name))
        if ratio:
            found[name] = ratio
    return found


def shrink_of(run, name):
    keys, kept_every = 5 * run.keys, 5
    with run.servers([name]) as servers:
        server = servers[name]
        _, empty = state(server)
        server.fill(keys, "8-200")
        _, full = state(server)
        batch = 500
        with server.connect() as client:
            for first in range(0, keys, batch):
                gone = [f"key:{number:012d}" for number in range(first, first + batch) if number % kept_every]
                client.ask("UNLINK", *gone)
        # The allocators of all give pages back over ten seconds.
        time.sleep(15)
        _, rss = state(server)
        # What is left would need the same share of the full size.
        ratio = (rss - empty) / ((full - empty) / kept_every)
        run.record("shrink", server=name, keys=keys, full=full - empty, left=rss - empty, ratio=ratio)
        return ratio
