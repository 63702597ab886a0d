#!/usr/bin/env python3
"""Measures our attention beside that of other libraries: one process, samples taken in turn, causal
f32 attention of TinyLlama-1.1B's shape (32 query heads on 4 KV heads, head_dim 64). Needs a build
with -DXF_BUILD_BENCH=ON, numpy, and those of torch, onnxruntime with onnx, and llama-cpp-python that
are to be measured (bench/peers.py says how each is called). Results that differ are an error.

A library's time is that of the fastest of its ways. In decode everything is driven out of the caches
before each sample, as a model's other layers do; "in cache" leaves it there.
"""

import argparse
import ctypes
import json
import os
import statistics
import sys
import time
from pathlib import Path

import numpy
import peers

CLEAN_NOPS, CLEAN_WAITED = 0.9, 0.02  # as in measure.c
LEAST_SAMPLES = 3
SETTLE_S = 0.005  # threads of some libraries spin for a while when they are done
SLOW_WAY = 1.5  # a way that takes so many times as long as the library's best is not sampled
LONG_S = 0.5
TOLERANCE = {"packed": 2e-5, "f16": 5e-3}  # of ours, from the formula in f64


def load_ours(build):
    library = ctypes.CDLL(str(Path(build) / "bench/compare/compare_ours.so"))
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    for name, result, arguments in (
            ("open", ctypes.c_int, [ctypes.c_char_p, ctypes.c_uint]),
            ("isa", ctypes.c_char_p, []),
            ("case", pointer, [size, size, ctypes.c_char_p]),
            ("case_free", None, [pointer]),
            ("bind", None, [pointer] * 3),
            ("write", ctypes.c_int, [pointer] * 3),
            ("run", None, [pointer]),
            ("evict", None, [])):
        function = getattr(library, "compare_" + name)
        function.restype, function.argtypes = result, arguments
    for name in ("nops", "best_nops", "fma", "waited"):
        getattr(library, "compare_" + name).restype = ctypes.c_double
    return library


class Ours:
    """Our attention over one kind of cache. The arrays live as long as the case."""

    def __init__(self, library, problem, cache):
        self.library, self.problem = library, problem
        self.type = numpy.float16 if cache == "f16" else numpy.float32
        self.case = library.compare_case(problem.q_len, problem.kv_len, cache.encode())
        if not self.case:
            sys.exit(f"out of memory for attention over {problem.kv_len} keys")
        self.k, self.v = (numpy.ascontiguousarray(x, self.type) for x in (problem.k, problem.v))
        self.out = numpy.empty_like(problem.q)
        library.compare_bind(self.case, problem.q.ctypes.data, self.out.ctypes.data)
        self.write()

    def write(self):
        if self.library.compare_write(self.case, self.k.ctypes.data, self.v.ctypes.data):
            sys.exit("K and V could not be written into the cache")

    def run(self):
        self.library.compare_run(self.case)
        return self.out


def formula(problem, row):
    """Attention of one query in f64: [heads, head_dim]."""
    seen = problem.kv_len - problem.q_len + row + 1
    q = problem.q[row].reshape(peers.KV_HEADS, peers.GROUP, -1).astype(numpy.float64)
    scores = numpy.einsum("hgd,khd->hgk", q, problem.k[:seen]) * peers.HEAD_DIM ** -0.5
    p = numpy.exp(scores - scores.max(-1, keepdims=True))
    out = numpy.einsum("hgk,khd->hgd", p / p.sum(-1, keepdims=True), problem.v[:seen])
    return out.reshape(peers.Q_HEADS, -1)


def check(name, problem, out, tolerance):
    """Some rows of a result against the formula."""
    for row in sorted({0, problem.q_len // 3, problem.q_len - 1}):
        error = abs(out[row] - formula(problem, row)).max()
        if not error <= tolerance:
            sys.exit(f"{name}: wrong by {error} in row {row} of {problem.q_len} queries on "
                     f"{problem.kv_len} keys")


def take_sample(ours, run, cold, threads):
    time.sleep(SETTLE_S)
    if cold:
        ours.compare_evict()
    fma, nops, waited = ours.compare_fma(), ours.compare_nops(), ours.compare_waited()
    start = time.perf_counter()
    run()
    seconds = time.perf_counter() - start
    waited = ours.compare_waited() - waited
    if threads == 1 and waited < seconds / 2:  # as in measure.c
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


def ways_of(name, peer, problem):
    """A library's ways worth sampling: name → call. All of them are checked first."""
    seconds = {}
    ways = peer.ways(problem)
    for way, run in ways.items():
        start = time.perf_counter()
        out = run()
        seconds[way] = time.perf_counter() - start
        check(f"{name}, {way}", problem, peer.result(problem, out), peer.tolerance)
    if max(seconds.values()) < LONG_S:  # the first run of a short one says little
        for way, run in ways.items():
            start = time.perf_counter()
            run()
            seconds[way] = min(seconds[way], time.perf_counter() - start)
    best = min(seconds.values())
    return {f"{name}: {way}": run for way, run in ways.items() if seconds[way] < SLOW_WAY * best}


class Comparison:
    """All rows of one number of threads."""

    def __init__(self, ours, arguments, threads):
        self.ours, self.arguments, self.threads = ours, arguments, threads
        if ours.compare_open(arguments.isa.encode(), threads):
            sys.exit(1)
        self.peers = {name: peers.PACKAGES[name](threads) for name in arguments.peers}
        self.rates = {name: float("inf") for name in self.peers}  # FLOP/s in the row before

    def row(self, kind, q_len, kv_len):
        problem = peers.Problem(q_len, kv_len)
        caches = {cache: Ours(self.ours, problem, cache)
                  for cache in (["packed"] if q_len > 1 else ["packed", "f16"])}
        runs = {}
        for cache, case in caches.items():
            check(f"ours, {cache}", problem, case.run(), TOLERANCE[cache])
            runs[f"ours: {cache}"] = case.run
        if q_len > 1:
            runs["write"] = caches["packed"].write
        fast = {name: peer for name, peer in self.peers.items()
                if problem.flops / self.rates[name] < self.arguments.longest}
        for name, peer in fast.items():
            runs.update(ways_of(name, peer, problem))
        samples = self.sample(runs, kind == "decode")
        row = {name: summarise(self.ours, list_, problem.flops) for name, list_ in samples.items()}
        for name in fast:
            self.rates[name] = 1e9 * max(figures["gflops"] for run, figures in row.items()
                                         if run.startswith(name))
        for case in caches.values():
            self.ours.compare_case_free(case.case)
        return {"kind": kind, "threads": self.threads, "q_len": q_len, "kv_len": kv_len,
                "isa": self.ours.compare_isa().decode(), "runs": row}

    def sample(self, runs, cold):
        samples = {name: [] for name in runs}
        end = time.perf_counter() + self.arguments.seconds
        for round_ in range(10 ** 9):
            if round_ >= LEAST_SAMPLES and time.perf_counter() >= end:
                return samples
            for name, run in runs.items():
                samples[name].append(take_sample(self.ours, run, cold, self.threads))
        return samples


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=Path(__file__).parent.parent / "build/release",
                        help="build folder (default: build/release)")
    parser.add_argument("--isa", default="", help="ours: avx512, avx2, … (default: the best)")
    parser.add_argument("--peers", nargs="*", choices=list(peers.PACKAGES),
                        help="default: those that are installed")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seq-len", type=int, nargs="*", help="prefill",
                        default=[16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192])
    parser.add_argument("--kv-len", type=int, nargs="*", help="decode",
                        default=[512, 1024, 2048, 4096, 8192, 16384, 32768])
    parser.add_argument("--kv-len-in-cache", type=int, nargs="*", default=[512, 2048, 8192])
    parser.add_argument("--seconds", type=float, default=2, help="of sampling for each row")
    parser.add_argument("--limit", type=float, default=float("inf"),
                        help="seconds after which no row begins")
    parser.add_argument("--longest", type=float, default=4, help="seconds of one sample; a "
                        "library that would take longer is left out of that row")
    arguments = parser.parse_args()
    versions = peers.installed()
    if arguments.peers is None:
        arguments.peers = list(versions)
    return arguments, versions


def main():
    arguments, versions = parse_arguments()
    ours = load_ours(arguments.build)
    # The shortest first, so that a limit of time leaves out the longest.
    problems = [("decode in cache", 1, n) for n in arguments.kv_len_in_cache]
    problems += [("decode", 1, n) for n in arguments.kv_len]
    problems += [("prefill", n, n) for n in arguments.seq_len]
    rows, start = [], time.perf_counter()
    choices = [t for t in arguments.threads if t <= len(os.sched_getaffinity(0))]
    for turn, threads in enumerate(choices, 1):
        end = start + arguments.limit * turn / len(choices)
        comparison = Comparison(ours, arguments, threads)
        for kind, q_len, kv_len in problems:
            late = time.perf_counter() > end
            print(f"{kind}, {kv_len} keys, threads: {threads}{': no time left' if late else ''}",
                  file=sys.stderr, flush=True)
            if not late:
                rows.append(comparison.row(kind, q_len, kv_len))
        ours.compare_close()
    print(json.dumps({"versions": {name: versions[name] for name in arguments.peers},
                      "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
