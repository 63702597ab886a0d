"""Checkpoints that are made to confuse their reader: each ends in an exception of the package."""

import json
import struct

import numpy as np
import pytest
from conftest import fixture_folder

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")

from tflite_support import write_checkpoint  # noqa: E402

import exactflash  # noqa: E402
from exactflash import _gguf  # noqa: E402
from exactflash._checkpoint import Checkpoint  # noqa: E402
from exactflash._llama_config import config_of_folder  # noqa: E402

FORMAT, UNSUPPORTED = exactflash.FormatError, exactflash.UnsupportedError
DEEP = b'{"a":' * 100000 + b"1" + b"}" * 100000


def header_of(folder):
    """The parsed header of a folder's weights, and what lies behind it."""
    data = (folder / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def write_header(folder, header, rest):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + rest)


INFINITY = float("inf")


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [INFINITY]}, {"shape": [64.0]}, {"shape": ["64"]}, {"shape": "64"}, {"shape": [True]},
        {"shape": [-64]}, {"shape": None}, {"shape": {}}, {"data_offsets": [0, INFINITY]},
        {"data_offsets": [0]}, {"data_offsets": [0, 1, 2]}, {"data_offsets": 0}, {"data_offsets": [-128, 0]},
    ],
)  # fmt: skip
def test_entries_of_safetensors(entry, tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    header, rest = header_of(folder)
    header["model.norm.weight"] |= entry
    write_header(folder, header, rest)
    with pytest.raises(FORMAT, match=r"model\.safetensors: tensor model\.norm\.weight: .*shape and data_offsets"):
        Checkpoint(folder)


@pytest.mark.parametrize("shape", [[1 << 32, 1 << 32], [1 << 62, 4, 1], [1 << 63, 2]])
def test_products_that_overflow(shape, tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    header, rest = header_of(folder)
    header["model.norm.weight"] |= {"shape": shape, "data_offsets": [0, 0]}
    write_header(folder, header, rest)
    with pytest.raises(FORMAT, match=r"model\.norm\.weight: its shape and data_offsets do not agree"):
        Checkpoint(folder)


def test_other_headers(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    header, rest = header_of(folder)
    for text, words in ((DEEP, "nested too deeply"), (b"[]", "JSON object"), (b"{", "no JSON"), (b"\xff", "no JSON")):
        write_header(folder, text, rest)
        with pytest.raises(FORMAT, match=rf"model\.safetensors: the header.*{words}"):
            Checkpoint(folder)
    write_header(folder, header | {"model.norm.weight": 1}, rest)
    with pytest.raises(FORMAT, match=r"model\.norm\.weight"):
        Checkpoint(folder)
    (folder / "model.safetensors").unlink()
    for shard in ("\0", "\ud800", "..", "../m"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
        with pytest.raises((FORMAT, exactflash.FileError)):
            Checkpoint(folder)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rope_scaling": {"rope_type": "linear", "factor": 0}}, "rope_scaling: factor must be a number from"),
        ({"rope_scaling": {"rope_type": "linear", "factor": 1e-50}}, "rope_scaling: factor"),
        ({"rope_scaling": {"rope_type": "linear", "factor": INFINITY}}, "rope_scaling: factor"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_scaling: factor"),
        ({"rope_theta": 0}, "rope_theta must be a number from 1 to"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"rms_norm_eps": 1e9}, "rms_norm_eps"),
        ({"hidden_size": 1 << 40}, "hidden_size"),
        ({"hidden_size": 10**400}, "hidden_size"),
        *[
            ({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
                               "original_max_position_embeddings": 64} | {name: 0}}, f"rope_scaling: {name}")
            for name in ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
        ],
    ],
)  # fmt: skip
def test_numbers_of_config_json(fields, words, tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    with pytest.raises(FORMAT, match=rf"config\.json: {words}"):
        Checkpoint(folder)


def test_deeply_nested_config_json(tmp_path):
    folder = write_checkpoint(tmp_path / "m")
    (folder / "config.json").write_bytes(DEEP)
    with pytest.raises(FORMAT, match=r"config\.json: its JSON is nested too deeply"):
        Checkpoint(folder)


# ---- GGUF ----


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def number(value):
    return struct.pack("<If", 6, value)


def integer(value):
    return struct.pack("<II", 4, value)


LLAMA = {
    "general.architecture": struct.pack("<I", 8) + text("llama"), "llama.embedding_length": integer(4),
    "llama.attention.head_count": integer(1), "llama.feed_forward_length": integer(4),
    "llama.block_count": integer(1), "llama.attention.layer_norm_rms_epsilon": number(1e-5),
}  # fmt: skip
EMBEDDING = ("token_embd.weight", (4, 8), 0, 0)


def write_gguf(path, metadata, tensors=(EMBEDDING,), data=bytes(1024)):
    """metadata: key to type and bytes; tensors: (name, shape as GGUF orders it, type, offset)."""
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    out += b"".join(text(key) + value for key, value in metadata.items())
    for name, shape, kind, offset in tensors:
        out += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
    path.write_bytes(out + bytes(-len(out) % 32) + data)
    return path


def array(element, count, data=b""):
    return struct.pack("<IIQ", 9, element, count) + data


LLAMA3 = "exactflash.rope.llama3"  # what `exactflash convert` writes


def doubles(*values):
    return array(12, len(values), struct.pack(f"<{len(values)}d", *values))


@pytest.mark.parametrize(
    ("key", "value", "kind", "words"),
    [
        ("a.b", array(9, 1, struct.pack("<IQ", 4, 0)), UNSUPPORTED, "a.b: arrays of arrays are not supported"),
        ("a.b", array(9, 1) * 100000, UNSUPPORTED, "a.b: arrays of arrays"),
        ("a.b", array(4, 1 << 62), FORMAT, "truncated"),
        ("a.b", array(8, 1 << 62), FORMAT, "truncated"),
        ("a.b", struct.pack("<I", 99), FORMAT, "a.b: metadata of the unknown type 99"),
        ("llama.block_count", array(4, 3, bytes(12)), FORMAT, "llama.block_count must be a positive integer"),
        ("llama.rope.scaling.factor", number(0), FORMAT, "llama.rope.scaling.factor must be a number from"),
        ("llama.rope.scale_linear", number(INFINITY), FORMAT, "llama.rope.scale_linear"),
        ("llama.rope.freq_base", number(0), FORMAT, "llama.rope.freq_base"),
        ("llama.embedding_length", integer(1 << 31), FORMAT, "llama.embedding_length"),
        (LLAMA3, number(8), FORMAT, f"{LLAMA3} must be four numbers in F64"),
        (LLAMA3, array(12, 3, bytes(24)), FORMAT, f"{LLAMA3} must be four numbers in F64"),
        (LLAMA3, array(6, 4, bytes(16)), FORMAT, f"{LLAMA3} must be four numbers in F64"),
        (LLAMA3, array(12, 1 << 61), FORMAT, "truncated"),
        (LLAMA3, doubles(0, 1, 4, 256), FORMAT, f"{LLAMA3}: factor must be"),
        (LLAMA3, doubles(8, 4, 1, 256), FORMAT, f"{LLAMA3}: high_freq_factor must be greater"),
        (LLAMA3, doubles(8, 1, 4, 0.5), FORMAT, f"{LLAMA3}: original_max_position_embeddings must be"),
        (LLAMA3, doubles(8, float("nan"), 4, 256), FORMAT, f"{LLAMA3}: low_freq_factor must be"),
    ],
)  # fmt: skip
def test_metadata_of_gguf(key, value, kind, words, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", LLAMA | {key: value})
    with pytest.raises(kind, match=rf"m\.gguf: .*{words}|m\.gguf: {words}"):
        Checkpoint(path)


def test_llama3_of_gguf(tmp_path):
    """The frequencies of the config.json that the key was made of, whatever else the file says."""
    theta = {"llama.rope.freq_base": number(500000), "llama.attention.key_length": integer(64)}
    more = {"llama.rope.scaling.factor": number(3)}
    path = write_gguf(tmp_path / "m.gguf", LLAMA | theta | more | {LLAMA3: doubles(8, 1, 4, 256)})
    scaling = {"rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
               "original_max_position_embeddings": 256, "rope_theta": 500000}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": 64, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 1, "vocab_size": 8, "rope_scaling": scaling,
    }))  # fmt: skip
    want, got = config_of_folder(tmp_path).inv_freq, _gguf.read(path)[0].inv_freq
    plain = _gguf.read(write_gguf(path, LLAMA | theta))[0].inv_freq
    assert got.tobytes() == want.tobytes() != plain.tobytes()
    assert (got[:4] == plain[:4]).all() and (got[-4:] < plain[-4:]).all()


@pytest.mark.parametrize(
    ("tensors", "kind", "words"),
    [
        ([EMBEDDING], FORMAT, "no tensor output_norm.weight"),  # what this file would need next
        ([("token_embd.weight", (4, 0), 0, 0)], exactflash.ShapeError, "token_embd.weight has 0 rows"),
        ([("token_embd.weight", (4, 1 << 40), 0, 0)], exactflash.ShapeError, "token_embd.weight has"),
        ([("token_embd.weight", (4, (1 << 31) - 1), 0, 0)], FORMAT, "ends behind the file"),
        ([("token_embd.weight", (1 << 63, 2), 0, 0)], FORMAT, "ends behind the file"),
        ([("token_embd.weight", (4, 8), 0, 1 << 63)], FORMAT, "ends behind the file"),
        ([("token_embd.weight", (4, 8), 99, 0)], UNSUPPORTED, "GGUF type 99"),
        ([("token_embd.weight", (4, 8), 2, 0)], FORMAT, "no whole blocks of Q4_0"),
        ([("token_embd.weight", (1, 1, 1, 1, 1), 0, 0)], FORMAT, "5 dimensions"),
        ([EMBEDDING, ("rope_freqs.weight", (2,), 0, 1 << 63)], FORMAT, "rope_freqs.weight ends behind"),
        ([EMBEDDING, ("rope_freqs.weight", (2,), 0, 0)], FORMAT, "rope_freqs.weight must hold"),
    ],
)
def test_tensors_of_gguf(tensors, kind, words, tmp_path):
    path = write_gguf(tmp_path / "m.gguf", LLAMA, tensors)
    with pytest.raises(kind, match=rf"m\.gguf: .*{words}"):
        Checkpoint(path)


def test_flipped_bytes(tmp_path):
    """Nothing but the package's exceptions, whatever byte of a header is another."""
    whole = (fixture_folder("gguf") / "tied-gqa3-Q4_0.gguf").read_bytes()
    path, random = tmp_path / "m.gguf", np.random.default_rng(1)
    for at in random.integers(4, 4000, 150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            Checkpoint(path)
        except exactflash.Error as error:
            assert "m.gguf" in str(error)
