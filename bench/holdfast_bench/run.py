"""One run of the whole: what every kind of measurement is given."""
import contextlib
import dataclasses
import json
import os
import statistics
import tempfile
import time

from . import machine
from .server import Failed, Server, warn

# A measurement during which others used more of the machine than this is repeated, so often; then the best one counts.
FOREIGN_MAX = 0.04
TRIES = 3


@dataclasses.dataclass
class Run:
    """`binaries`: name to Binary, "holdfast" first. `keys`: what all numbers of keys are multiples of."""

    binaries: dict
    placement: machine.Placement
    loadgen: str
    out: str
    rounds: int
    seconds: float
    keys: int
    tries: int = TRIES
    records: object = None

    def peers(self):
        """The servers that are not ours: what ratios are taken to."""
        return [name for name in self.binaries if name not in ("holdfast", "base")]

    def record(self, cell, **fields):
        print(json.dumps({"cell": cell, **fields}), file=self.records, flush=True)

    @contextlib.contextmanager
    def servers(self, names, placement=None, log="never", directives=None):
        """Starts servers by the names of their binaries and yields them by name; all are stopped at the end."""
        with tempfile.TemporaryDirectory(dir=self.out, prefix="work-") as folder, contextlib.ExitStack() as stack:
            started = {}
            for name in names:
                if name not in self.binaries:
                    continue
                started[name] = stack.enter_context(
                    Server(
                        self.binaries[name], folder, placement or self.placement, self.loadgen, log,
                        (directives or {}).get(name, ()),
                    )
                )
            yield started

    def undisturbed(self, servers, measure):
        """Calls `measure` until others leave the machine alone, a few times at most; returns its least disturbed result."""
        best = None
        for attempt in range(self.tries):
            others = machine.Others([server.pid for server in servers])
            found = measure()
            found["foreign"] = others.share()
            if best is None or found["foreign"] < best["foreign"]:
                best = found
            if best["foreign"] <= FOREIGN_MAX:
                break
            # Whoever it is may be done soon.
            time.sleep(min(2, attempt))
        return best


def quartiles(values):
    """(lower quartile, median, upper quartile), interpolated; of one value all three are that value."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def attempt(what, action):
    """Runs a measurement; one that fails is told and left out, so that the others still count."""
    try:
        return action()
    except (Failed, OSError, ValueError) as error:
        warn(f"{what} could not be measured: {error}")
        return None
