"""How fast are GET, SET, MSET and the commands of the other types, and what does one cost the server?

A cell is a command, a pipeline and a value size; some need a state, which is made before they are measured. All servers of a group run at once and hold the same keys; each cell goes
round them before the next round, and the order turns with every round, so that a slow minute of the machine meets all. A
ratio is taken within a round.
"""
import csv
import dataclasses
import fnmatch
import subprocess
import time

from .run import attempt, quartiles
from .server import Failed

CONNECTIONS = 50
COMMANDS = ("get", "set", "mset")
PIPELINES = {"get": (1, 16, 64), "set": (1, 16, 64), "mset": (1, 16)}
SIZES = (32, 3, 512)
TYPES_COMMANDS = (
    "incr", "lpush", "rpop", "lrange", "hset", "hget", "sadd", "sismember", "zadd", "zrangebyscore", "mixed", "handover", "publish",
)
TYPES_PIPELINES = (1, 16)
# Many in flight: the system calls of one request would hide what a rank costs.
RANK_COMMANDS = ("zrank", "zrange")
RANK_PIPELINES = (64,)
# What a command needs besides the options of all.
OPTIONS = {"publish": ("--subscribers", "50")}
# A reply that has nothing is one of another question; of ZRANGEBYSCORE a few begin behind the last score.
MISSES_SHARE_MAX = 0.001
WARM_UP_SECONDS = 0.3
# Servers that were filled are left alone until nothing has moved for so long, or for the longer time.
SETTLE_SECONDS = 6
SETTLE_SECONDS_MAX = 60
# Where the scheduler places threads, a server beside itself differs by a tenth from round to round.
ROUNDS_UNPINNED = 3
LOG_MODES = ("everysec", "always")
# Groups whose cells are named by command, pipeline and size alone.
PLAIN_GROUPS = ("throughput", "types", "rank")


@dataclasses.dataclass(frozen=True)
class Cell:
    group: str
    command: str
    pipeline: int
    size: int

    @property
    def name(self):
        """get-p16-32, set-p1-32-always, get-p16-32-threads"""
        plain = f"{self.command}-p{self.pipeline}-{self.size}"
        return plain if self.group in PLAIN_GROUPS else f"{plain}-{self.group}"


@dataclasses.dataclass(frozen=True)
class State:
    """What a server holds before a measurement: this many elements by this command of the load generator, from nothing.

    `elements` is told the run and the cell; the requests of the cell speak of the same ones.
    """

    command: str | None = None
    elements: object = lambda run, cell: run.keys
    # The key that is deleted before; the first one where there are many.
    key: str | None = None
    # Requests use it up or make it grow: it is made before each round, not once.
    each_round: bool = False


# Assumed to be more than a server pops in a second, being above the fastest GET; where one is faster the list runs dry, and the
# cell fails by its misses.
POPS_PER_SECOND_MAX = {1: 400_000, 16: 2_500_000}
LIST, HASH, SET, SORTED_SET = (f"{prefix}:{0:012d}" for prefix in ("lst", "hsh", "set", "zst"))
STRINGS = State()
NUMBERS = State("incr", key=f"num:{0:012d}")
WHOLE_HASH, WHOLE_SET, WHOLE_SORTED_SET = State("hset", key=HASH), State("sadd", key=SET), State("zadd", key=SORTED_SET)
RANKED_SET = State("zadd", lambda run, cell: run.keys // 10, SORTED_SET)
STATES = {
    "incr": NUMBERS,
    "lpush": State(key=LIST, each_round=True),
    "rpop": State("rpush", lambda run, cell: int((run.seconds + WARM_UP_SECONDS) * POPS_PER_SECOND_MAX[cell.pipeline]), LIST, True),
    "lrange": State("rpush", lambda run, cell: 10_000, LIST),
    "hset": WHOLE_HASH, "hget": WHOLE_HASH,
    "sadd": WHOLE_SET, "sismember": WHOLE_SET,
    "zadd": WHOLE_SORTED_SET, "zrangebyscore": WHOLE_SORTED_SET,
    "zrank": RANKED_SET, "zrange": RANKED_SET,
}
# Elements of one request of a fill, where its command takes several.
FILL_ELEMENTS = {"rpush": 100, "hset": 10, "sadd": 100, "zadd": 10}


def all_cells():
    cells = [
        Cell("throughput", command, pipeline, size)
        for size in SIZES for command in COMMANDS for pipeline in PIPELINES[command]
    ]
    cells += [Cell("types", command, pipeline, 32) for command in TYPES_COMMANDS for pipeline in TYPES_PIPELINES]
    cells += [Cell("rank", command, pipeline, 32) for command in RANK_COMMANDS for pipeline in RANK_PIPELINES]
    cells += [
        Cell(mode, command, pipeline, 32)
        for mode in LOG_MODES for command, pipeline in (("set", 1), ("set", 16), ("get", 16), ("mset", 1))
    ]
    cells += [Cell("threads", command, pipeline, 32) for command in ("get", "set") for pipeline in (1, 16)]
    cells += [Cell("benchmark", command, pipeline, 32) for command in ("get", "set") for pipeline in (1, 16)]
    return cells


def selected(name, patterns):
    """`get-p16` names every size and group of it, `get-p16-32` that one and its groups; * and ? as in a shell."""
    return not patterns or any(fnmatch.fnmatch(name, it) or fnmatch.fnmatch(name, it + "-*") for it in patterns)


def measure_all(run, cells):
    """Yields (cell, {server: [round]}) for each cell, group by group."""
    groups = {}
    for cell in cells:
        groups.setdefault((cell.group, cell.size), []).append(cell)
    for (group, size), members in groups.items():
        yield from measure_group(run, group, size, members)


def contestants(run, group):
    """Names of binaries, the placement, the log and further directives of a group."""
    if group == "threads":
        return ["holdfast"], run.placement.free(), "never"
    if group in LOG_MODES:
        # Of the others one is enough to see how far away both are.
        return ["holdfast", "base", *run.peers()[:1]], run.placement, group
    if group == "types":
        # To save a quarter of the time. Redis 7.0.15 was behind 8.0.6 in every GET, SET and MSET of the same load without a
        # log (performance.md); of the commands of this group that is assumed.
        return ["holdfast", *([name for name in run.peers() if name != "redis"] or run.peers())], run.placement, "never"
    if group == "rank":
        return ["holdfast", *(name for name in run.peers() if name == "valkey")], run.placement, "never"
    return ["holdfast", *run.peers()], run.placement, "never"


def measure_group(run, group, size, cells):
    names, placement, log = contestants(run, group)
    if group in LOG_MODES and "base" not in run.binaries:
        return
    if group == "threads":
        yield from measure_threads(run, placement, size, cells)
        return
    with run.servers(names, placement, log) as servers:
        fill_all(run, servers, size)
        for cell in cells:
            found = attempt(cell.name, lambda cell=cell: measure_cell(run, cell, servers))
            if found:
                yield cell, found


def measure_threads(run, placement, size, cells):
    """The same binary twice: with two I/O threads and with one, on whatever CPU the scheduler gives them."""
    with (
        run.servers(["holdfast"], placement, directives={"holdfast": ["--io-threads", "1"]}) as one,
        run.servers(["holdfast"], placement, directives={"holdfast": ["--io-threads", "2"]}) as two,
    ):
        servers = {"one thread": one["holdfast"], "two threads": two["holdfast"]}
        fill_all(run, servers, size)
        for cell in cells:
            found = attempt(cell.name, lambda cell=cell: measure_cell(run, cell, servers))
            if found:
                yield cell, found


def fill_all(run, servers, size):
    """The same keys for all, and time for what goes on behind them: ours moves full memory into huge pages."""
    for server in servers.values():
        server.fill(run.keys, size)
    moved, quiet_since, deadline = None, time.monotonic(), time.monotonic() + SETTLE_SECONDS_MAX
    while time.monotonic() < min(quiet_since + SETTLE_SECONDS, deadline):
        now = [server.info().get("huge_pages_moved") for server in servers.values()]
        if now != moved:
            moved, quiet_since = now, time.monotonic()
        time.sleep(0.5)


def measure_cell(run, cell, servers):
    found = {name: [] for name in servers}
    names = list(servers)
    for number in range(run.rounds * (ROUNDS_UNPINNED if cell.group == "threads" else 1)):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            once = by_redis_benchmark if cell.group == "benchmark" else by_loadgen
            result = run.undisturbed(servers.values(), lambda name=name, once=once: once(run, cell, servers[name]))
            run.record(cell.name, server=name, round=number, **result)
            found[name].append(result)
    return found


def prepare(run, cell, server):
    """Makes the state of a cell, unless the server has it; returns the number of its elements."""
    state = STATES.get(cell.command, STRINGS)
    elements = state.elements(run, cell)
    if state.key and (state.each_round or server.states.get(state.key) != (state, elements)):
        server.ask("DEL", state.key)
        if state.command:
            server.fill(elements, cell.size, command=state.command, elements=FILL_ELEMENTS.get(state.command))
        server.states[state.key] = (state, elements)
    return elements


def by_loadgen(run, cell, server):
    elements = prepare(run, cell, server)
    cpu = server.cpu_seconds()
    report = server.load(
        "--command", cell.command, "--pipeline", str(cell.pipeline), "--connections", str(CONNECTIONS),
        "--size", str(cell.size), "--keys", str(elements), "--seconds", str(run.seconds),
        "--warm-up", str(WARM_UP_SECONDS), *OPTIONS.get(cell.command, ()),
    )
    if report["errors"]:
        raise Failed(f"{server.name} answered with errors: {report['first_error']}")
    if report["misses"] > report["total"] * MISSES_SHARE_MAX:
        raise Failed(f"{server.name} found nothing for {report['misses']} of {report['total']} requests of {cell.name}")
    return {
        "rps": report["requests_per_second"],
        "cpu_us": (server.cpu_seconds() - cpu) / report["total"] * 1e6,
        "p50_us": report["p50_us"],
        "p99_us": report["p99_us"],
        "client_cpu": report["client_cpu"],
    }


def by_redis_benchmark(run, cell, server):
    """A second opinion, by a client that is not ours; it often is the limit itself."""
    requests = 100_000 * (1 if cell.pipeline == 1 else 5)
    cpu = server.cpu_seconds()
    command = ["redis-benchmark", "-p", str(server.port), "-t", cell.command, "-P", str(cell.pipeline), "-n", str(requests)]
    command += ["-c", str(CONNECTIONS), "-r", str(run.keys), "-d", str(cell.size), "--csv"]
    done = subprocess.run(
        server.placement.for_client(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False
    )
    rows = list(csv.DictReader(line for line in done.stdout.splitlines() if line.startswith('"')))
    if done.returncode != 0 or len(rows) != 1:
        raise Failed(f"redis-benchmark failed against {server.name}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return {
        "rps": float(rows[0]["rps"]),
        "cpu_us": (server.cpu_seconds() - cpu) / requests * 1e6,
        "p50_us": float(rows[0]["p50_latency_ms"]) * 1000,
        "p99_us": float(rows[0]["p99_latency_ms"]) * 1000,
    }


def seconds_of(run, cells):
    """How long the measurements of these cells take at least, without fills and repetitions."""
    total = 0
    for cell in cells:
        names, *_ = contestants(run, cell.group)
        servers = 2 if cell.group == "threads" else sum(name in run.binaries for name in names)
        total += servers * run.rounds * (ROUNDS_UNPINNED if cell.group == "threads" else 1) * (run.seconds + WARM_UP_SECONDS)
    return total


def faster_peer(found, peers):
    """The peer with the highest median throughput."""
    return max((name for name in peers if name in found), key=lambda name: quartiles([it["rps"] for it in found[name]])[1])


def ratios(found, ours, theirs, field):
    """(lower quartile, median, upper quartile) of ours over theirs, taken within each round."""
    return quartiles([a[field] / b[field] for a, b in zip(found[ours], found[theirs]) if b[field] > 0])
