#!/usr/bin/env python3
"""Measures our attention beside PyTorch's scaled_dot_product_attention: one process, samples taken
in turn, causal f32 attention of TinyLlama-1.1B's shape (32 query heads on 4 KV heads, head_dim 64).
Needs torch and a build with -DXF_BUILD_BENCH=ON.

torch's time is that of the fastest of its ways: enable_gqa=True; K and V expanded to 32 heads
beforehand (the expansion is not counted); for decode also the 8 heads of a group as 8 queries.
In decode everything is driven out of the caches before each sample, as a model's other layers do.
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch

Q_HEADS, KV_HEADS, HEAD_DIM = 32, 4, 64
CLEAN_NOPS, CLEAN_WAITED = 0.9, 0.02  # as in measure.c
LEAST_CLEAN = 3  # samples, for a figure to be printed
TOLERANCE = 2e-5
SETTLE_S = 0.005  # torch's threads spin for a while when they are done


def load_ours(build):
    library = ctypes.CDLL(str(Path(build) / "bench/compare/compare_ours.so"))
    library.compare_open.argtypes = [ctypes.c_char_p, ctypes.c_uint] + [ctypes.c_size_t] * 2
    library.compare_isa.restype = ctypes.c_char_p
    for name in ("bind", "write"):
        getattr(library, "compare_" + name).argtypes = [ctypes.c_void_p] * 2
    for name in ("nops", "best_nops", "fma", "read", "waited"):
        getattr(library, "compare_" + name).restype = ctypes.c_double
    return library


def take_sample(ours, run, cold, threads):
    time.sleep(SETTLE_S)
    if cold:
        ours.compare_read(), ours.compare_read()
    fma, nops, waited = ours.compare_fma(), ours.compare_nops(), ours.compare_waited()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    waited = ours.compare_waited() - waited
    if threads == 1:  # known exactly
        seconds, waited = seconds - waited, 0
    else:
        waited /= seconds
    return {"seconds": seconds, "fma": fma, "waited": waited,
            "nops": min(nops, ours.compare_nops())}


def is_clean(ours, sample):
    return (sample["nops"] >= CLEAN_NOPS * ours.compare_best_nops()
            and sample["waited"] <= CLEAN_WAITED)


def summarise(ours, samples, flops):
    """Medians of the clean samples, of all where none is clean."""
    clean = [sample for sample in samples if is_clean(ours, sample)]
    used = clean or samples
    seconds = statistics.median(sample["seconds"] for sample in used)
    fma = statistics.median(sample["fma"] for sample in used)
    return {"ms": seconds * 1e3, "gflops": flops / seconds * 1e-9,
            "pct_peak": 100 * flops / seconds / fma, "clean": len(clean),
            "samples": len(samples)}


def torch_ways(q, k, v, causal):
    """Name → a call that computes the attention; q, k, v as [batch, heads, positions, head_dim]."""
    attention = torch.nn.functional.scaled_dot_product_attention
    group = Q_HEADS // KV_HEADS
    wide_k, wide_v = (x.repeat_interleave(group, 1).contiguous() for x in (k, v))
    ways = {
        "gqa": lambda: attention(q, k, v, is_causal=causal, enable_gqa=True),
        "expanded": lambda: attention(q, wide_k, wide_v, is_causal=causal),
    }
    if q.shape[2] == 1:
        folded = q.reshape(1, KV_HEADS, group, HEAD_DIM)
        ways["folded"] = lambda: attention(folded, k, v)
    return ways


def check(out, expected, name):
    error = (out - expected.reshape(Q_HEADS, -1, HEAD_DIM).transpose(0, 1)).abs().max().item()
    if not error <= TOLERANCE:
        sys.exit(f"{name}: ours and torch differ by {error}")


def compare(ours, arguments, threads, q_len, kv_len):
    """One row of the table."""
    cold = q_len == 1
    if ours.compare_open(arguments.isa.encode(), threads, q_len, kv_len):
        sys.exit(1)
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    q = torch.randn(q_len, Q_HEADS, HEAD_DIM)
    k, v = (torch.randn(kv_len, KV_HEADS, HEAD_DIM) for _ in range(2))
    out = torch.empty_like(q)
    ours.compare_bind(q.data_ptr(), out.data_ptr())
    heads_first = [x.transpose(0, 1).unsqueeze(0).contiguous() for x in (q, k, v)]
    runs = {"torch " + name: run for name, run in torch_ways(*heads_first, not cold).items()}
    runs["write"] = lambda: ours.compare_write(k.data_ptr(), v.data_ptr())
    runs["ours"] = ours.compare_run
    for name, run in runs.items():
        result = run()
        if name.startswith("torch"):
            expected = result
    check(out, expected, f"q_len {q_len}, kv_len {kv_len}")
    samples = {name: [] for name in runs}
    end = time.perf_counter() + arguments.seconds
    while time.perf_counter() < end or len(samples["ours"]) < 5:
        for name, run in runs.items():
            samples[name].append(take_sample(ours, run, cold, threads))
    pairs = q_len * (kv_len - q_len + 1 + kv_len) / 2
    flops = 4 * HEAD_DIM * Q_HEADS * pairs
    row = {name: summarise(ours, list_, flops) for name, list_ in samples.items()}
    row.update(threads=threads, q_len=q_len, kv_len=kv_len, isa=ours.compare_isa().decode())
    ours.compare_close()
    return row


def best_torch(row):
    """Name and figures of torch's fastest way; ways without enough clean samples come last."""
    ways = [(name, figures) for name, figures in row.items() if name.startswith("torch")]
    return min(ways, key=lambda way: (not is_sure(way[1]), way[1]["ms"]))


def is_sure(figures):
    return figures["clean"] >= LEAST_CLEAN


def ratio(torch_, ours, extra_ms=0):
    if not is_sure(torch_) or not is_sure(ours):
        return "–"
    return f"**{torch_['ms'] / (ours['ms'] + extra_ms):.1f}**"


def cell(figures, key, digits):
    return f"{figures[key]:.{digits}f}" if is_sure(figures) else "–"


def table(rows, decode):
    """Markdown."""
    head = ["kv_len" if decode else "seq_len", "threads", "torch, ms", "its way",
            "torch, % of peak", "ours, ms", "ours, % of peak", "torch / ours"]
    head += [] if decode else ["the same, K and V written"]
    head += ["clean samples"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        name, torch_ = best_torch(row)
        ours = row["ours"]
        cells = [str(row["kv_len"]), str(row["threads"]), cell(torch_, "ms", 3),
                 name.removeprefix("torch "), cell(torch_, "pct_peak", 0), cell(ours, "ms", 3),
                 cell(ours, "pct_peak", 0), ratio(torch_, ours)]
        cells += [] if decode else [ratio(torch_, ours, row["write"]["ms"])]
        cells.append(f"{torch_['clean']} and {ours['clean']} of {ours['samples']}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=Path(__file__).parent.parent / "build/release",
                        help="build folder (default: build/release)")
    parser.add_argument("--isa", default="", help="ours: avx512, avx2, … (default: the best)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seq-len", type=int, nargs="*", default=[64, 128, 256, 512, 1024, 2048],
                        help="prefill")
    parser.add_argument("--kv-len", type=int, nargs="*", default=[512, 2048, 8192], help="decode")
    parser.add_argument("--seconds", type=float, default=3, help="of sampling for each row")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    ours = load_ours(arguments.build)
    threads = [t for t in arguments.threads if t <= len(os.sched_getaffinity(0))]
    prefill = [compare(ours, arguments, t, n, n) for n in arguments.seq_len for t in threads]
    decode = [compare(ours, arguments, t, 1, n) for n in arguments.kv_len for t in threads]
    if arguments.json:
        print(json.dumps({"torch": torch.__version__, "prefill": prefill, "decode": decode}))
        return
    print(f"torch {torch.__version__}\n\nPrefill\n\n{table(prefill, False)}")
    print(f"\nDecode\n\n{table(decode, True)}")


if __name__ == "__main__":
    main()
