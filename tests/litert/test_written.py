"""Files that our converter has just written, by the delegate, against their checkpoints."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import FIXTURES, LIBRARY

ROOT = Path(__file__).resolve().parent.parent.parent


def run(module, *arguments):
    command = [sys.executable, "-m", f"exactflash.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("quantize", ["none", "fp16", "dynamic_int8"])
@pytest.mark.parametrize("checkpoint", ["demo-model", "models/tl-mini-f32", "models/tied-gqa3-bf16"])
def test_verified(checkpoint, quantize, tmp_path):
    folder = ROOT / checkpoint if checkpoint == "demo-model" else FIXTURES / checkpoint
    path = tmp_path / "model.tflite"
    written = run(
        "convert_to_tflite", "--checkpoint_path", folder, "--output_path", path, "--quantize", quantize,
        "--prefill_seq_lens", "16", "--kv_cache_max_len", "64", "--output_logits_on_prefill",
    )  # fmt: skip
    assert written.returncode == 0, written.stderr
    verified = run("verify_tflite", "--tflite_path", path, "--checkpoint_path", folder, "--delegate", LIBRARY)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "PASS" in verified.stdout
