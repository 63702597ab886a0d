"""Files that convert_to_tflite has just written, with the delegate and without, against the checkpoint in exactflash."""

from pathlib import Path

import numpy as np
import pytest
from conftest import LIBRARY, Llama, delegate
from tflite_support import convert, write_checkpoint

from exactflash import verify_tflite

ROOT = Path(__file__).resolve().parents[2]
BETWEEN = 1e-4  # the delegate against LiteRT's own attention


@pytest.fixture(scope="module", params=["demo-model", "22 layers"])
def checkpoint(request, tmp_path_factory):
    if request.param == "demo-model":
        return ROOT / "demo-model"
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "m")


@pytest.mark.parametrize("quantize", ["none", "fp16", "dynamic_int8"])
def test_written(checkpoint, quantize, tmp_path, capsys):
    path = convert(checkpoint, tmp_path / "m.tflite", quantize=quantize)
    flags = ["--tflite_path", str(path), "--checkpoint_path", str(checkpoint), "--max_new_tokens", "4"]
    for more in ([], ["--delegate", LIBRARY, "--num_threads", "2"]):
        assert verify_tflite.main([*flags, *more]) == 0, capsys.readouterr().out
        assert "decode into slot 127 of 128" in capsys.readouterr().out


def compare_attentions(path, checkpoint, report, attentions):
    """The delegate beside LiteRT's own operators, and what it has claimed of each of three signatures."""
    tokens = np.random.default_rng(1).integers(3, 300, 100).tolist()
    ours = Llama(path, delegate(report=report)).logits(tokens)
    assert np.abs(ours - Llama(path).logits(tokens)).max() <= BETWEEN
    layers = 12 if checkpoint.name == "demo-model" else 22
    attentions *= layers
    claimed = f"claimed {attentions} of odml.scaled_dot_product_attention and {2 * layers + 1} of odml.rms_norm"
    assert sum(claimed in line for line in report.read_text().splitlines()) == 3


def test_delegate_and_xnnpack_agree(checkpoint, tmp_path):
    path = convert(checkpoint, tmp_path / "m.tflite")
    compare_attentions(path, checkpoint, tmp_path / "report.txt", attentions=1)


def test_plain_operators_are_left_alone(checkpoint, tmp_path):
    """--use_flash_attention=false: nothing of attention is there to be claimed."""
    path = convert(checkpoint, tmp_path / "m.tflite", use_flash_attention=False)
    compare_attentions(path, checkpoint, tmp_path / "report.txt", attentions=0)
