#!/usr/bin/env python3
"""Makes index.html out of a folder that bench/run measured. --docs also puts the tables into
docs/performance.md, between its markers, and the pictures beside it."""

import argparse
import html
import re
import shutil
import statistics
from pathlib import Path

import figures as measured

DOCS = Path(__file__).resolve().parent.parent / "docs"
MARKS = "<!-- figures of bench/run -->\n", "<!-- end of figures -->\n"
PICTURES = {
    "prefill": "Prefill: throughput over seq_len",
    "decode": "Decode: throughput over kv_len",
    "roofline": "Roofline",
    "standard": "Time and memory of flash and of standard attention",
}
BOLD = re.compile(r"[*]{2}(.*)[*]{2}")
CACHES = (("packed", "f32"), ("packed", "bf16"), ("packed", "i8"), ("plain", "f32"), ("plain", "bf16"),
          ("plain", "f16"), ("plain", "i8"))


def number(value, is_sure=True):
    """Two or three digits, in parentheses where there were too few clean samples."""
    if value is None:
        return ""
    text = f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"
    return text if is_sure else f"({text})"


def entry_cell(entries, key):
    return number(entries[0][key], entries[0]["sure"]) if entries else ""


def table(entries, corner, row_of, key):
    """One line for each value of row_of, one column for each ISA and number of threads."""
    columns = sorted(dict.fromkeys((e["isa"], e["threads"]) for e in entries),
                     key=lambda column: column[1])
    head = [corner] + [f"{isa}, {measured.plural(threads)}" for isa, threads in columns]
    lines = []
    for row in dict.fromkeys(row_of(e) for e in entries):
        cells = [entry_cell([e for e in entries if row_of(e) == row
                             and (e["isa"], e["threads"]) == column], key) for column in columns]
        lines.append([str(row)] + cells)
    return [head] + lines


def peaks(figures):
    lines = []
    for threads in figures.threads:
        for isa in figures.isas:
            rates = [e["peak_GFLOPS"] for e in figures.entries if e["sure"]
                     and (e["isa"], e["threads"]) == (isa, threads)]
            if rates:
                lines.append([f"FMA peak, {isa}, {measured.plural(threads)}",
                              f"{statistics.median(rates):.0f} GFLOP/s"])
        rates = [e["read_GBps"] for e in figures.entries if e["sure"] and e["threads"] == threads]
        if rates:
            lines.append([f"read bandwidth, {measured.plural(threads)}",
                          f"{statistics.median(rates):.0f} GB/s"])
    return [["of this machine", "median"]] + lines


def prefill_sections(figures):
    for head_dim in (64, 128):
        for layout in ("packed", "plain"):
            yield (f"Prefill, % of FMA peak: head_dim {head_dim}, {layout} K and V",
                   table(figures.select("prefill", layout, head_dim=head_dim), "seq_len",
                         lambda e: e["seq_len"], "pct_peak"))


def decode_sections(figures):
    yield ("Decode, one query, packed f32: % of read bandwidth",
           table(figures.select("decode", "packed", queries=1), "kv_len",
                 lambda e: e["kv_len"], "pct_bandwidth"))
    best = figures.isas[0]
    for threads in figures.threads:
        rows = [["kv_len"] + [" ".join(cache) for cache in CACHES]]
        entries = figures.select("decode", queries=1, isa=best, threads=threads)
        for kv_len in dict.fromkeys(e["kv_len"] for e in entries):
            rows.append([str(kv_len)] + [
                entry_cell([e for e in entries if e["kv_len"] == kv_len
                            and e["words"] == list(cache)], "median_us") for cache in CACHES])
        yield f"Decode by kind of cache, {best}, {measured.plural(threads)}: µs", rows
    chunks = [{**e, "limit": max(e["pct_peak"], e["pct_bandwidth"])}
              for e in figures.select("decode", "packed", kv_len=8192)]
    yield ("Chunks of queries on 8,192 keys, packed f32: % of the nearer limit, FMA peak or "
           "read bandwidth", table(chunks, "queries", lambda e: e["queries"], "limit"))


def other_sections(figures):
    for rows, key, unit in ((1, "pct_bandwidth", "read bandwidth"), (8, "pct_peak", "FMA peak"),
                            (64, "pct_peak", "FMA peak"), (512, "pct_peak", "FMA peak")):
        yield (f"Linear layers, {rows} row{'s'[:rows > 1]}, % of {unit}",
               table(figures.select("linear", rows=rows), "weights, n×k",
                     lambda e: ", ".join(e["words"]), key))
    for rows, key, unit in ((1, "pct_bandwidth", "read bandwidth"),
                            (512, "pct_peak", "the peak of 8-bit dot products")):
        yield (f"Linear layers of 8- and 4-bit weights, {rows} row{'s'[:rows > 1]}, % of {unit}",
               table(figures.select("quant", rows=rows), "weights", lambda e: e["words"][0], key))
    yield ("Elementwise, 16 rows, from and to cache, GB/s",
           table(figures.select("elementwise"), "operation", lambda e: e["words"][0], "GBps"))


def standard_section(figures):
    """Where flash and standard attention cross over."""
    best = figures.isas[0]
    rows = [["seq_len"]]
    for threads in figures.threads:
        rows[0] += [f"flash, µs, {measured.plural(threads)}", "standard, µs", "standard / flash"]
    memory = {row["seq_len"]: row for row in (figures.memory or {"lengths": []})["lengths"]}
    rows[0] += ["flash, MB", "standard, MB"]
    for seq_len in dict.fromkeys(e["seq_len"] for e in figures.select("standard")):
        cells = [str(seq_len)]
        for threads in figures.threads:
            which = {"seq_len": seq_len, "isa": best, "threads": threads}
            flash = figures.select("prefill", "packed", head_dim=64, **which)
            standard = figures.select("standard", **which)
            cells += [entry_cell(flash, "median_us"), entry_cell(standard, "median_us")]
            cells.append(number(standard[0]["median_us"] / flash[0]["median_us"],
                                flash[0]["sure"] and standard[0]["sure"])
                         if flash and standard else "")
        row = memory.get(seq_len, {})
        cells += [number(row[key] / 1e6) if row else "" for key in
                  ("flash_bytes", "standard_bytes")]
        rows.append(cells)
    return f"Flash beside standard attention, causal prefill, packed, {best}", rows


def compare_sections(figures):
    """Each library's best way beside ours, interleaved."""
    for kind in ("prefill", "decode", "decode in cache"):
        decode = kind != "prefill"
        ours = ["ours: packed", "ours: f16"] if decode else ["ours: packed"]
        rows = [["kv_len" if decode else "seq_len", "threads"] + [f"{run}, ms" for run in ours]]
        rows[0] += [] if decode else ["% of peak", "K and V written, ms"]
        for name in figures.compare["versions"]:
            rows[0] += [f"{name}, ms", f"{name} / ours"]
        for threads in figures.threads:
            for row, best in figures.compared(kind, threads):
                cells = [str(row["kv_len"]), str(threads)]
                cells += [run_cell(row["runs"][run], "ms") for run in ours]
                if not decode:
                    cells += [run_cell(row["runs"][ours[0]], "pct_peak"),
                              run_cell(row["runs"]["write"], "ms")]
                for run in best.values():
                    cells += [run_cell(run, "ms"), ratio(run, row["runs"][ours[0]])]
                rows.append(cells)
        versions = ", ".join(f"{name} {version}"
                             for name, version in figures.compare["versions"].items())
        yield f"Beside other libraries ({versions}): {kind}, ours on {figures.isas[0]}", rows


def run_cell(run, key):
    return number(run and run[key], run and measured.sure(run))


def ratio(peer, ours):
    if not peer:
        return "too slow to wait for"
    text = f"{peer['ms'] / ours['ms']:.1f}"
    return f"**{text}**" if measured.sure(peer) and measured.sure(ours) else f"({text})"


def sections(figures):
    yield "Peaks", peaks(figures)
    yield from prefill_sections(figures)
    yield from decode_sections(figures)
    yield standard_section(figures)
    if figures.compare and figures.compare["versions"]:
        yield from compare_sections(figures)
    yield from other_sections(figures)


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |\n" for row in rows]
    return "".join([lines[0], "|---" * len(rows[0]) + "|\n", *lines[1:]])


def html_table(rows):
    def line(row, tag):
        cells = (BOLD.sub("<b>\\1</b>", html.escape(cell)) for cell in row)
        return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>\n"
    return f"<table>\n{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>\n"


STYLE = """body { font: 15px/1.4 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
table { border-collapse: collapse; font-size: 13px }
th, td { border: 1px solid #ccc; padding: 2px 8px; text-align: right }
svg { max-width: 100%; height: auto }"""


def write_html(folder, figures):
    """One file with the pictures in it."""
    parts = [f"<!doctype html><html lang='en'><meta charset='utf-8'><title>exactflash: measured"
             f"</title><style>{STYLE}</style>\n<h1>exactflash: measured</h1>\n",
             f"<p>{html.escape(headline(figures))}</p>\n"]
    for name, title in PICTURES.items():
        path = folder / f"{name}.svg"
        if path.exists():
            picture = path.read_text()
            parts.append(f"<h2>{title}</h2>\n{picture[picture.index('<svg'):]}")
    for title, rows in sections(figures):
        if len(rows) > 1:
            parts.append(f"<h2>{html.escape(title)}</h2>\n{html_table(rows)}")
    (folder / "index.html").write_text("".join(parts) + "</html>\n")


def headline(figures):
    machine, left_out = figures.machine, figures.left_out
    text = (f"Machine: {machine['cpu']}. Built with {machine['compiler']}. In parentheses: "
            f"fewer than {measured.LEAST_CLEAN} samples had the CPUs to themselves.")
    if left_out:
        text += f" {len(left_out)} entries were left out, the first of them {left_out[0]}."
    return text


def write_docs(folder, figures):
    text = [headline(figures) + "\n\n"]
    for name, title in PICTURES.items():
        picture = f"{name}.svg"
        if (folder / picture).exists():
            shutil.copy(folder / picture, DOCS / f"measured-{picture}")
            text.append(f"![{title}](measured-{picture})\n\n")
    text += [f"### {title}\n\n{markdown(rows)}\n" for title, rows in sections(figures)
             if len(rows) > 1]
    measured.replace_between(measured.PAGE, MARKS, "".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--docs", action="store_true")
    arguments = parser.parse_args()
    figures = measured.Figures(arguments.folder)
    write_html(arguments.folder, figures)
    if arguments.docs:
        write_docs(arguments.folder, figures)


if __name__ == "__main__":
    main()
