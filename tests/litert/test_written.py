"""Files that our converter has just written, by the delegate, against their checkpoints."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import FIXTURES, LIBRARY, Llama, delegate

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT / "tests" / "python"))
from tflite_support import write_checkpoint  # noqa: E402

BETWEEN = 1e-4  # the delegate against LiteRT's own attention, f32
LAYERS_22 = "22 layers"  # as TinyLlama has, of a few random weights


def run(module, *arguments):
    command = [sys.executable, "-m", f"exactflash.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def folder_of(checkpoint, tmp_path):
    if checkpoint == LAYERS_22:
        return write_checkpoint(tmp_path / "checkpoint")
    return ROOT / checkpoint if checkpoint == "demo-model" else FIXTURES / checkpoint


@pytest.mark.parametrize("quantize", ["none", "fp16", "dynamic_int8"])
@pytest.mark.parametrize("checkpoint", ["demo-model", "models/tl-mini-f32", "models/tied-gqa3-bf16", LAYERS_22])
def test_verified(checkpoint, quantize, tmp_path):
    """Against the checkpoint; in f32, as without the delegate."""
    folder = folder_of(checkpoint, tmp_path)
    path = tmp_path / "model.tflite"
    written = run(
        "convert_to_tflite", "--checkpoint_path", folder, "--output_path", path, "--quantize", quantize,
        "--prefill_seq_lens", "16", "--kv_cache_max_len", "64", "--output_logits_on_prefill",
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    verified = run("verify_tflite", "--tflite_path", path, "--checkpoint_path", folder, "--delegate", LIBRARY)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "PASS" in verified.stdout
    if quantize == "none":
        tokens = np.random.default_rng(2).integers(3, 300, 64).tolist()  # to the last slot
        plain, ours = (Llama(path, *d).logits(tokens, prefill=16) for d in ([], [delegate()]))
        assert np.abs(ours - plain).max() <= BETWEEN
