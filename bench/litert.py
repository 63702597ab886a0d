"""Speed of a Llama in LiteRT with XNNPACK's attention, in LiteRT with our delegate, and in exactflash.

bench/litert calls it. For each cache length a .tflite file is written from the checkpoint; all three run
that file, in turns, so that a machine's moods meet all alike. Timed is the computation alone: of LiteRT a
signature's Invoke, without Python's copies of caches.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter, load_delegate

import exactflash
import figures

MARKS = "<!-- bench/litert -->\n", "<!-- end of bench/litert -->\n"
ENGINES = ("LiteRT, XNNPACK", "LiteRT, delegate", "exactflash")


class LiteRt:
    """One signature of a file."""

    def __init__(self, path, name, options, delegate):
        delegates = [load_delegate(options.delegate)] if delegate else None
        self.interpreter = Interpreter(
            str(path), experimental_delegates=delegates, num_threads=options.threads
        )
        self.runner = self.interpreter.get_signature_runner(name)

    def prepare(self, tokens, first, caches):
        positions = np.arange(first, first + len(tokens), dtype=np.int32)
        inputs = {"tokens": np.array([tokens], np.int32), "input_pos": positions, **caches}
        self.runner(**inputs)
        return self.run

    def run(self):
        self.runner._interpreter_wrapper.Invoke(self.runner._subgraph_index)


class Ours:
    def __init__(self, path, slots, options):
        context = exactflash.Context(threads=options.threads)
        self.model = exactflash.build_model(path, slots, context=context)

    def prepare(self, tokens, first, caches, logits):
        cache = self.model.new_cache()
        layers = range(self.model.config.layers)
        k, v = ([caches[f"kv_cache_{x}_{i}"][0] for i in layers] for x in "kv")
        cache.import_kv(np.stack(k), np.stack(v), first)
        tokens = np.array(tokens, np.int32)

        def run():
            self.model(tokens, cache=cache, logits=logits)
            cache.truncate(first)

        run()
        return run


def random_caches(path):
    """Values like those that a model stores."""
    runner = Interpreter(str(path)).get_signature_runner("decode")
    rng = np.random.default_rng(1)
    return {
        name: rng.standard_normal(detail["shape"], np.float32)
        for name, detail in runner.get_input_details().items()
        if name.startswith("kv_cache")
    }


def measure(path, slots, n, first, options, caches):
    """Tokens/s of each engine in each round, for n tokens behind `first` others."""
    name = "decode" if n == 1 else f"prefill_{n}"
    tokens = (np.arange(n) % 97 + 3).tolist()
    runs = [LiteRt(path, name, options, delegate).prepare(tokens, first, caches) for delegate in (0, 1)]
    runs.append(Ours(path, slots, options).prepare(tokens, first, caches, "last" if n == 1 else "none"))
    speeds = [[] for _ in ENGINES]
    for _ in range(options.rounds):
        for run, speed in zip(runs, speeds, strict=True):
            times, start = 0, time.perf_counter()
            while times == 0 or time.perf_counter() - start < options.seconds:
                run()
                times += 1
            speed.append(times * n / (time.perf_counter() - start))
    return speeds


def convert(slots, prefills, options):
    path = options.out / f"bench_{options.quantize}_{slots}.tflite"
    command = [sys.executable, "-m", "exactflash.convert_to_tflite", "--checkpoint_path", options.checkpoint]
    command += ["--output_path", str(path), "--kv_cache_max_len", str(slots), "--quantize", options.quantize]
    command += ["--prefill_seq_lens", ",".join(map(str, prefills)), "--use_flash_attention", "--force"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="a Hugging Face folder or a GGUF file")
    parser.add_argument("--delegate", required=True, help="libexactflash_litert.so")
    parser.add_argument("--out", type=Path, required=True, help="a folder for the files, and figures.json")
    parser.add_argument("--quantize", default="none", choices=["none", "fp16", "dynamic_int8"])
    parser.add_argument("--slots", type=int, nargs="+", default=[256, 4096])
    parser.add_argument("--prefill", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each engine in a round, at least")
    parser.add_argument("--docs", action="store_true", help="replace the table in docs/performance.md")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    cases = []
    lines = ["| slots | run | " + " | ".join(ENGINES) + " |", "|---|---|" + "---|" * len(ENGINES)]
    print("\n".join(lines))
    for slots in options.slots:
        prefills = [n for n in options.prefill if n <= slots]
        path = convert(slots, prefills, options)
        caches = random_caches(path)
        # Behind one token: an empty cache of exactflash has no memory, and would get new pages in every run.
        runs = [(n, min(1, slots - n)) for n in prefills]
        runs += [(1, first) for first in sorted({min(64, slots) - 1, slots - 1})]
        for n, first in runs:
            speeds = measure(path, slots, n, first, options, caches)
            what = f"prefill {n}" if n > 1 else f"decode, {first + 1} in use"
            medians = [statistics.median(speed) for speed in speeds]
            lines.append(f"| {slots} | {what} | " + " | ".join(f"{x:.4g}" for x in medians) + " |")
            print(lines[-1], flush=True)
            cases.append({"slots": slots, "tokens": n, "first": first, "tokens_per_second": speeds})
    (options.out / "figures.json").write_text(json.dumps({"engines": ENGINES, "cases": cases}, indent=1))
    if options.docs:
        name = Path(options.checkpoint).resolve().name
        lines += ["", f"Tokens/s; {name}, {figures.cpu_name()}, {figures.plural(options.threads)}."]
        figures.replace_between(figures.PAGE, MARKS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
