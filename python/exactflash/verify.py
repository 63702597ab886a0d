"""Compares a checkpoint run by exactflash with the same run by Hugging Face transformers.

    python -m exactflash.verify CHECKPOINT [--prompt TEXT]… [--atol 1e-4] [--max-new-tokens 32]

For every prompt: the token ids, the logits at every position, and the greedy continuation; for a
checkpoint without a tokenizer, sequences of ids. Prints the worst position; exit code 0 if all agree, 1 if
something differs, 2 for a call that makes no sense. transformers computes in float32 with its eager attention, whatever type the weights have.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exactflash import Error, Model, build_model
from exactflash._generate import has_tokenizer
from exactflash._verify import some_ids, text_of

PROMPTS = (
    "Once upon a time",
    "The quick brown fox jumps over the lazy dog, and then",
    "In 1984, there were 3 bears; they said: \"Who has been eating our porridge?\"",
)


@dataclass(frozen=True)
class Worst:
    """The greatest difference of two logits, and where it is."""

    difference: float
    position: int
    token: int


@dataclass(frozen=True)
class Comparison:
    """What a prompt gave."""

    prompt: str
    worst: Worst
    greedy: bool
    text: str
    other_text: str


def compare_logits(ours: Any, theirs: Any) -> Worst:
    """Both [positions, vocab_size]."""
    import numpy

    difference = numpy.abs(ours - theirs)
    difference[numpy.isnan(difference)] = numpy.inf
    place = int(difference.argmax())
    position, token = divmod(place, ours.shape[1])
    return Worst(float(difference[position, token]), position, token)


def load_reference(path: str) -> Any:
    """The checkpoint as transformers has it, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        path, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def reference_logits(reference: Any, ids: Sequence[int]) -> Any:
    """[positions, vocab_size] of transformers, f32."""
    import torch

    with torch.no_grad():
        return reference(torch.tensor([list(ids)])).logits[0].float().numpy()


def reference_greedy(reference: Any, ids: Sequence[int], count: int, ends: Sequence[int]) -> list[int]:
    """Arg-max of every step, with the KV cache of transformers; ends behind an EOS token."""
    import torch

    new: list[int] = []
    step, past = torch.tensor([list(ids)]), None
    with torch.no_grad():
        for _ in range(count):
            result = reference(step, past_key_values=past, use_cache=True)
            past = result.past_key_values
            new.append(int(result.logits[0, -1].argmax()))
            if new[-1] in ends:
                break
            step = torch.tensor([[new[-1]]])
    return new


def compare(model: Model, reference: Any, prompt: str, ids: list[int], count: int) -> Comparison:
    """Logits of the prompt at every position, and the greedy continuation."""
    worst = compare_logits(model(ids), reference_logits(reference, ids))
    cache = model.new_cache(len(ids) + count + 1)
    pieces = model.generate(ids, max_new_tokens=count, cache=cache)
    ours = [piece.token for piece in pieces if piece.token is not None]
    theirs = reference_greedy(reference, ids, count, model.config.eos_token_ids)
    return Comparison(prompt, worst, ours == theirs, text_of(model, ours), text_of(model, theirs))


def reference_tokenizer(path: str) -> Any:
    """transformers' tokenizer of the checkpoint; None where it has none that transformers reads."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True)
    except (OSError, ValueError, ImportError) as error:
        print(f"the tokenizers are not compared: {error}".splitlines()[0])
        return None


def prompts(model: Model, given: Sequence[str] | None) -> list[tuple[str, list[int], bool]]:
    """(name, token ids, whether transformers' tokenizer gives the same ids) of all prompts."""
    if not given and not has_tokenizer(model):
        print(f"{model.path}: has no tokenizer: sequences of ids are compared")
        sizes = (5, 40, 200)
        return [(f"{n} ids", some_ids(n, model.config.vocab_size), True) for n in sizes]
    other = reference_tokenizer(model.path)
    result = []
    for prompt in given or PROMPTS:
        ids = model.tokenizer.encode(prompt)
        same = other is None or list(other(prompt)["input_ids"]) == ids
        result.append((prompt, ids, same))
    return result


def report(result: Comparison, same_ids: bool, atol: float) -> bool:
    """Prints a prompt's result; returns whether it is good."""
    worst = result.worst
    good = worst.difference <= atol and result.greedy and same_ids
    print(
        f"{'ok  ' if good else 'FAIL'} {result.prompt!r}: logits differ by {worst.difference:.2e} at most "
        f"(position {worst.position}, token {worst.token}; allowed {atol:.0e}), greedy text "
        f"{'the same' if result.greedy else 'differs'}"
    )
    if not same_ids:
        print("     the token ids of the prompt differ")
    if not result.greedy:
        print(f"     exactflash:   {result.text!r}\n     transformers: {result.other_text!r}")
    return good


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m exactflash.verify", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("checkpoint", help="a Hugging Face folder")
    parser.add_argument("--prompt", action="append", help="may be given several times")
    parser.add_argument("--atol", type=float, default=1e-4, help="greatest difference of logits")
    parser.add_argument("--max-new-tokens", type=int, default=32, help="of the greedy text")
    arguments = parser.parse_args(given)
    if not Path(arguments.checkpoint).is_dir():
        parser.error(f"{arguments.checkpoint}: is no folder; transformers reads no other kind here")
    if arguments.max_new_tokens < 1 or not arguments.atol >= 0:
        parser.error("--max-new-tokens is at least 1, and --atol at least 0")
    return arguments


def main(given: Sequence[str] | None = None) -> int:
    """The program."""
    arguments = _arguments(given)
    try:
        import transformers
    except ImportError:
        print("transformers and torch are needed: pip install torch transformers", file=sys.stderr)
        return 2
    logging: Any = transformers.utils.logging
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        model = build_model(arguments.checkpoint)
        reference = load_reference(arguments.checkpoint)
        good, worst = True, 0.0
        for prompt, ids, same in prompts(model, arguments.prompt):
            result = compare(model, reference, prompt, ids, arguments.max_new_tokens)
            good = report(result, same, arguments.atol) and good
            worst = max(worst, result.worst.difference)
    except (Error, OSError, ValueError) as error:
        print(f"{arguments.checkpoint}: {error}", file=sys.stderr)
        return 1
    print(f"{'all prompts agree' if good else 'NOT all prompts agree'}; worst difference {worst:.2e}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
