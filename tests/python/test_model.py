"""Models: logits, batches, caches, generation, tokenizer, and what they say when something is wrong."""

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
import torch
from conftest import DEMO_MODEL, fixture_folder

import exactflash

TEXT = "Once upon a time"


def test_config(model):
    config = exactflash.get_model_config(model)
    assert config == exactflash.get_model_config(DEMO_MODEL)
    given = json.loads((DEMO_MODEL / "config.json").read_text())
    assert (config.layers, config.heads) == (given["num_hidden_layers"], given["num_attention_heads"])
    assert config.eos_token_ids == (2,) and config.bos_token_id == 1 and config.weight_type == "bf16"


def test_logits_of_transformers():
    """Stored logits of transformers, at every position."""
    folder = fixture_folder("models/tl-mini-f32")
    ids = json.loads((folder / "ids.json").read_text())
    logits = np.fromfile(folder / ids["logits_file"], "<f4").reshape(-1, ids["vocab_size"])
    model = exactflash.build_model(folder)
    for prompt, row in zip(ids["prompts"], ids["logits_row_offset"], strict=True):
        np.testing.assert_allclose(model(prompt), logits[row : row + len(prompt)], rtol=0, atol=1e-4)


def test_batches_and_caches(model):
    """Alone, in a batch, in pieces, through a copied cache: the same bits."""
    ids = model.tokenizer.encode(TEXT + " there was a king")
    want = model(ids)
    assert want.shape == (len(ids), model.config.vocab_size) and want.dtype == np.float32
    mixed = model([ids, ids[:3]])
    assert np.array_equal(mixed[0], want) and np.array_equal(mixed[1], want[:3])
    square = model(np.array([ids, ids]))
    assert square.shape == (2, *want.shape) and np.array_equal(square[1], want)
    assert np.array_equal(model(torch.tensor(ids)), want)
    cache = model.new_cache(50)
    assert model(ids[:4], cache=cache, logits="none") is None
    assert len(cache) == 4 and cache.capacity == 50 and cache.bytes > 0
    k, v = cache.export_kv(20)
    assert k.shape == v.shape == (12, 20, 2, 64) and (k[:, 4:] == 0).all()
    other = model.new_cache()
    other.import_kv(torch.from_numpy(k), v, length=4)
    both = model([ids[4:], ids[4:]], cache=[cache, other])
    assert np.array_equal(both[0], want[4:]) and np.array_equal(both[1], want[4:])
    cache.truncate(5)
    assert np.array_equal(model(ids[5:], cache=cache, logits="last"), want[-1:])


def test_import_of_any_floats(model):
    """bf16, f16 and f64 tensors and arrays, those that require grad, and views that are not dense."""
    cache, other = model.new_cache(8), model.new_cache(8)
    model([1, 2, 3, 4], cache=cache, logits="none")
    k, v = (torch.from_numpy(x) for x in cache.export_kv())
    narrow = k.bfloat16()
    for given_k, given_v, want_k, want_v in (
        (k.requires_grad_(), v.double(), k, v),
        (narrow, v.half(), narrow.float(), v.half().float()),
        (narrow.float().numpy().astype(ml_dtypes.bfloat16), v.numpy()[:, ::-1], narrow.float(), v.flip(1)),
    ):
        other.import_kv(given_k, given_v)
        for got, want in zip(other.export_kv(), (want_k, want_v), strict=True):
            assert np.array_equal(got, want.detach().numpy())
    with pytest.raises(exactflash.UnsupportedError, match="v: .* a CPU tensor of real numbers"):
        other.import_kv(k, v.to(torch.complex64))
    with pytest.raises(exactflash.UnsupportedError, match="k: .* on meta"):
        other.import_kv(k.to("meta"), v)
    assert np.array_equal(other.export_kv()[1], v.flip(1).numpy())


def test_activations():
    """Of 4-bit weights: f32 ones give the dequantized weights' logits, int8 ones come near."""
    folder = fixture_folder("gguf")
    files = json.loads((folder / "manifest.json").read_text())["files"]
    entry = next(each for each in files if each["file"] == "tl-mini-Q4_0.gguf")
    want = np.fromfile(folder / entry["logits_file"], "<f4").reshape(-1, entry["vocab_size"])
    path, ids = folder / entry["file"], entry["prompt_ids"]
    exact = exactflash.build_model(path, activations="f32")(ids)
    assert np.abs(exact - want).max() <= 5e-4
    assert 5e-4 < np.abs(exactflash.build_model(path)(ids) - want).max() < 1
    with pytest.raises(exactflash.ArgumentError, match="activations: 'int4'"):
        exactflash.build_model(path, activations="int4")


def test_cache_types(model):
    """Half the bytes, or less; the rounded keys and values of the first layer, other logits."""
    ids = model.tokenizer.encode(TEXT)
    plain = model.new_cache(50)
    want = model(ids, cache=plain)
    k, _ = plain.export_kv(len(ids))
    for name, kind in (("f16", torch.float16), ("bf16", torch.bfloat16)):
        other = exactflash.build_model(DEMO_MODEL, cache_type=name)
        cache = other.new_cache(50)
        got = other(ids, cache=cache)
        assert cache.bytes * 2 == plain.bytes
        assert not np.array_equal(got, want)
        np.testing.assert_allclose(got, want, rtol=0, atol=0.3)
        rounded = torch.from_numpy(k[0]).to(kind).to(torch.float32).numpy()
        assert np.array_equal(cache.export_kv(len(ids))[0][0], rounded)
    other = exactflash.build_model(DEMO_MODEL, cache_type="i8")
    cache = other.new_cache(50)
    got = other(ids, cache=cache)
    d = k.shape[-1]
    assert cache.bytes * 4 * d == plain.bytes * (d + 4)
    assert not np.array_equal(got, want)
    np.testing.assert_allclose(got, want, rtol=0, atol=1)
    scale = (np.abs(k[0]).max(-1, keepdims=True) / np.float32(127)).astype(np.float32)
    rounded = np.rint(k[0] * (np.float32(1) / scale)) * scale
    assert np.array_equal(cache.export_kv(len(ids))[0][0], rounded)
    with pytest.raises(exactflash.ArgumentError, match="cache_type"):
        exactflash.build_model(DEMO_MODEL, cache_type="i8_row")


def test_greedy_text(model):
    """The stored continuations of the demo model."""
    reference = json.loads((DEMO_MODEL / "greedy_reference.json").read_text())
    for item in reference["items"]:
        ids, new = item["prompt_ids"], item["greedy_ids"]
        assert model.tokenizer.encode(item["prompt"]) == ids
        pieces = list(model.generate(ids, max_new_tokens=len(new), ignore_eos=True))
        assert [piece.token for piece in pieces if piece.token is not None] == new


def test_generation(model):
    pieces = list(model.generate(TEXT, max_new_tokens=20, logprobs=True))
    assert len(pieces) == 21 and pieces[-1].done == "length"
    assert all(piece.logprob is not None and piece.logprob <= 0 for piece in pieces[:-1])
    ids = model.tokenizer.encode(TEXT)
    tokens = [piece.token for piece in pieces[:-1]]
    assert np.argmax(model(ids + tokens[:-1])[len(ids) - 1 :], axis=1).tolist() == tokens
    text = "".join(piece.text for piece in pieces)
    stopped = list(model.generate(TEXT, max_new_tokens=20, stop=[text[10:14]]))
    assert stopped[-1].done == "stop" and "".join(p.text for p in stopped) == text[: text.index(text[10:14])]
    again = [
        "".join(p.text for p in model.generate(TEXT, max_new_tokens=20, temperature=1.0, top_k=50, seed=s))
        for s in (1, 1, 2)
    ]
    assert again[0] == again[1] != again[2]
    first = tokens[0]
    barred = next(model.generate(TEXT, logit_bias={first: float("-inf")}))
    assert barred.token != first


def test_conversation(model):
    """A cache keeps what was said."""
    cache = model.new_cache(100)
    first = list(model.generate(TEXT, max_new_tokens=5, cache=cache))
    assert len(cache) == len(model.tokenizer.encode(TEXT)) + 4
    tokens = [piece.token for piece in first if piece.token is not None]
    rest = list(model.generate(tokens[-1:], max_new_tokens=5, cache=cache))
    whole = list(model.generate(TEXT, max_new_tokens=10))
    assert [p.token for p in rest[:5]] == [p.token for p in whole[5:10]]


def test_tokenizer(model):
    tokenizer = model.tokenizer
    ids = tokenizer.encode(TEXT)
    assert ids[0] == tokenizer.bos_token_id == 1 and tokenizer.eos_token_id == 2
    assert tokenizer.encode(TEXT, bos=False) == ids[1:] and tokenizer.vocab_size == 4096
    assert tokenizer.decode(ids) == TEXT
    strange = "naïve 日本 \U0001f600"
    assert tokenizer.decode(tokenizer.encode(strange)) == strange
    assert 2 in tokenizer.encode("a</s>", parse_special=True) and 2 not in tokenizer.encode("a</s>")
    assert tokenizer.decode([]) == "" and tokenizer.decode(iter(ids)) == TEXT


def test_token_ids(model):
    """Of any kind of integers; others are refused by their name, everywhere alike."""
    ids = model.tokenizer.encode(TEXT)
    want = model(ids, logits="last")
    for given in (tuple(ids), np.array(ids), list(np.array(ids)), torch.tensor(ids)):
        assert np.array_equal(model(given, logits="last"), want) and model.tokenizer.decode(given) == TEXT
        assert next(model.generate(given)) == next(model.generate(TEXT))
    for wrong, kind in (([1.5], exactflash.ShapeError), ([1 << 32], exactflash.ArgumentError),
                        ([-1], exactflash.ArgumentError), ([[1]], exactflash.ShapeError)):  # fmt: skip
        with pytest.raises(kind, match="prompt: "):
            next(model.generate(wrong))
        with pytest.raises(kind, match="ids: "):
            model.tokenizer.decode(wrong)
    with pytest.raises(exactflash.ShapeError, match="prompt: .* at least one token"):
        next(model.generate([]))


def test_progress():
    seen = []
    exactflash.build_model(DEMO_MODEL, progress=lambda *step: seen.append(step))
    assert seen[-1][0] == "load" and seen[-1][1] <= seen[-1][2]
    with pytest.raises(exactflash.CancelledError):
        exactflash.build_model(DEMO_MODEL, progress=lambda stage, done, total: True)


def test_errors(model, tmp_path):
    with pytest.raises(exactflash.FileError, match=r"nowhere/config\.json") as raised:
        exactflash.build_model("nowhere")
    assert isinstance(raised.value, OSError) and raised.value.status == 5
    (tmp_path / "config.json").write_text('{"model_type": "llama"')
    with pytest.raises(exactflash.FormatError, match="config.json"):
        exactflash.build_model(tmp_path)
    with pytest.raises(exactflash.ArgumentError, match="vocab_size"):
        model([99999])
    with pytest.raises(exactflash.ArgumentError):
        model([-1])
    with pytest.raises(exactflash.ShapeError):
        model([])
    with pytest.raises(exactflash.ShapeError, match="cache: 1 for 2"):
        model([[1], [2]], cache=[model.new_cache()])
    with pytest.raises(exactflash.CacheFullError, match="raise kv_cache_max_len"):
        list(exactflash.build_model(DEMO_MODEL, kv_cache_max_len=4).generate(TEXT))
    cache = model.new_cache(10)
    with pytest.raises(exactflash.CacheFullError):
        model(list(range(11)), cache=cache)
    assert len(cache) == 0
    with pytest.raises(exactflash.ArgumentError, match="length"):
        cache.truncate(1)
    with pytest.raises(exactflash.ShapeError, match="k: has shape"):
        cache.import_kv(np.zeros((12, 4, 3, 64)), np.zeros((12, 4, 3, 64)))


@pytest.mark.parametrize("name", ["demo-model", "models/llama3-rope-new"])
def test_verify(name):
    folder = DEMO_MODEL if name == "demo-model" else fixture_folder(name)
    command = [sys.executable, "-m", "exactflash.verify", str(folder), "--max-new-tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all prompts agree" in done.stdout.splitlines()[-1]


def test_verify_finds_a_difference(monkeypatch, capsys):
    """A reference that differs is told, with its place."""
    from exactflash import verify

    real = verify.reference_logits

    def wrong(reference, ids):
        logits = real(reference, ids).copy()
        logits[3, 17] += 0.5
        return logits

    monkeypatch.setattr(verify, "reference_logits", wrong)
    assert verify.main([str(DEMO_MODEL), "--prompt", TEXT, "--max-new-tokens", "2"]) == 1
    output = capsys.readouterr().out
    assert "FAIL" in output and "position 3, token 17" in output
    with pytest.raises(SystemExit) as ended:
        verify.main(["nowhere"])
    assert ended.value.code == 2
