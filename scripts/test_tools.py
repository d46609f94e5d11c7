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

from holdfast_bench import gates, report, throughput  # noqa: E402
from holdfast_bench.run import quartiles  # noqa: E402


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
        used, rss = gates.bytes_per_key(32, found)
        self.assertAlmostEqual(used.value, 0.9)
        self.assertAlmostEqual(rss.value, 0.9)
        self.assertEqual(gates.bytes_per_key(32, {})[0].verdict, "not measured")

    def test_the_longest_split_is_what_the_engine_says(self):
        found = {"holdfast": {"max_ms": 3.0, "engine": {"table_rebuild_longest_usec": "1500"}}}
        self.assertEqual([gate.verdict for gate in gates.latency("growth", found)], ["pass", "FAIL"])

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

    def test_a_test_that_only_the_peer_passes_is_a_failure(self):
        theirs = [("a", "ok", ""), ("b", "ok", ""), ("b", "ok", ""), ("c", "err", ""), ("d", "ok", ""), ("e", "skip", "")]
        ours = [("a", "ok", ""), ("b", "ok", ""), ("b", "err", ""), ("c", "err", "")]
        self.assertEqual(self.run_module.compare(ours, theirs), [("b", "failed"), ("d", "did not run")])

    def test_a_server_that_ends_is_a_failure(self):
        ended = [(self.run_module.SERVER_ENDED, "err", "exit code 5")]
        self.assertEqual(self.run_module.compare([("a", "ok", ""), *ended], [("a", "ok", "")]), [(ended[0][0], "failed")])

    def test_the_list_of_skipped_tests_is_well_formed(self):
        skips = self.run_module.read_skips(os.path.join(ROOT, "conformance", "skips.txt"))
        self.assertTrue(all(file in self.run_module.GATED for file, _ in skips))
        for line in ("unit/x | name\n", "unit/x | name | \n", "unit/x (nowhere) | name | reason\n", "f | n | r\nf | n | r\n"):
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
                file.write(line)
                file.flush()
                with self.assertRaises(SystemExit, msg=line):
                    self.run_module.read_skips(file.name)


if __name__ == "__main__":
    unittest.main()
