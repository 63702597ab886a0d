#!/usr/bin/env python3
"""Times the attention of transformers, attn_implementation="exactflash", against "sdpa" (PyTorch's
scaled_dot_product_attention): a layer's call and a whole model's generation. Needs the Python package
exactflash, torch and transformers; `--docs` replaces the table in docs/performance.md.

Both run in turn, in one process and on the same tensors, so that what the machine does meanwhile
meets both. A speed-up is the median of the ratios of neighbouring runs.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import transformers

import exactflash
import exactflash.transformers
import figures

ROOT = Path(__file__).resolve().parent.parent
MARKS = "<!-- bench/sdpa.py -->\n", "<!-- end of bench/sdpa.py -->\n"
LENGTHS = (16, 64, 256, 1024, 2048, 4096)
HEADS = {"32 heads, 4 KV heads": (32, 4), "16 heads, 16 KV heads": (16, 16)}


def layer(implementation, q, k, v):
    """The call that a model's attention layer makes."""
    forward = transformers.AttentionInterface()[implementation]
    module = torch.nn.Module()
    module.is_causal, module.num_key_value_groups = True, q.shape[1] // k.shape[1]
    return lambda: forward(module, q, k, v, None, scaling=q.shape[3] ** -0.5)[0]


def seconds(function, count):
    begin = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - begin) / count


def race(ours, theirs, limit, rounds_max=400):
    """(seconds of ours, of theirs, speed-up): medians of runs in turn for `limit` seconds."""
    count = max(1, int(0.002 / max(seconds(ours, 2), seconds(theirs, 2))))
    times, end = [], time.perf_counter() + limit
    while len(times) < 5 or (time.perf_counter() < end and len(times) < rounds_max):
        times.append((seconds(ours, count), seconds(theirs, count)))
    mine, other = zip(*times)
    ratio = statistics.median(b / a for a, b in times)
    return statistics.median(mine), statistics.median(other), ratio


def attention_rows(limit, lengths):
    """Rows of the table: prefill and decode of every length, for both kinds of heads."""
    for name, (heads, kv_heads) in HEADS.items():
        for length in lengths:
            cells = []
            for rows in (length, 1):
                q = torch.randn(1, heads, rows, 64)
                # As a cache holds them: [batch, heads, sequence, dim], one behind the other.
                k, v = torch.randn(1, kv_heads, length, 64), torch.randn(1, kv_heads, length, 64)
                ours, theirs = layer("exactflash", q, k, v), layer("sdpa", q, k, v)
                torch.testing.assert_close(ours(), theirs(), rtol=1e-4, atol=1e-5)
                cells += race(ours, theirs, limit)
            yield name, length, cells


def microseconds(value):
    return f"{value * 1e6:,.0f}"


def attention_table(limit, threads, lengths):
    lines = [
        f"Attention of one layer, head_dim 64, f32, batch 1, {threads} thread{'s' if threads > 1 else ''}, µs:",
        "",
        "| | keys | prefill: ours | sdpa | speed-up | decode: ours | sdpa | speed-up |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, length, cells in attention_rows(limit, lengths):
        prefill, decode = cells[:3], cells[3:]
        numbers = " | ".join(
            f"{microseconds(a)} | {microseconds(b)} | {ratio:.2f}" for a, b, ratio in (prefill, decode)
        )
        lines.append(f"| {name} | {length:,} | {numbers} |")
        print(lines[-1], flush=True)
    return lines


def generate(model, implementation, ids, count):
    model.set_attn_implementation(implementation)
    options = {"max_new_tokens": count, "min_new_tokens": count, "do_sample": False}
    begin = time.perf_counter()
    model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=2, **options)
    return time.perf_counter() - begin


def generation_table(threads, prompts, rounds):
    """Whole generation of the demo model in transformers. One model for both: copies of the weights
    differ by one or two percent in speed, by where they lie."""
    model = transformers.AutoModelForCausalLM.from_pretrained(ROOT / "demo-model", dtype=torch.float32).eval()
    lines = [
        f"The demo model in transformers, 32 tokens behind a prompt, {threads} "
        f"thread{'s' if threads > 1 else ''}, seconds:",
        "",
        "| prompt | exactflash | sdpa | speed-up |",
        "|---|---|---|---|",
    ]
    for length in prompts:
        ids = torch.arange(length)[None] % 4000 + 5
        names, times = ["exactflash", "sdpa"], []
        for _ in range(rounds + 1):
            times.append({name: generate(model, name, ids, 32) for name in names})
            names.reverse()
        mine, other = (statistics.median(pair[name] for pair in times[1:]) for name in ("exactflash", "sdpa"))
        ratio = statistics.median(pair["sdpa"] / pair["exactflash"] for pair in times[1:])
        lines.append(f"| {length:,} | {mine:.2f} | {other:.2f} | {ratio:.2f} |")
        print(lines[-1], flush=True)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each cell (default 2)")
    parser.add_argument("--quick", action="store_true", help="a few cells for a moment: does it work?")
    parser.add_argument("--docs", action="store_true", help="replace the table in docs/performance.md")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    exactflash.transformers.register()
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    exactflash.set_default_context(exactflash.Context(threads=arguments.threads))
    limit = 0.05 if arguments.quick else arguments.seconds
    with torch.inference_mode():
        lines = attention_table(limit, arguments.threads, LENGTHS[:2] if arguments.quick else LENGTHS)
        prompts, rounds = ((16,), 1) if arguments.quick else ((16, 512, 1500), 20)
        lines += ["", *generation_table(arguments.threads, prompts, rounds)]
    context = exactflash.default_context()
    lines += ["", f"{context.isa}, torch {torch.__version__}, transformers {transformers.__version__}."]
    if arguments.docs:
        figures.replace_between(figures.PAGE, MARKS, "\n".join(lines) + "\n")
    else:
        print("\n".join(lines))


if __name__ == "__main__":
    main()
