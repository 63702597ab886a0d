"""python -m exactflash.verify_tflite: what passes, and that what is wrong does not."""

import numpy as np
import pytest
from conftest import DEMO_MODEL, fixture_folder

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")

import flatbuffers  # noqa: E402
from ai_edge_litert import schema_py_generated as schema  # noqa: E402
from tflite_support import convert, load, write_checkpoint  # noqa: E402

import exactflash  # noqa: E402
from exactflash import _tflite_llama, _tflite_reader  # noqa: E402
from exactflash import verify_tflite as program  # noqa: E402


def verify(path, checkpoint, *flags):
    return program.main(["--tflite_path", str(path), "--checkpoint_path", str(checkpoint), *flags])


@pytest.mark.parametrize("kind", ["f32", "q8"])
def test_the_originals_files(kind, capsys):
    path = fixture_folder("litert") / f"tl-mini_{kind}_ekv256.tflite"
    assert verify(path, fixture_folder("models/tl-mini-f32")) == 0
    output = capsys.readouterr().out
    assert "decode into slot 255 of 256" in output and "prefill_64 of 64 ids: logits" in output
    assert output.splitlines()[-1].startswith("PASS: 29 of 29")


@pytest.mark.parametrize("quantize", ["none", "fp16", "dynamic_int8"])
def test_demo_model(quantize, tmp_path, capsys):
    path = convert(DEMO_MODEL, tmp_path / "m.tflite", kv=64, quantize=quantize)
    assert verify(path, DEMO_MODEL, "--prompt", "Once upon a time", "--max_new_tokens", "8") == 0
    output = capsys.readouterr().out
    assert "text: " in output and "decode of 8 tokens from position" in output
    assert ("allowed 5.00e-04" in output) == (quantize == "none")


def test_22_layers_without_a_tokenizer(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "m")
    path = convert(checkpoint, tmp_path / "m.tflite", lengths=[16], kv=40)
    assert verify(path, checkpoint) == 0
    output = capsys.readouterr().out
    assert "22 layers, 40 cache slots" in output and "decode into slot 39 of 40" in output


def test_a_quantized_checkpoint(tmp_path, capsys):
    """Its weights as f32 numbers, with f32 activations here and there."""
    checkpoint = fixture_folder("gguf") / "tl-mini-Q4_K_M-mix.gguf"
    path = convert(checkpoint, tmp_path / "m.tflite", lengths=[16], kv=40)
    assert verify(path, checkpoint, "--prompt", "Once upon a time", "--max_new_tokens", "4") == 0
    assert "allowed 5.00e-04" in capsys.readouterr().out


def test_the_tolerance_is_used(tmp_path, capsys):
    checkpoint = write_checkpoint(tmp_path / "m")
    path = convert(checkpoint, tmp_path / "m.tflite", lengths=[4], kv=8)
    assert verify(path, checkpoint, "--max_new_tokens", "2", "--atol", "1e-12") == 1
    output = capsys.readouterr().out
    assert "allowed 1.00e-12" in output and output.splitlines()[-1].startswith("FAIL: 0 of")


def test_other_weights_fail(capsys):
    """The checkpoint rounded to bf16 is another one."""
    path = fixture_folder("litert") / "tl-mini_f32_ekv256.tflite"
    assert verify(path, fixture_folder("models/tl-mini-bf16"), "--max_new_tokens", "2") == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAIL")


def test_a_hidden_last_slot_is_found(tmp_path, capsys, monkeypatch):
    """A mask that never shows the last slot: only the step into it is wrong."""
    checkpoint = write_checkpoint(tmp_path / "m")
    real = _tflite_llama._Signature._mask

    def hide(self, input_pos):
        kv = self.plan.kv_cache_max_len
        hidden = np.zeros((1, 1, 1, kv), np.float32)
        hidden[..., -1] = _tflite_llama.MASKED
        shape = [1, 1, self.n, kv]
        return self.g.op("MINIMUM", [real(self, input_pos), self.g.constant(hidden, np.float32)], shape)

    monkeypatch.setattr(_tflite_llama._Signature, "_mask", hide)
    path = convert(checkpoint, tmp_path / "m.tflite", lengths=[4], kv=16)
    assert verify(path, checkpoint, "--max_new_tokens", "2") == 1
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL ")]
    assert failed and all("slot 15 of 16" in line or "full cache" in line for line in failed)


def test_other_shapes_are_refused(tmp_path, capsys):
    path = convert(DEMO_MODEL, tmp_path / "m.tflite", lengths=[4], kv=8)
    assert verify(path, write_checkpoint(tmp_path / "m")) == 1
    assert "caches of 12 layers" in capsys.readouterr().err


def test_broken_files(tmp_path, capsys):
    whole = convert(
        DEMO_MODEL, tmp_path / "whole.tflite", lengths=[4], kv=8, quantize="dynamic_int8"
    ).read_bytes()
    path = tmp_path / "m.tflite"
    for size in [0, 1, 7, 8, 40, *range(100, len(whole), len(whole) // 23), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert verify(path, DEMO_MODEL) == 1, size
        assert "m.tflite" in capsys.readouterr().err
    path.write_bytes(b"\0" * 100)
    assert verify(path, DEMO_MODEL) == 1
    assert "lacks the identifier" in capsys.readouterr().err


def change(path, edit):
    """Rewrites a file with its weights in the FlatBuffer."""
    model, data = load(path)
    for buffer in model.buffers:
        if buffer.size:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    edit(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def loop(model):
    """Each linear layer's matrix is what the layer itself computes."""
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if model.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.FULLY_CONNECTED:
            operator.inputs = np.array([operator.inputs[0], operator.outputs[0]], np.int32)


def edited(what):
    """An edit of the operators of the first subgraph."""

    def edit(model):
        for operator in model.subgraphs[0].operators:
            what(operator)

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda model: setattr(model, "subgraphs", None), "has no subgraph"),
        (lambda model: setattr(model, "subgraphs", []), "has no subgraph"),
        (lambda model: setattr(model, "operatorCodes", None), "uses operator code"),
        (lambda model: setattr(model.subgraphs[0], "tensors", None), "uses tensor"),
        (edited(lambda operator: setattr(operator, "opcodeIndex", 1 << 20)), "uses operator code 1048576"),
        (edited(lambda operator: setattr(operator, "inputs", None)), "has no weights"),
        (edited(lambda operator: setattr(operator, "inputs", [0, -2])), "uses tensor -2 of"),
        (edited(lambda operator: setattr(operator, "inputs", [0, 1 << 30])), "uses tensor 1073741824 of"),
    ],
)
def test_hostile_graphs(edit, words, tmp_path):
    path = convert(DEMO_MODEL, tmp_path / "m.tflite", lengths=[4], kv=8, quantize="dynamic_int8")
    change(path, edit)
    with pytest.raises(exactflash.FormatError, match=rf"m\.tflite: .*{words}"):
        _tflite_reader.check_file(path)


def test_a_graph_that_goes_round(tmp_path):
    path = convert(DEMO_MODEL, tmp_path / "m.tflite", lengths=[4], kv=8, quantize="dynamic_int8")
    change(path, loop)
    assert _tflite_reader.check_file(path) == "f32"  # of the activations, which is all that there is


def test_decode_without_logits(tmp_path, capsys):
    path = convert(DEMO_MODEL, tmp_path / "m.tflite", lengths=[4], kv=8)

    def rename(model):
        for signature in model.signatureDefs:
            for each in signature.outputs:
                each.name = each.name.replace(b"logits", b"scores")

    change(path, rename)
    assert verify(path, DEMO_MODEL) == 1
    error = capsys.readouterr().err
    assert "m.tflite: the outputs of signature decode are" in error and "logits must be one of them" in error


def test_wrong_flags(tmp_path, capsys):
    for flags in (["--max_new_tokens", "0"], ["--atol", "nan"], []):
        with pytest.raises(SystemExit) as ended:
            verify(tmp_path / "nowhere", DEMO_MODEL, *flags)
        assert ended.value.code == 2
    assert "is no file" in capsys.readouterr().err
