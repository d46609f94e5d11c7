"""What does one more client wait at worst while the server does something large?

The client sends a GET every millisecond and counts from the time it was due, so that a pause delays all that fell into it.
Each event is measured a few times; the middle one counts, for a single late wake-up of the client is the machine's.
"""
import os
import statistics
import time

from . import throughput
from .run import attempt
from .server import Failed

TIMES = 3
KEYS_MILLIONS = 5
GROWTH_MILLIONS = 16
VALUE_BYTES = 512 << 20
# Members, and fields, of the large collections.
MEMBERS_MILLIONS = 5
# A hash of a gigabyte: so many fields for each of the run's keys, of this size.
FIELD_BYTES = 1000
EVENTS = ("flushall", "del-large", "growth", "flushall-mixed", "del-set", "growth-hash", "save-hash")
SAVE_SECONDS_MAX = 300
# How often the client asks while keys are added.
RATE = "1000"


def worst(run, event):
    """{server: {"max_ms": middle of the worst latencies, "all": [...], "late_ms": delay of the client itself}}"""
    found = {}
    for name in ["holdfast", *run.peers()[:1]]:
        row = attempt(f"latency-{event} of {name}", lambda name=name: worst_of(run, name, event))
        if row:
            found[name] = row
    return found


def worst_of(run, name, event):
    actions = {
        "flushall": flush_all, "del-large": delete_large, "growth": grow, "flushall-mixed": flush_mixed, "del-set": delete_set,
        "growth-hash": grow_hash, "save-hash": save_hash,
    }
    reports = []
    for number in range(TIMES):
        # The server may use both CPUs' caches, but not the client's CPU: what is pinned stays pinned.
        with run.servers([name]) as servers:
            report = actions[event](run, servers[name])
            run.record(f"latency-{event}", server=name, round=number, **report)
            reports.append(report)
    return middle_of(reports)


def middle_of(reports):
    """The report with the middle one of the worst latencies, and the middle one of the longest splits."""
    middle = statistics.median_low([report["max_us"] for report in reports])
    chosen = next(report for report in reports if report["max_us"] == middle)
    splits = [int(it["engine"]["table_rebuild_longest_usec"]) for it in reports if "table_rebuild_longest_usec" in it.get("engine", {})]
    if splits:
        # The time of a thread counts what a hypervisor took from it.
        chosen = {**chosen, "split_us": statistics.median_low(splits)}
    return {**chosen, "max_ms": middle / 1000, "late_ms": chosen["late_us"] / 1000, "all_ms": [it["max_us"] / 1000 for it in reports]}


def watched(server, action, keys):
    """The report of a probe that runs from before the action until shortly after it."""
    with server.probe("--rate", RATE, "--keys", str(keys), "--seconds", "300") as probe:
        time.sleep(0.3)
        start = time.monotonic()
        action()
        took = time.monotonic() - start
        # What the server does after its answer, such as freeing memory, counts as well.
        time.sleep(1)
        return {**probe.end(), "action_ms": took * 1000}


def flush_all(run, server):
    keys = KEYS_MILLIONS * run.keys
    server.fill(keys, 32)
    with server.connect() as client:
        return watched(server, lambda: client.ask("FLUSHALL"), keys)


def delete_large(run, server):
    server.fill(1000, 32)
    block = os.urandom(1 << 20)
    with server.connect() as client:
        client.ask("SET", "large", block * (VALUE_BYTES >> 20))
        time.sleep(1)
        return watched(server, lambda: client.ask("DEL", "large"), 1000)


def grow(run, server):
    """From nothing to many keys while the client asks. What the engine says of its own splits is in the report."""
    keys = GROWTH_MILLIONS * run.keys
    report = watched(
        server,
        lambda: server.load("--command", "set", "--fill", "--keys", str(keys), "--size", "8", "--pipeline", "8", "--connections", "4"),
        keys,
    )
    engine = {name: value for name, value in server.info().items() if name.startswith("table_")}
    return {**report, "engine": engine}


def flush_mixed(run, server):
    """A million elements of each type: strings, collections of a hundred, and one of each type that is large."""
    keys = run.keys
    server.fill(keys, 32)
    for command, elements in (("rpush", 100), ("hset", 10), ("sadd", 100), ("zadd", 10)):
        server.fill(keys, 32, 0, command, elements, 100)
        server.fill(2 * keys, 32, keys, command, elements, keys)
    with server.connect() as client:
        return watched(server, lambda: client.ask("FLUSHALL"), keys)


def delete_set(run, server):
    server.fill(1000, 32)
    server.fill(MEMBERS_MILLIONS * run.keys, 32, command="sadd", elements=100)
    with server.connect() as client:
        return watched(server, lambda: client.ask("DEL", throughput.SET), 1000)


def grow_hash(run, server):
    """One hash from nothing to many fields, one at a time."""
    server.fill(1000, 32)
    fill = ["--command", "hset", "--fill", "--keys", str(MEMBERS_MILLIONS * run.keys), "--size", "8"]
    return watched(server, lambda: server.load(*fill, "--pipeline", "8", "--connections", "4"), 1000)


def save_hash(run, server):
    server.fill(1000, 32)
    server.fill(run.keys, FIELD_BYTES, command="hset", elements=10)

    def save():
        deadline = time.monotonic() + SAVE_SECONDS_MAX
        client.ask("BGSAVE")
        while "rdb_bgsave_in_progress:1" in client.ask("INFO", "persistence"):
            if time.monotonic() > deadline:
                raise Failed(f"{server.name} did not end its save")
            time.sleep(0.1)
        if "rdb_last_bgsave_status:ok" not in client.ask("INFO", "persistence"):
            raise Failed(f"{server.name} failed to save")

    with server.connect() as client:
        return watched(server, save, 1000)
