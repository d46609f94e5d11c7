"""A server under measurement: started, filled, asked, stopped."""
import json
import os
import socket
import subprocess
import sys
import time

from . import machine

START_SECONDS_MAX = 30
# Longest answer that is waited for: FLUSHALL of millions of keys in the slowest peer, on a busy machine.
ANSWER_SECONDS_MAX = 120

# No snapshot and no rewrite in the middle of a measurement; the same for all.
COMMON = ["--bind", "127.0.0.1", "--save", "", "--auto-aof-rewrite-percentage", "0"]
OWN = {
    "holdfast": ["--health-port", "0", "--control-port", "0"],
    "redis": ["--daemonize", "no", "--logfile", "", "--protected-mode", "no"],
}
# What differs in the name of a directive.
LOG = {
    "holdfast": lambda mode: ["--persist-strategy", mode],
    "redis": lambda mode: ["--appendonly", "no"] if mode == "never" else ["--appendonly", "yes", "--appendfsync", mode],
}


class Failed(Exception):
    """A measurement that could not be made; the message says why."""


class Binary:
    """A server program. `family` decides how it is configured: holdfast or redis."""

    def __init__(self, name, path, family):
        self.name, self.path, self.family = name, os.path.abspath(path), family

    def version(self):
        done = subprocess.run([self.path, "--version"], capture_output=True, text=True, check=False)
        return (done.stdout or done.stderr).strip() or "unknown"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, binary, folder, placement, loadgen, log="never", directives=(), name=None):
        self.name, self.binary, self.placement, self.loadgen = name or binary.name, binary, placement, loadgen
        self.port = free_port()
        # What measurements have left in it, by key; theirs alone.
        self.states = {}
        self.log = os.path.join(folder, self.name + ".log")
        data = os.path.join(folder, self.name)
        os.makedirs(data)
        command = [binary.path, "--port", str(self.port), "--dir", data, *COMMON, *OWN[binary.family]]
        command += [*LOG[binary.family](log), *directives]
        with open(self.log, "w") as output:
            self.process = subprocess.Popen(
                placement.for_server(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    @property
    def pid(self):
        return self.process.pid

    def _wait(self):
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if self.ask("PING") == "PONG":
                    return
            except Failed as error:
                # A server with a password is there as well.
                if "NOAUTH" in str(error):
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise Failed(f"{self.name} did not start within {START_SECONDS_MAX} s; the end of its log:\n{self.log_end()}")

    def log_end(self):
        with open(self.log, errors="replace") as log:
            return "".join(log.readlines()[-15:])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def connect(self):
        return Client(self.port)

    def ask(self, *words):
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.ask(*words)

    def info(self):
        """INFO everything as {field: text}."""
        pairs = (line.split(":", 1) for line in self.ask("INFO", "everything").splitlines() if ":" in line)
        return dict(pairs)

    def cpu_seconds(self):
        return machine.process_seconds(self.pid)

    def resident_bytes(self):
        return machine.resident_bytes(self.pid)

    def load(self, *options):
        """Runs the load generator until it ends and returns its report."""
        command = [self.loadgen, "load", "--server", f"127.0.0.1:{self.port}", *options]
        done = subprocess.run(
            self.placement.for_client(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )
        if done.returncode != 0:
            raise Failed(f"load on {self.name} failed: {done.stdout}{done.stderr}{self.log_end()}")
        return json.loads(done.stdout)

    def start_load(self, *options):
        """Runs the load generator beside what follows; `end` of the result waits for it."""
        return Background(self, ["load", *options])

    def probe(self, *options):
        """Measures what one more client waits beside what follows, until `end` of the result."""
        return Background(self, ["probe", *options])

    def crowd(self, *options):
        """Runs clients that are not measured beside what follows, until `end` of the result."""
        return Background(self, ["crowd", *options])

    def fill(self, keys, size, first=0, command="set", elements=None, members=None):
        """Sets keys `first` to `keys`, each once, in order; with another command, adds elements of these numbers to collections.

        `elements`: how many one request has. `members`: how many a collection has (default: one collection has all).
        """
        options = ["--command", command, "--fill", "--keys", str(keys), "--first-key", str(first), "--size", str(size)]
        if elements:
            options += ["--elements", str(elements)]
        if members:
            options += ["--members", str(members)]
        # Large values in small batches: both ends keep a batch in memory.
        big = int(str(size).split("-", maxsplit=1)[0]) > 4096
        return self.load(*options, "--pipeline", "1" if big else "64", "--connections", "4" if big else "50")


class Background:
    def __init__(self, server, words):
        command = [server.loadgen, words[0], "--server", f"127.0.0.1:{server.port}", *words[1:]]
        self.server = server
        self.process = subprocess.Popen(
            server.placement.for_client(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def running(self):
        return self.process.poll() is None

    def end(self):
        """Tells a probe that it is over, waits, and returns the report."""
        output, errors = self.process.communicate(timeout=600)
        if self.process.returncode != 0:
            raise Failed(f"{self.server.name}: {output}{errors}{self.server.log_end()}")
        return json.loads(output)


class Client:
    """Just enough of the protocol for administration."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS_MAX)
        self.stream = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()
        self.socket.close()

    def ask(self, *words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            parts += [b"$%d\r\n" % len(data), data, b"\r\n"]
        self.socket.sendall(b"".join(parts))
        return self.answer()

    def answer(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise Failed("the server closed the connection")
        kind, text = line[:1], line[1:-2].decode(errors="replace")
        if kind == b"-":
            raise Failed(f"the server answered {text!r}")
        if kind == b"$":
            if text == "-1":
                return None
            data = self.stream.read(int(text) + 2)
            return data[:-2].decode(errors="replace")
        if kind == b"*":
            return [self.answer() for _ in range(int(text))]
        return int(text) if kind == b":" else text


def warn(message):
    print(f"NOTE: {message}", file=sys.stderr, flush=True)
