#!/usr/bin/env python3
"""What each type of weights costs: perplexity of a text by a model and by its conversions, with
activations of 8 bits and with floats. Prints a Markdown table; the figures are the same everywhere.

usage: bench/quality.py PROGRAM MODEL TEXT [TYPE …]
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

TYPES = ["i8_row", "q8_0", "q6_k", "q5_1", "q5_k", "q5_0", "q4_1", "q4_k", "q4_0"]
FLOATS = {"f32", "f16", "bf16"}


def answer(*command):
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def perplexity(program, model, text, activations):
    return answer(program, "perplexity", "-m", model, "-f", text, "--ctx", "512", "--activations",
                  activations, "--json")["perplexity"]


def bits_a_weight(program, model):
    """Of the matrices in memory."""
    shares = answer(program, "info", "-m", model, "--ctx", "1", "--json")["model"]["weight_types"]
    matrices = [share for share in shares if share["type"] != "f32" or len(shares) == 1]
    return 8 * sum(s["bytes"] for s in matrices) / sum(s["parameters"] for s in matrices)


def row(program, model, text, label, base):
    """Prints it; returns the perplexity with f32 activations."""
    exact = perplexity(program, model, text, "f32")
    results = [exact] if label in FLOATS else [perplexity(program, model, text, "int8"), exact]
    base = base or exact
    cells = [f"{result:.3f} ({100 * (result / base - 1):+.2f} %)" for result in results]
    cells = ["", *cells] if len(cells) == 1 else cells
    print(f"| {label} | {bits_a_weight(program, model):.2f} | {' | '.join(cells)} |", flush=True)
    return exact


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    program, model, text, *types = sys.argv[1:]
    own = answer(program, "info", "-m", model, "--ctx", "1", "--json")["model"]["weight_type"]
    print("| weights | bits a weight | int8 activations | f32 activations |\n|---|---|---|---|")
    base = row(program, model, text, own, None)
    with tempfile.TemporaryDirectory() as folder:
        for kind in types or TYPES:
            path = Path(folder) / f"{kind}.gguf"
            subprocess.run([program, "convert", "--checkpoint_path", model, "--quantize", kind,
                            "--output", path], check=True, capture_output=True)
            row(program, path, text, kind, base)
            path.unlink()


if __name__ == "__main__":
    main()
