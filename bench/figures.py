"""What bench/run measured: the files of its folder, for plot.py and report.py."""

import json
import os
import platform
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
OPS = ("prefill", "standard", "decode", "linear", "quant", "elementwise")  # one file of bench_ops each
LEAST_CLEAN = 3  # samples, for a figure to be shown
MANUAL_TIME = "manual_time"  # Google Benchmark's, at the end of a name


def cpu_name():
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


def parse(benchmark):
    """An entry of bench_ops: what its name says, and its counters."""
    entry = {"words": []}
    op, *parts = benchmark["name"].split("/")
    for part in parts:
        key, colon, value = part.partition(":")
        if colon:
            entry[key] = int(value)
        elif part != MANUAL_TIME:
            entry["words"].append(part)
    entry["isa"] = entry["words"].pop()
    return {**benchmark, **entry, "op": op, "sure": benchmark["clean"] >= LEAST_CLEAN}


def read(path):
    return json.loads(path.read_text()) if path.exists() else None


class Figures:
    """All that lies in a folder; None where a file is missing."""

    def __init__(self, folder):
        self.machine = read(folder / "machine.json")
        self.compare = read(folder / "compare.json")
        self.memory = read(folder / "memory.json")
        # Of "quant" apart: its ISAs are the variants, and its peak is that of 8-bit dot products.
        self.entries, self.quant, self.left_out = [], [], []
        for op in OPS:
            measured = read(folder / f"{op}.json") or {"benchmarks": []}
            for benchmark in measured["benchmarks"]:
                if benchmark.get("error_occurred"):
                    self.left_out.append(f"{benchmark['name']}: {benchmark['error_message']}")
                else:
                    (self.quant if op == "quant" else self.entries).append(parse(benchmark))
        self.isas = list(dict.fromkeys(entry["isa"] for entry in self.entries))
        self.threads = sorted({entry["threads"] for entry in self.entries})

    def select(self, op, *words, **fields):
        """Entries of that operation, with those words in their names and those fields."""
        return [entry for entry in (self.quant if op == "quant" else self.entries)
                if entry["op"] == op and all(word in entry["words"] for word in words)
                and all(entry.get(key) == value for key, value in fields.items())]

    def compared(self, kind, threads):
        """Rows of compare.py, and for each library its fastest run in each of them."""
        rows = [row for row in (self.compare or {"rows": []})["rows"]
                if row["kind"] == kind and row["threads"] == threads]
        return [(row, {name: best_run(row, name) for name in self.compare["versions"]})
                for row in rows]


def best_run(row, library):
    """Its fastest run that has clean samples enough, else the fastest; None: it was left out."""
    runs = [figures for run, figures in row["runs"].items() if run.startswith(library + ":")]
    return min(runs, key=lambda figures: (not sure(figures), figures["ms"]), default=None)


def sure(figures):
    return figures["clean"] >= LEAST_CLEAN


def plural(threads):
    return f"{threads} thread{'s'[:threads > 1]}"


def replace_between(page, marks, text):
    """Of a page, what lies between two marks."""
    before, begin, rest = page.read_text().partition(marks[0])
    _, end, behind = rest.partition(marks[1])
    if not begin or not end:
        raise SystemExit(f"{page}: has no place for the figures: {marks[0].strip()}")
    page.write_text(before + begin + text + end + behind)
