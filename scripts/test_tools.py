"""What bench/compare and conformance/run decide, on values: a judge that cannot say no is worse than none.

    python3 scripts/test_tools.py
"""
import importlib.machinery
import importlib.util
import os
import sys
import tempfile
import unittest

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "bench"))

from holdfast_bench import gates, hostile, latency, memory, report, throughput  # noqa: E402
from holdfast_bench.run import quartiles  # noqa: E402
from holdfast_bench.server import Failed  # noqa: E402


def load_conformance():
    path = os.path.join(ROOT, "conformance", "run")
    loader = importlib.machinery.SourceFileLoader("conformance_run", path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("conformance_run", loader))
    loader.exec_module(module)
    return module


class Peers:
    """As much of a run as the gates look at."""

    def __init__(self, *names):
        self.names = names

    def peers(self):
        return self.names


def rounds(*pairs):
    return [{"rps": rps, "cpu_us": cpu} for rps, cpu in pairs]


class Gates(unittest.TestCase):
    def verdict(self, value, limit, at_least):
        return gates.Gate("name", "text", value, limit, at_least).verdict

    def test_a_gate_passes_is_close_or_fails(self):
        for value, expected in ((1.1, "pass"), (1.2, "pass"), (1.0, "close"), (0.98, "FAIL"), (None, "not measured")):
            self.assertEqual(self.verdict(value, 1.1, True), expected, value)
        for value, expected in ((10, "pass"), (3, "pass"), (11, "close"), (12, "FAIL"), (None, "not measured")):
            self.assertEqual(self.verdict(value, 10, False), expected, value)

    def test_throughput_is_judged_against_the_faster_peer(self):
        found = {
            "holdfast": rounds((110, 1.0), (110, 1.0), (90, 1.0)),
            "valkey": rounds((100, 1.0), (100, 1.0), (100, 1.0)),
            "redis": rounds((50, 2.0), (50, 2.0), (50, 2.0)),
        }
        (gate,) = gates.throughput(throughput.Cell("throughput", "get", 16, 32), found, Peers("redis", "valkey"))
        self.assertIn("valkey", gate.text)
        self.assertAlmostEqual(gate.value, 1.1)
        low, cpu = gates.throughput(throughput.Cell("throughput", "get", 1, 32), found, Peers("redis", "valkey"))
        self.assertAlmostEqual(low.value, 1.0, msg="the lower quartile, not the median")
        self.assertEqual((cpu.value, cpu.verdict), (1.0, "close"))

    def test_a_log_is_judged_against_the_base(self):
        found = {"holdfast": rounds((80, 1.0)), "base": rounds((100, 1.0)), "valkey": rounds((10, 1.0))}
        (gate,) = gates.throughput(throughput.Cell("always", "set", 1, 32), found, Peers("valkey"))
        self.assertEqual((gate.value, gate.verdict), (0.8, "FAIL"))

    def test_bytes_per_key_are_the_mean_over_the_scales(self):
        found = {
            "holdfast": {"1M": {"used": 80, "rss": 90}, "3M": {"used": 100, "rss": 90}},
            "valkey": {"1M": {"used": 100, "rss": 100}, "3M": {"used": 100, "rss": 100}},
        }
        content = memory.Content("bytes-32", 0.92, "set", 32)
        used, rss = gates.bytes_per_key(content, found)
        self.assertAlmostEqual(used.value, 0.9)
        self.assertAlmostEqual(rss.value, 0.9)
        self.assertEqual([gate.verdict for gate in (used, rss)], ["pass", "pass"])
        self.assertEqual(gates.bytes_per_key(content, {})[0].verdict, "not measured")

    def test_the_limit_of_a_collection_is_its_own(self):
        found = {name: {"1M": {"used": bytes_, "rss": bytes_}} for name, bytes_ in (("holdfast", 93), ("valkey", 100))}
        limits = {content.name: content.limit for content in memory.CONTENTS}
        self.assertEqual((limits["bytes-zset-100"], limits["bytes-zset-100000"], limits["bytes-hash-10"]), (1.0, 0.9, 0.95))
        for content in memory.CONTENTS:
            verdicts = {gate.verdict for gate in gates.bytes_per_key(content, found)}
            self.assertEqual(verdicts, {"pass" if content.limit > 0.93 else "close"}, content.name)

    def test_commands_of_other_types_need_the_speed_of_the_faster_peer(self):
        for ratio, command, pipeline, expected in (
            (1.0, "lpush", 1, "pass"), (1.0, "lpush", 16, "pass"), (0.95, "lpush", 1, "close"), (0.8, "lpush", 16, "FAIL"),
            (1.0, "get", 16, "close"), (2.0, "zrank", 64, "pass"), (1.7, "zrange", 64, "FAIL"),
        ):
            found = {"holdfast": rounds((100 * ratio, 1.0)), "valkey": rounds((100, 1.0)), "redis8": rounds((90, 1.0))}
            (gate,) = gates.throughput(throughput.Cell("types", command, pipeline, 32), found, Peers("valkey", "redis8"))
            self.assertEqual(gate.verdict, expected, (ratio, command, pipeline))

    def test_every_event_has_a_gate(self):
        for event in latency.EVENTS:
            (gate, *_) = gates.latency(event, {"holdfast": {"max_ms": 12.0}})
            self.assertEqual((gate.name, gate.verdict), (f"latency-{event}", "FAIL"))

    def test_the_longest_split_is_what_the_engine_says(self):
        for splits, expected in (((900, 1500, 1600), "FAIL"), ((200, 300, 9000), "pass")):
            reports = [{"max_us": 3000, "late_us": 100, "engine": {"table_rebuild_longest_usec": str(split)}} for split in splits]
            found = {"holdfast": latency.middle_of(reports)}
            self.assertEqual([gate.verdict for gate in gates.latency("growth", found)], ["pass", expected])

    def test_good_clients_beside_hostile_ones_are_judged_by_what_they_get_beside_harmless_ones(self):
        def row(p99, rps, held):
            kinds = {"hostile": {"p99_us": p99, "requests_per_second": rps}, "harmless": {"p99_us": 100, "requests_per_second": 1000}}
            return {**kinds, "connection_bytes": held}

        for given, expected in (((200, 800, 32768), ["pass"] * 3), ((300, 500, 50000), ["FAIL"] * 3)):
            found = {"holdfast": hostile.summary([row(*given)])}
            self.assertEqual([gate.verdict for gate in gates.hostile(found)], expected)
        self.assertEqual({gate.verdict for gate in gates.hostile({})}, {"not measured"})

    def test_quartiles(self):
        self.assertEqual(quartiles([7]), (7, 7, 7))
        self.assertEqual(quartiles([1, 2, 3, 4, 5]), (2, 3, 4))

    def test_cells_are_named_by_their_beginning_or_a_pattern(self):
        for name, pattern, expected in (
            ("get-p16-32", "get-p16", True), ("get-p16-32-always", "get-p16-32", True), ("get-p1-32", "get-p16", False),
            ("get-p16-32", "*-p16-*", True), ("bytes-large", "bytes-3", False),
        ):
            self.assertEqual(throughput.selected(name, [pattern]), expected, (name, pattern))

    def test_figures_replace_what_is_between_the_markers(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "page.md")
            with open(path, "w") as page:
                page.write(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
            made = report.Report()
            made.lines = ["new \\1"]
            made.write_between_markers(path)
            with open(path) as page:
                self.assertEqual(page.read(), f"above\n{report.BEGIN}\nnew \\1\n{report.END}\nbelow\n")


class Server:
    """As much of a server as the preparation of a cell uses; `done` is what it was told."""

    def __init__(self):
        self.states, self.done, self.name = {}, [], "holdfast"

    def ask(self, *words):
        self.done.append(words)

    def fill(self, keys, size, command, elements):
        self.done.append((command, keys))

    def cpu_seconds(self):
        return 0.0

    def load(self, *options):
        return {
            "errors": 0, "misses": self.misses, "total": 10_000, "requests_per_second": 1.0, "p50_us": 1, "p99_us": 1, "client_cpu": 0.1,
        }


class Bench:
    """As much of a run as the preparation of a cell uses."""

    keys, seconds = 1_000_000, 2.0


class States(unittest.TestCase):
    def prepare(self, server, command, pipeline=1):
        return throughput.prepare(Bench(), throughput.Cell("types", command, pipeline, 32), server)

    def test_a_state_is_made_once_for_all_that_read_it(self):
        server = Server()
        self.assertEqual([self.prepare(server, command) for command in ("hset", "hget", "hget")], [1_000_000] * 3)
        self.assertEqual(server.done, [("DEL", "hsh:000000000000"), ("hset", 1_000_000)])

    def test_a_list_that_is_popped_is_as_long_before_each_round(self):
        server = Server()
        first = self.prepare(server, "rpop", 16)
        self.assertGreaterEqual(first, 2_500_000 * (2 + throughput.WARM_UP_SECONDS))
        self.prepare(server, "rpop", 16)
        self.assertEqual(server.done, [("DEL", "lst:000000000000"), ("rpush", first)] * 2)

    def test_a_list_that_another_cell_has_changed_is_made_again(self):
        server = Server()
        for command in ("lrange", "lrange", "lpush", "lrange"):
            self.prepare(server, command)
        drop, fill = ("DEL", "lst:000000000000"), ("rpush", 10_000)
        self.assertEqual(server.done, [drop, fill, drop, drop, fill])

    def test_strings_are_those_of_the_group(self):
        server = Server()
        self.assertEqual(self.prepare(server, "mixed"), 1_000_000)
        self.assertEqual(server.done, [])

    def test_requests_that_find_nothing_measure_nothing(self):
        server, cell = Server(), throughput.Cell("types", "rpop", 1, 32)
        server.misses = 10
        throughput.by_loadgen(Bench(), cell, server)
        server.misses = 11
        with self.assertRaises(Failed):
            throughput.by_loadgen(Bench(), cell, server)


class Conformance(unittest.TestCase):
    run_module = load_conformance()

    def test_results_are_read_from_what_the_suite_prints(self):
        lines = [
            "[ready]: 1\n", "[testing]: a\n", "[\x1b[0;32;49mok\x1b[0m]: a (b) (3 ms)\n",
            "[\x1b[0;31;49merr\x1b[0m]: c in tests/unit/x.tcl\n", "Expected 1\n", "[skip]: d\n", "[exception]: boom\n",
        ]
        self.assertEqual(
            self.run_module.parse(lines),
            [("a (b)", "ok", ""), ("c", "err", "Expected 1\n"), ("d", "skip", ""), ("boom", "exception", "")],
        )

    def test_a_file_without_tests_passes_when_it_ends(self):
        self.assertEqual(self.run_module.parse(["[1/1 done]: x (2 seconds)\n"]), [(self.run_module.FILE_ENDED, "ok", "")])
        self.assertEqual(self.run_module.parse(["[exception]: boom\n", "[1/1 done]: x\n"]), [("boom", "exception", "")])
        self.assertEqual(self.run_module.parse(["nothing\n"]), [])
        ended, failed = [(self.run_module.FILE_ENDED, "ok", "")], [("boom", "exception", "")]
        self.assertEqual(self.run_module.compare(failed, ended), [(self.run_module.FILE_ENDED, "did not run")])

    def test_what_a_test_needs_is_what_it_has_sent(self):
        side = object.__new__(self.run_module.Side)
        with tempfile.TemporaryDirectory() as folder:
            side.sent = os.path.join(folder, "sent")
            self.assertEqual(side.needs({"xadd"}), {})
            with open(side.sent, "w") as sent:
                sent.write(
                    "a in tests/unit/x.tcl\tXADD\tkey\t\nb in tests/unit/x.tcl\tfunction\tload\t\n"
                    "c in tests/unit/x.tcl\tget\txadd\t\nd in tests/unit/x.tcl\trestore\tkey\t15\n"
                    "e in tests/unit/x.tcl\trestore\tkey\t14\n"
                )
            needs = side.needs({"xadd", "function|load"})
            self.assertEqual(needs, {"a": {"XADD"}, "b": {"FUNCTION LOAD"}, "d": {"RESTORE of a stream"}})

    def test_a_suite_that_has_changed_is_not_adapted(self):
        with tempfile.TemporaryDirectory() as folder:
            for file, before, _ in self.run_module.ADAPTED:
                path = os.path.join(folder, file)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "a") as text:
                    text.write(before)
            self.run_module.adapt(folder)
            with self.assertRaises(SystemExit):
                self.run_module.adapt(folder)

    def test_a_test_that_only_the_peer_passes_is_a_failure(self):
        theirs = [("a", "ok", ""), ("b", "ok", ""), ("b", "ok", ""), ("c", "err", ""), ("d", "ok", ""), ("e", "skip", "")]
        ours = [("a", "ok", ""), ("b", "ok", ""), ("b", "err", ""), ("c", "err", "")]
        self.assertEqual(self.run_module.compare(ours, theirs), [("b", "failed"), ("d", "did not run")])

    def test_a_server_that_ends_is_a_failure(self):
        ended = [(self.run_module.SERVER_ENDED, "err", "exit code 5")]
        self.assertEqual(self.run_module.compare([("a", "ok", ""), *ended], [("a", "ok", "")]), [(ended[0][0], "failed")])

    def test_a_tag_stands_for_what_the_suite_leaves_out_for_it(self):
        matches, is_skipped = self.run_module.matches, self.run_module.is_skipped
        for name in ("Tag: defrag denied", "a test: Tag: defrag denied"):
            self.assertTrue(matches("tag:defrag", name))
            self.assertTrue(is_skipped(name, "ignore", ["tag:defrag"]))
            self.assertFalse(is_skipped(name, "ignore", ["tag:slow", "/defrag"]))
        self.assertFalse(matches("tag:defrag", "Active defrag"))
        self.assertTrue(is_skipped("a test", "skip", []))

    def test_the_list_of_skipped_tests_is_well_formed(self):
        skips = self.run_module.read_skips(os.path.join(ROOT, "conformance", "skips.txt"))
        gated = [*self.run_module.GATED, *self.run_module.DURABILITY]
        self.assertTrue(all(file in gated for file, _ in skips))
        for line in ("unit/x | name\n", "unit/x | name | \n", "unit/x (nowhere) | name | reason\n", "f | n | r\nf | n | r\n"):
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write(line)
                file.flush()
                with self.assertRaises(SystemExit, msg=line):
                    self.run_module.read_skips(file.name)


if __name__ == "__main__":
    unittest.main()
