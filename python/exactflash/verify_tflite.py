"""Compares a .tflite file, as LiteRT runs it, with the checkpoint that it was made from, as exactflash runs that.

Compared are the caches and, where they are there, the logits of every prefill signature, the logits of every
decode step, and a decode into the last slots of the cache. One PASS or FAIL line for each; the exit code is 0 if
all passed.

    python -m exactflash.verify_tflite --tflite_path tiny_llama.tflite --checkpoint_path TinyLlama
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from exactflash import Model, build_model
from exactflash._errors import Error, ShapeError, UnsupportedError
from exactflash._generate import has_tokenizer
from exactflash._tflite_reader import PREFILL, Caches, TfliteModel
from exactflash._verify import some_ids, text_of

PROMPTS = ("Once upon a time", "The capital of France is", "def add(a, b):\n    return")
LAST_SLOTS = 3

# Greatest difference by the type of the weights; or a share of the standard deviation of what is compared.
ATOL = 5e-4
SHARES = {"fp16": 0.02, "int8": 0.5}


@dataclass
class Report:
    """The lines that were printed, and the greatest share of an allowed difference that was used up."""

    weights: str
    atol: float | None
    failures: int = 0
    lines: int = 0
    worst: dict[str, float] = field(default_factory=dict)

    def allowed(self, want: Any) -> float:
        if self.atol is not None:
            return self.atol
        return SHARES[self.weights] * float(want.std()) if self.weights in SHARES else ATOL

    def compare(self, what: str, got: Any, want: Any) -> bool:
        """NaN and infinity fail too."""
        difference, allowed = float(np.abs(got - want).max()), self.allowed(want)
        kind = what.split()[-1]
        self.worst[kind] = max(self.worst.get(kind, 0.0), difference)
        return self.line(
            what, difference <= allowed, f"differ by {difference:.2e} at most, allowed {allowed:.2e}"
        )

    def line(self, what: str, good: bool, text: str) -> bool:
        self.lines += 1
        self.failures += not good
        print(f"{'PASS' if good else 'FAIL'} {what}: {text}", flush=True)
        return good


def check_shapes(tflite: TfliteModel, model: Model) -> None:
    """The file's caches are those of the checkpoint."""
    config = model.config
    if (tflite.layers, tflite.cache_shape[2:]) != (config.layers, (config.kv_heads, config.head_dim)):
        raise ShapeError(
            f"{tflite.path}: has caches of {tflite.layers} layers, [1, kv, {tflite.cache_shape[2]}, "
            f"{tflite.cache_shape[3]}], but the checkpoint has {config.layers} layers, {config.kv_heads} KV "
            f"heads, head_dim {config.head_dim}"
        )
    if tflite.vocab_size != config.vocab_size:
        raise ShapeError(
            f"{tflite.path}: has {tflite.vocab_size} logits, the checkpoint {config.vocab_size}"
        )


def stack(caches: Caches, layers: int, n: int) -> tuple[Any, Any]:
    """(k, v), [layers, n, kv_heads, head_dim]: the first n slots."""
    k, v = (np.stack([caches[f"kv_cache_{x}_{i}"][0, :n] for i in range(layers)]) for x in "kv")
    return k, v


def check_prefill(
    report: Report, tflite: TfliteModel, model: Model, name: str, ids: list[int], what: str
) -> Caches:
    cache = model.new_cache(len(ids))
    want = model(ids, cache=cache, logits="all" if tflite.has_logits(name) else "none")
    caches, logits = tflite.prefill(name, ids)
    k, v = stack(caches, tflite.layers, len(ids))
    want_k, want_v = cache.export_kv()
    report.compare(f"{name} {what}: K caches", k, want_k)
    report.compare(f"{name} {what}: V caches", v, want_v)
    if logits is not None:
        report.compare(f"{name} {what}: logits", logits[0, : len(ids)], want)
    return caches


def check_decode(
    report: Report, tflite: TfliteModel, model: Model, ids: list[int], caches: Caches, steps: int
) -> None:
    """Token by token behind ids, whose last token is the first step. caches: those of all but it."""
    cache = model.new_cache(len(ids) + steps)
    if len(ids) > 1:
        model(ids[:-1], cache=cache, logits="none")
    token, got, want, same = ids[-1], [], [], []
    for _ in range(steps):
        caches, logits = tflite.decode(token, len(cache), caches)
        got.append(logits[0, 0])
        want.append(model([token], cache=cache, logits="last")[0])
        token = int(want[-1].argmax())
        same.append((token, int(got[-1].argmax())))
    what = f"decode of {steps} tokens from position {len(ids) - 1}"
    report.compare(f"{what}: logits", np.stack(got), np.stack(want))
    show_text(model, same)


def show_text(model: Model, tokens: list[tuple[int, int]]) -> None:
    """What the likeliest tokens say. They may differ where two logits are closer than what is allowed."""
    ours, theirs = ([pair[i] for pair in tokens] for i in (0, 1))
    differing = sum(a != b for a, b in tokens)

    print(f"     text: {text_of(model, ours)!r}")
    if differing:
        print(
            f"     LiteRT's likeliest token differs in {differing} of {len(tokens)} steps: {text_of(model, theirs)!r}"
        )


def check_last_slots(report: Report, tflite: TfliteModel, model: Model) -> None:
    """Decode into the last slots of a cache that exactflash has filled: the last one sees all keys."""
    capacity = tflite.cache_shape[1]
    steps = min(LAST_SLOTS, capacity - 1)
    ids, cache = some_ids(capacity, model.config.vocab_size), model.new_cache(capacity)
    if steps < capacity:
        model(ids[: capacity - steps], cache=cache, logits="none")
    caches = tflite.caches_of(*cache.export_kv(capacity))
    for position in range(capacity - steps, capacity):
        caches, logits = tflite.decode(ids[position], position, caches)
        want = model([ids[position]], cache=cache, logits="last")
        report.compare(f"decode into slot {position} of {capacity}: logits", logits[0], want)
    k, v = stack(caches, tflite.layers, capacity)
    want_k, want_v = cache.export_kv()
    report.compare("full cache: K caches", k, want_k)
    report.compare("full cache: V caches", v, want_v)


def prompts_of(model: Model, given: Sequence[str] | None) -> list[tuple[str, list[int]]]:
    """(name, ids). Without a tokenizer: ids without a meaning."""
    if not given and not has_tokenizer(model):
        print(f"     {model.path} has no tokenizer: sequences of ids are compared")
        return [(f"of {n} ids", some_ids(n, model.config.vocab_size)) for n in (3, 12, 40)]
    return [(f"of {text!r}", model.tokenizer.encode(text)) for text in given or PROMPTS]


def check_prompt(
    report: Report, tflite: TfliteModel, model: Model, name: str, ids: list[int], steps: int
) -> None:
    capacity = tflite.cache_shape[1]
    fitting = [n for n in tflite.prefill_lengths if n >= len(ids)]
    for n in fitting:
        check_prefill(report, tflite, model, f"{PREFILL}{n}", ids, name)
    count = min(steps, capacity - len(ids) + 1)
    if count < 1:
        print(
            f"     the prompt {name} has {len(ids)} tokens, more than the cache's {capacity} slots: left out"
        )
        return
    caches = tflite.empty_caches()
    if len(ids) > 1:
        caches = tflite.run(ids[:-1], caches)
    check_decode(report, tflite, model, ids, caches, count)


def verify(
    report: Report, tflite: TfliteModel, model: Model, given: Sequence[str] | None, steps: int
) -> None:
    """Everything, to standard output."""
    for name, ids in prompts_of(model, given):
        check_prompt(report, tflite, model, name, ids, steps)
    for n in tflite.prefill_lengths:
        check_prefill(
            report, tflite, model, f"{PREFILL}{n}", some_ids(n, model.config.vocab_size), f"of {n} ids"
        )
    check_last_slots(report, tflite, model)


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m exactflash.verify_tflite", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--tflite_path", required=True, help="the file")
    add(
        "--checkpoint_path",
        required=True,
        help="the Hugging Face folder or GGUF file that it was made from",
    )
    add("--prompt", "--prompts", action="append", help="may be given several times")
    add("--max_new_tokens", type=int, default=16, help="decode steps behind each prompt (default: 16)")
    add("--atol", type=float, help=f"greatest difference of logits and caches (default: {ATOL} for f32 weights; "
        f"a share of the standard deviation for others: fp16 {SHARES['fp16']}, int8 {SHARES['int8']})")  # fmt: skip
    add("--num_threads", type=int, default=1, help="of LiteRT (default: 1)")
    add(
        "--delegate",
        help="a LiteRT delegate's library to run the file with, such as libexactflash_litert.so",
    )
    arguments = parser.parse_args(given)
    if arguments.max_new_tokens < 1 or arguments.num_threads < 1:
        parser.error("--max_new_tokens and --num_threads are at least 1")
    if arguments.atol is not None and not arguments.atol >= 0:
        parser.error("--atol is at least 0")
    if not Path(arguments.tflite_path).is_file():
        parser.error(f"--tflite_path: {arguments.tflite_path} is no file")
    return arguments


def main(given: Sequence[str] | None = None) -> int:
    """The program."""
    arguments = _arguments(given)
    try:
        tflite = TfliteModel(arguments.tflite_path, arguments.num_threads, arguments.delegate)
        if arguments.atol is None and tflite.weights not in ("f32", *SHARES):
            raise UnsupportedError(f"{tflite.path}: has {tflite.weights} weights, which need --atol")
        model = build_model(
            arguments.checkpoint_path, kv_cache_max_len=tflite.cache_shape[1], activations="f32"
        )
        check_shapes(tflite, model)
        print(f"{tflite.path}: {tflite.weights} weights, {tflite.layers} layers, {tflite.cache_shape[1]} cache "
              f"slots, signatures {', '.join(tflite.signatures)}")  # fmt: skip
        report = Report(tflite.weights, arguments.atol)
        verify(report, tflite, model, arguments.prompt, arguments.max_new_tokens)
    except ImportError as error:
        print(f"{error}\nNeeded: pip install ai-edge-litert", file=sys.stderr)
        return 1
    except (Error, OSError, ValueError, RuntimeError) as error:
        print(f"verify_tflite: {error}", file=sys.stderr)
        return 1
    worst = ", ".join(f"{kind} {value:.2e}" for kind, value in report.worst.items())
    print(f"{'FAIL' if report.failures else 'PASS'}: {report.lines - report.failures} of {report.lines} "
          f"comparisons passed; greatest differences: {worst}")  # fmt: skip
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
