#!/usr/bin/env python3
"""Measures everything anew and writes the figures into docs/performance.md, between its markers.
Needs a build with -DXF_BUILD_BENCH=ON; run it with a Python that has torch for the comparison."""

import argparse
import importlib.util
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- figures of bench/report.py -->\n", "<!-- end of figures -->\n"
LEAST_CLEAN = 3  # samples, for a figure to be printed, as in compare.py
NAME = re.compile(r"(?P<case>.*)/(?P<isa>\w+)/threads:(?P<threads>\d+)/manual_time")


def run_benchmarks(build, seconds):
    """(case, ISA, threads) → counters."""
    output = subprocess.run(
        [build / "bench/bench_ops", "--benchmark_format=json", f"--benchmark_min_time={seconds}"],
        check=True, stdout=subprocess.PIPE).stdout
    figures = {}
    for benchmark in json.loads(output)["benchmarks"]:
        name = NAME.fullmatch(benchmark["name"])
        if not name or benchmark.get("error_occurred"):
            sys.exit(f"bench_ops: {benchmark['name']}: {benchmark.get('error_message')}")
        figures[name["case"], name["isa"], int(name["threads"])] = benchmark
    return figures


def cell(figures, key):
    if not figures:
        return ""
    if figures["clean"] < LEAST_CLEAN:
        return "–"
    return f"{figures[key]:.{0 if figures[key] >= 10 else 1}f}"


def table(figures, prefix, key, corner):
    """Markdown: one line for each case that begins with prefix, one column for each ISA and number
    of threads."""
    cases = list(dict.fromkeys(case for case, _, _ in figures if case.startswith(prefix)))
    columns = list(dict.fromkeys((isa, t) for case, isa, t in figures if case in cases))
    columns.sort(key=lambda column: column[1])
    head = [corner] + [f"{isa}, {t} thread{'s'[:t > 1]}" for isa, t in columns]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for case in cases:
        label = re.sub(r"\w+:", "", case[len(prefix):]).strip("/").replace("/", ", ")
        cells = [cell(figures.get((case, *column)), key) for column in columns]
        lines.append("| " + " | ".join([label] + cells) + " |")
    return "\n".join(lines) + "\n"


def peaks(figures):
    """A line for each ISA: its FMA peak; the bandwidth for each number of threads."""
    fma, read = {}, {}
    for (_, isa, threads), counters in figures.items():
        if counters["clean"] < LEAST_CLEAN:
            continue
        if "peak_GFLOPS" in counters:
            fma.setdefault((isa, threads), []).append(counters["peak_GFLOPS"])
        if "read_GBps" in counters:
            read.setdefault(threads, []).append(counters["read_GBps"])
    lines = [f"- FMA peak, {isa}, {threads} thread{'s'[:threads > 1]}: "
             f"{statistics.median(list_):.0f} GFLOP/s\n"
             for (isa, threads), list_ in sorted(fma.items())]
    lines += [f"- read bandwidth, {threads} thread{'s'[:threads > 1]}: "
              f"{statistics.median(list_):.0f} GB/s\n"
              for threads, list_ in sorted(read.items())]
    return "".join(lines)


def cpu_name():
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name", platform.machine())
    if "cpu family" in fields:
        name += f" (family {fields['cpu family']}, model {fields['model']})"
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs"


def compare_section(build, seconds):
    if importlib.util.find_spec("torch") is None:
        return "Not measured: this Python has no torch.\n"
    sys.path.insert(0, str(ROOT / "bench"))
    sys.dont_write_bytecode = True
    import compare  # pylint: disable=import-outside-toplevel
    output = subprocess.run(
        [sys.executable, ROOT / "bench/compare.py", "--build", build, "--json", "--seconds",
         str(seconds)], check=True, stdout=subprocess.PIPE).stdout
    rows = json.loads(output)
    return (f"torch {rows['torch']}, ours on {rows['prefill'][0]['isa']}.\n\nPrefill, causal:\n\n"
            f"{compare.table(rows['prefill'], False)}\n\nDecode, one query:\n\n"
            f"{compare.table(rows['decode'], True)}\n")


def section(title, body):
    return f"### {title}\n\n{body}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each benchmark")
    parser.add_argument("--compare-seconds", type=float, default=5, help="for each row")
    arguments = parser.parse_args()
    before, rest = PAGE.read_text().split(BEGIN)
    after = rest.split(END)[1]
    figures = run_benchmarks(arguments.build, arguments.seconds)
    text = f"Machine: {cpu_name()}.\n\n{peaks(figures)}\n"
    text += section("Prefill attention, % of FMA peak", table(figures, "prefill/", "pct_peak",
                                                              "seq_len"))
    text += section("Decode attention, % of read bandwidth",
                    table(figures, "decode/", "pct_bandwidth", "kv_len"))
    for rows, key, unit in ((1, "pct_bandwidth", "read bandwidth"), (8, "pct_peak", "FMA peak"),
                            (64, "pct_peak", "FMA peak"), (512, "pct_peak", "FMA peak")):
        part = {name: counters for name, counters in figures.items()
                if name[0].endswith(f"/rows:{rows}")}
        text += section(f"Linear layers, {rows} row{'s'[:rows > 1]}, % of {unit}",
                        table(part, "linear/", key, "weights, n×k, rows"))
    part = {name: counters for name, counters in figures.items() if name[0].endswith("/rows:16")}
    text += section("Elementwise, from and to cache, GB/s", table(part, "", "GBps", "rows"))
    text += section("Beside PyTorch", compare_section(arguments.build, arguments.compare_seconds))
    PAGE.write_text(before + BEGIN + text + END + after)


if __name__ == "__main__":
    main()
