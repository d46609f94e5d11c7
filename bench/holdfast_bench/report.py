"""The figures as Markdown, printed while they come and written between the markers of a page at the end."""
import os
import re

from . import gates as gate
from . import throughput
from .run import quartiles

BEGIN = "<!-- figures: begin; written by bench/compare --page, not by hand -->"
END = "<!-- figures: end -->"


class Report:
    """Sections of tables; every line appears at once on standard output."""

    def __init__(self):
        self.lines = []
        self.section = None

    def say(self, line=""):
        print(line, flush=True)
        self.lines.append(line)

    def table(self, section, head):
        if section != self.section:
            self.section = section
            self.say()
            self.say(f"### {section}")
            self.say()
            self.say("| " + " | ".join(head) + " |")
            self.say("|" + "---|" * len(head))

    def row(self, *cells):
        self.say("| " + " | ".join(str(cell) for cell in cells) + " |")

    def throughput(self, cell, found, run):
        titles = {
            "throughput": "Throughput, log off",
            "types": "Throughput of the other types, log off",
            "rank": "Throughput by rank in a sorted set of 100,000, log off",
            "everysec": "Throughput, log synced every second",
            "always": "Throughput, log synced before every reply",
            "threads": "I/O threads, not pinned",
            "benchmark": "Cross-check by redis-benchmark, log off",
        }
        names = list(found)
        if cell.group == "threads":
            ours, theirs, shown = "two threads", "one thread", ["two threads", "one thread"]
        else:
            ours, shown = "holdfast", names
            candidates = ["base"] if cell.group in throughput.LOG_MODES else [name for name in run.peers() if name in found]
            theirs = throughput.faster_peer(found, candidates) if candidates else None
        self.table(
            titles[cell.group],
            ["cell", *[f"{name} k/s" for name in shown], "against", "throughput", "CPU per operation", *[f"{name} µs" for name in shown],
             "p99 ms", "client", "others"],
        )

        def middle(name, field):
            return quartiles([it[field] for it in found[name]])[1]

        all_runs = [it for rounds in found.values() for it in rounds]
        client = max(it.get("client_cpu", 0) for it in all_runs)
        self.row(
            cell.name, *[f"{middle(name, 'rps') / 1000:.1f}" for name in shown], theirs or "–",
            f"**{gate.spread(throughput.ratios(found, ours, theirs, 'rps'))}**" if theirs else "–",
            gate.spread(throughput.ratios(found, ours, theirs, "cpu_us")) if theirs else "–",
            *[f"{middle(name, 'cpu_us'):.2f}" for name in shown],
            " / ".join(f"{middle(name, 'p99_us') / 1000:.2f}" for name in shown),
            f"{client:.0%}" if client else "–", f"{max(it['foreign'] for it in all_runs):.0%}",
        )

    def bytes_per_key(self, content, found):
        scales = list(next(iter(found.values()), {}))
        self.table(f"Bytes per {content.unit}", ["cell", "server", *[f"{scale} {what}" for scale in scales for what in ("used_memory", "RSS")]])
        for name, rows in found.items():
            self.row(content.name, name, *[f"{rows[scale][field]:.1f}" for scale in scales for field in ("used", "rss")])

    def shares(self, section, what, name, found):
        self.table(section, ["cell", "server", what, "seconds"])
        for server, row in found.items():
            share, seconds = (row["share"], f"{row['seconds']:.1f}") if isinstance(row, dict) else (row, "–")
            self.row(name, server, f"{share:.3f}", seconds)

    def latency(self, event, found):
        self.table("Worst latency of another client", ["event", "server", "worst ms", "each time", "p99.9 ms", "the event took ms", "late client ms"])
        for server, row in found.items():
            self.row(
                event, server, f"{row['max_ms']:.1f}", ", ".join(f"{it:.1f}" for it in row["all_ms"]), f"{row['p999_us'] / 1000:.2f}",
                f"{row['action_ms']:.0f}", f"{row['late_ms']:.1f}",
            )
        engine = (found.get("holdfast") or {}).get("engine")
        if event == "growth":
            text = ", ".join(f"`{key}` {value}" for key, value in engine.items()) if engine else "this server has no such INFO fields"
            self.say()
            self.say(f"The engine's own clock: {text}.")

    def hostile(self, found):
        self.table(
            "100 good clients beside 9,900 others",
            ["server", "p99 hostile / harmless", "throughput hostile / harmless", "bytes per stranger", "p99 ms", "k/s",
             "crowd's CPU of the server"],
        )
        for server, row in found.items():

            def both(field, scale, row=row):
                return " / ".join(f"{quartiles([it[kind][field] for it in row['rounds']])[1] / scale:.2f}" for kind in ("hostile", "harmless"))

            shares = " / ".join(f"{quartiles([it[f'{kind}_cpu'] for it in row['rounds']])[1]:.0%}" for kind in ("hostile", "harmless"))
            self.row(
                server, f"**{gate.spread(row['p99'])}**", f"**{gate.spread(row['rps'])}**", f"{row['connection_bytes']:.0f}",
                both("p99_us", 1000), both("requests_per_second", 1000), shares,
            )

    def gates(self, found):
        self.table("Gates", ["gate", "value", "limit", "verdict", "what"])
        for it in found:
            value = "–" if it.value is None else f"{it.value:.3g}"
            self.row(it.name, value, f"{'≥' if it.at_least else '≤'} {it.limit:g}", it.verdict, it.text)
        self.say()
        self.say(gate.summary(found) + ".")

    def write(self, path):
        with open(path, "w") as file:
            file.write("\n".join(self.lines) + "\n")

    def write_between_markers(self, path):
        with open(path) as file:
            text = file.read()
        if BEGIN not in text or END not in text:
            raise SystemExit(f"{path} lacks the markers for the figures")
        figures = "\n".join(self.lines)
        text = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{figures}\n{END}", text, flags=re.DOTALL)
        temporary = path + ".new"
        with open(temporary, "w") as file:
            file.write(text)
        os.replace(temporary, path)
