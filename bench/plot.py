#!/usr/bin/env python3
"""Draws what bench/run measured, as SVG into the same folder: prefill.svg and decode.svg
(throughput over length, of each ISA and library), roofline.svg, standard.svg (time and memory of
flash beside standard attention). Needs matplotlib. Hollow points had too few clean samples."""

import argparse
import statistics
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # pylint: disable=wrong-import-position
import figures as measured  # pylint: disable=wrong-import-position

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "exactflash", "font.size": 9,
         "axes.grid": True, "grid.alpha": 0.4, "axes.spines.top": False,
         "axes.spines.right": False, "legend.frameon": False}
COLOURS = dict(zip(("avx512", "avx2", "neon", "scalar", "torch", "onnxruntime",
                    "llama-cpp-python"),
                   ("#0b5cad", "#3f9bdc", "#0b5cad", "#999999", "#d95f02", "#1b9e77", "#7570b3")))


def line(axes, points, label, colour, style="-"):
    """points: (x, y, sure)."""
    points = sorted(points)
    if not points:
        return
    axes.plot([p[0] for p in points], [p[1] for p in points], style, color=colour, label=label,
              linewidth=1.5)
    for x, y, is_sure in points:
        axes.plot(x, y, "o", color=colour, markersize=4,
                  markerfacecolor=colour if is_sure else "white")


def lengths(axes, name, values):
    axes.set_xscale("log", base=2)
    axes.set_xticks(sorted(set(values)))
    axes.set_xticklabels([f"{n:,}" for n in sorted(set(values))], rotation=45)
    axes.set_xlabel(name)


def panels(figures, title, count=None):
    """A picture with a panel for each number of threads (or so many)."""
    count = count or len(figures.threads)
    picture, axes = plt.subplots(1, count, figsize=(4.6 * count, 4), squeeze=False)
    picture.suptitle(f"{title}\n{figures.machine['cpu']}", fontsize=10)
    picture.subplots_adjust(top=0.82, wspace=0.25)
    return picture, axes[0]


def legend(all_axes):
    """One for all panels, right of them."""
    handles = {}
    for axes in all_axes:
        for handle, label in zip(*axes.get_legend_handles_labels()):
            handles.setdefault(label, handle)
    all_axes[-1].legend(handles.values(), handles.keys(), loc="center left",
                        bbox_to_anchor=(1, 0.5))


def peers(axes, figures, kind, threads):
    """Lines of the other libraries, in GFLOP/s."""
    libraries = {}
    for row, best in figures.compared(kind, threads):
        for name, run in best.items():
            if run:
                point = (row["kv_len"], run["gflops"], measured.sure(run))
                libraries.setdefault(name, []).append(point)
    for name, points in libraries.items():
        line(axes, points, name, COLOURS[name])


def draw_throughput(figures, op, title, x, kind, **fields):
    """Of packed f32, and dashed of plain f32."""
    if not figures.select(op):
        return None
    picture, all_axes = panels(figures, title)
    for axes, threads in zip(all_axes, figures.threads):
        for isa in figures.isas:
            for layout, style in (("packed", "-"), ("plain", "--")):
                chosen = figures.select(op, layout, "f32", isa=isa, threads=threads, **fields)
                line(axes, [(e[x], e["GFLOPS"], e["sure"]) for e in chosen], f"{isa}, {layout}",
                     COLOURS[isa], style)
            peak = [e["peak_GFLOPS"] for e in figures.select(op, isa=isa, threads=threads)]
            if peak and op == "prefill":
                axes.axhline(statistics.median(peak), color=COLOURS[isa], linewidth=0.8,
                             linestyle=":", label=f"{isa}, FMA peak")
        peers(axes, figures, kind, threads)
        lengths(axes, x, [e[x] for e in figures.select(op, **fields)])
        axes.set_title(measured.plural(threads), fontsize=9)
        axes.set_ylim(bottom=0)
        axes.set_ylabel("GFLOP/s")
    legend(all_axes)
    return picture


def draw_roofline(figures):
    """One thread: each operation at its operations per byte of data."""
    entries = [e for e in figures.entries if e["threads"] == 1 and e["op"] != "elementwise"
               and e["isa"] != "scalar" and "f32" in e["words"] and "plain" not in e["words"]]
    if not entries:
        return None
    picture, (axes,) = panels(figures, "Roofline, 1 thread, f32", 1)
    markers = {"prefill": "o", "standard": "x", "decode": "s", "linear": "^"}
    read = statistics.median(e["read_GBps"] for e in entries)
    span = [min(e["flops_per_byte"] for e in entries) / 2,
            max(e["flops_per_byte"] for e in entries) * 2]
    for isa in [isa for isa in figures.isas if isa != "scalar"]:
        peak = statistics.median(e["peak_GFLOPS"] for e in entries if e["isa"] == isa)
        axes.plot([span[0], peak / read, span[1]], [span[0] * read, peak, peak],
                  color=COLOURS[isa], label=f"{isa}: {peak:.0f} GFLOP/s, {read:.0f} GB/s")
        for op, marker in markers.items():
            chosen = [e for e in entries if (e["isa"], e["op"]) == (isa, op)]
            axes.scatter([e["flops_per_byte"] for e in chosen], [e["GFLOPS"] for e in chosen],
                         s=18, marker=marker, color=COLOURS[isa], label=f"{isa}, {op}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("operations per byte of inputs and outputs")
    axes.set_ylabel("GFLOP/s")
    legend([axes])
    return picture


def draw_standard(figures):
    """Time of standard in that of flash, and the memory of both."""
    if not figures.select("standard") or not figures.memory:
        return None
    picture, (time, memory) = panels(figures, "Flash beside standard attention", 2)
    for isa in [isa for isa in figures.isas if isa != "scalar"]:
        for threads, style in zip(figures.threads, ("-", "--")):
            flash = {e["seq_len"]: e for e in figures.select(
                "prefill", "packed", head_dim=64, isa=isa, threads=threads)}
            standard = figures.select("standard", isa=isa, threads=threads)
            points = [(e["seq_len"], e["median_us"] / flash[e["seq_len"]]["median_us"],
                       e["sure"] and flash[e["seq_len"]]["sure"])
                      for e in standard if e["seq_len"] in flash]
            line(time, points, f"{isa}, {measured.plural(threads)}", COLOURS[isa], style)
    time.axhline(1, color="black", linewidth=0.8)
    time.set_ylabel("time of standard / time of flash")
    time.legend()
    lengths(time, "seq_len", [e["seq_len"] for e in figures.select("standard")])
    rows = figures.memory["lengths"]
    for key, colour in (("flash_bytes", COLOURS["avx512"]), ("standard_bytes", COLOURS["torch"])):
        line(memory, [(row["seq_len"], row[key] / 1e6, True) for row in rows],
             key.removesuffix("_bytes"), colour)
    memory.set_yscale("log")
    memory.set_ylabel("working memory, MB")
    memory.legend()
    lengths(memory, "seq_len", [row["seq_len"] for row in rows])
    return picture


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    figures = measured.Figures(folder)
    matplotlib.rcParams.update(STYLE)
    pictures = {
        "prefill": draw_throughput(figures, "prefill", "Causal prefill, head_dim 64", "seq_len",
                                   "prefill", head_dim=64),
        "decode": draw_throughput(figures, "decode", "Decode, one query, f32 in memory", "kv_len",
                                  "decode", queries=1),
        "roofline": draw_roofline(figures),
        "standard": draw_standard(figures),
    }
    for name, picture in pictures.items():
        if picture:
            picture.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
