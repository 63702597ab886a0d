#!/usr/bin/env python3
"""Tokens/s of GGUF files in exactflash and in llama.cpp (llama-cpp-python), prefill and decode.

Both hold the same file in one process and run in turns, on as many threads, so that what the machine
does meanwhile meets both; a ratio is the median of those of neighbouring runs. Each is as it comes:
llama.cpp keeps K and V in f16, exactflash in f32. Timed is the forward pass, the last token's logits
included. Needs numpy, llama-cpp-python (compiled on this machine, so that it uses what the CPU has) and the
Python package exactflash: for a build folder PYTHONPATH=python EXACTFLASH_LIBRARY=BUILD/libexactflash.so.
"""

import argparse
import ctypes
import itertools
import json
import statistics
import time
from pathlib import Path

import llama_cpp
import numpy as np

import exactflash
import figures

MARKS = "<!-- bench/llama.py -->\n", "<!-- end of bench/llama.py -->\n"
DEMO = figures.PAGE.parent.parent / "demo-model"
# TinyLlama-1.1B, but for the vocabulary: that of the demo model, whose tokenizer the file gets.
TINYLLAMA = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "head_dim": 64,
             "num_attention_heads": 32, "num_key_value_heads": 4, "max_position_embeddings": 2048}


@llama_cpp.llama_log_callback
def silent(*_):
    """llama.cpp's log, which is long."""


class LlamaCpp:
    """`sequences` caches of `slots` positions."""

    def __init__(self, path, slots, sequences, threads):
        self.model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_seq_max = sequences
        options.n_ctx = options.n_batch = slots * sequences
        options.n_threads = options.n_threads_batch = threads
        self.context = self.model and llama_cpp.llama_init_from_model(self.model, options)
        if not self.context:
            raise SystemExit(f"llama.cpp cannot open {path}")
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.sequences, self.batch = sequences, llama_cpp.llama_batch_init(slots * sequences, 0, 1)

    def close(self):
        llama_cpp.llama_batch_free(self.batch)
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def forward(self, ids, first):
        """The same ids behind `first` positions in each sequence; the last token's logits."""
        batch, batch.n_tokens = self.batch, len(ids) * self.sequences
        for at in range(batch.n_tokens):
            sequence, i = divmod(at, len(ids))
            batch.token[at], batch.pos[at], batch.logits[at] = ids[i], first + i, i == len(ids) - 1
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
        code = llama_cpp.llama_decode(self.context, batch)
        llama_cpp.llama_synchronize(self.context)
        if code:
            raise SystemExit(f"llama_decode failed with {code}")
        return llama_cpp.llama_get_logits_ith(self.context, -1)

    def truncate(self, length):
        for sequence in range(self.sequences):
            llama_cpp.llama_memory_seq_rm(self.memory, sequence, length, -1)


class Ours:
    def __init__(self, path, slots, sequences, threads, fast):
        context = exactflash.Context(threads=threads, fast=fast)
        self.model = exactflash.build_model(path, slots, context=context)
        self.caches = [self.model.new_cache() for _ in range(sequences)]

    def close(self):
        """Nothing outlives the last reference."""

    def forward(self, ids, _):
        return self.model([ids] * len(self.caches), cache=self.caches, logits="last")[-1]

    def truncate(self, length):
        for cache in self.caches:
            cache.truncate(length)


def expect_same_model(ours, theirs, ids):
    """Types of weights and of caches round otherwise: the logits are near, no more."""
    a = np.asarray(ours.forward(ids, 0)).ravel()
    b = np.ctypeslib.as_array(ctypes.cast(theirs.forward(ids, 0), ctypes.POINTER(ctypes.c_float)), a.shape)
    alike = np.corrcoef(a, b)[0, 1]
    if not alike > 0.98:
        raise SystemExit(f"the logits differ: their correlation is {alike:.4f}")


def tokens_per_second(engine, ids, first, limit):
    """Of ids behind `first` positions, again and again, in each sequence."""
    count, begin = 0, time.perf_counter()
    while not count or time.perf_counter() - begin < limit:
        engine.truncate(first)
        engine.forward(ids, first)
        count += 1
    return count * len(ids) / (time.perf_counter() - begin)


def race(engines, n, first, options):
    """(tokens/s of ours, of theirs, ratio) of n tokens behind `first`."""
    ids = (np.arange(first + n) % 97 + 300).tolist()
    for engine in engines:
        engine.truncate(0)
        if first:
            engine.forward(ids[:first], 0)
        tokens_per_second(engine, ids[first:], first, 0)
    speeds = [[tokens_per_second(engine, ids[first:], first, options.seconds) for engine in engines]
              for _ in range(options.rounds)]
    medians = [statistics.median(column) for column in zip(*speeds)]
    return *medians, statistics.median(mine / other for mine, other in speeds)


def cases(options):
    """(what, sequences, tokens, positions before them)."""
    if options.quick:
        return [("prefill 16", 1, 16, 0), ("decode behind 32", 1, 1, 32),
                ("decode behind 32, 2 sequences, each", 2, 1, 32)]
    prefills = (512, 2048) if options.full else (512,)
    return [(f"prefill {n:,}", 1, n, 0) for n in prefills] + [
        (f"decode behind {first:,}", 1, 1, first) for first in (32, 1024)] + [
        (f"decode behind 32, {sequences} sequences, each", sequences, 1, 32) for sequences in (8, 32)]


def rows(path, options):
    """Rows of the table, for one file."""
    for sequences, group in itertools.groupby(cases(options), lambda case: case[1]):
        group = list(group)
        slots = max(n + first for _, _, n, first in group)
        engines = [Ours(path, slots, sequences, options.threads, options.fast),
                   LlamaCpp(path, slots, sequences, options.threads)]
        expect_same_model(*engines, list(range(300, 316)))
        for what, _, n, first in group:
            mine, other, ratio = race(engines, n, first, options)
            line = f"| {path.stem} | {what} | {mine:,.1f} | {other:,.1f} | {ratio:.2f} |"
            print(line, flush=True)
            yield line
        for engine in engines:
            engine.close()


def tinyllama_tensors():
    """(name, shape) of each of its matrices and norms."""
    width, inner = TINYLLAMA["hidden_size"], TINYLLAMA["intermediate_size"]
    kv = TINYLLAMA["num_key_value_heads"] * TINYLLAMA["head_dim"]
    vocab = json.loads((DEMO / "config.json").read_text())["vocab_size"]
    yield "model.embed_tokens", (vocab, width)
    yield "model.norm", (width,)
    for i in range(TINYLLAMA["num_hidden_layers"]):
        for name, shape in {"input_layernorm": (width,), "post_attention_layernorm": (width,),
                            "self_attn.q_proj": (width, width), "self_attn.k_proj": (kv, width),
                            "self_attn.v_proj": (kv, width), "self_attn.o_proj": (width, width),
                            "mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width),
                            "mlp.down_proj": (width, inner)}.items():
            yield f"model.layers.{i}.{name}", shape


def write_tinyllama(folder):
    """A random checkpoint of bf16, for `exactflash convert`."""
    folder.mkdir(parents=True)
    config = json.loads((DEMO / "config.json").read_text()) | TINYLLAMA | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.model").write_bytes((DEMO / "tokenizer.model").read_bytes())
    tensors, header, at = dict(tinyllama_tensors()), {}, 0
    for name, shape in tensors.items():
        end = at + 2 * int(np.prod(shape))
        header[f"{name}.weight"] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    random = np.random.default_rng(1)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            values = random.standard_normal(shape, np.float32) * 0.02 + (len(shape) == 1)
            file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="*", help="GGUF files")
    parser.add_argument("--tinyllama", type=Path, metavar="FOLDER",
                        help="first write a random checkpoint of TinyLlama-1.1B's shape into a new folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each in a round, at least")
    parser.add_argument("--quick", action="store_true", help="short runs: does it work?")
    parser.add_argument("--full", action="store_true", help="also prefill of 2,048 tokens")
    parser.add_argument("--fast", action="store_true",
                        help="exactflash in its fast mode: bf16 weights by activations rounded to bf16")
    parser.add_argument("--docs", action="store_true", help="replace the table in docs/performance.md")
    options = parser.parse_args()
    if not options.models and not options.tinyllama:
        parser.error("say which models")
    if options.tinyllama:
        write_tinyllama(options.tinyllama)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p())
    if options.quick:
        options.rounds, options.seconds = 1, 0
    lines = ["| file | | exactflash | llama.cpp | ratio |", "|---|---|---|---|---|"]
    print("\n".join(lines))
    for path in options.models:
        lines += rows(path, options)
    lines += ["", f"Tokens/s; {figures.cpu_name()}, {figures.plural(options.threads)}, "
              f"{exactflash.default_context().isa}, llama-cpp-python {llama_cpp.__version__}."]
    print("\n".join(lines[-2:]))
    if options.docs:
        figures.replace_between(figures.PAGE, MARKS, "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
