"""Converted models, with the delegate and without."""

import threading

import numpy as np
import pytest
from conftest import Llama, delegate

TOLERANCE = 5e-4  # of logits, against the checkpoint's reference: f32 only
BETWEEN = 1e-4  # the delegate against LiteRT's own attention
STEPPED = 0.5  # the same in an int8 model


def check_between(path, ours, plain):
    """Before every int8 matrix LiteRT rounds activations to 8 bits: a last bit may become a step of 1/127
    of a row's largest number, in few places.
    """
    differences = np.abs(ours - plain)
    if "f32" in path.name:
        assert differences.max() <= BETWEEN
    else:
        assert differences.max() <= STEPPED and np.median(differences) <= STEPPED / 10


def test_prompts(converted, reference):
    """Every prompt, by one prefill and decoding from there on."""
    for tokens, wanted in reference:
        plain = Llama(converted).logits(tokens)
        ours = Llama(converted, delegate()).logits(tokens)
        if "f32" in converted.name:
            assert np.abs(plain - wanted).max() <= TOLERANCE
            assert np.abs(ours - wanted).max() <= TOLERANCE
        check_between(converted, ours, plain)


def test_decode_to_the_last_slot(converted):
    """256 tokens fill the cache."""
    tokens = np.random.default_rng(1).integers(3, 512, 256).tolist()
    plain = Llama(converted).logits(tokens, prefill=16)
    ours = Llama(converted, delegate()).logits(tokens, prefill=16)
    check_between(converted, ours, plain)


def test_caches(converted, reference):
    tokens, _ = reference[2]
    plain, ours = Llama(converted), Llama(converted, delegate())
    plain.logits(tokens)
    ours.logits(tokens)
    assert plain.cache.keys() == ours.cache.keys() and len(ours.cache) == 4
    for name, value in plain.cache.items():
        assert np.abs(value - ours.cache[name])[:, : len(tokens)].max() <= BETWEEN


def test_threads_and_isas_have_the_same_bits(converted, reference):
    """Only the attention is ours, so LiteRT's own part keeps its number of threads."""
    tokens, _ = reference[3]
    wanted = Llama(converted, delegate(threads=1)).logits(tokens)
    for options in ({"threads": 2}, {"threads": 5}, {"isa": "scalar"}):
        assert np.array_equal(Llama(converted, delegate(**options)).logits(tokens), wanted), options


@pytest.mark.parametrize("shared", [False, True], ids=["own delegates", "one delegate"])
def test_interpreters_at_once(converted, reference, shared):
    one = delegate()
    wanted = {n: Llama(converted, delegate()).logits(reference[n][0]) for n in range(4)}
    models = [Llama(converted, one if shared else delegate(), threads=1 + n) for n in range(4)]
    results = {}

    def work(n):
        zeros = {name: np.zeros_like(value) for name, value in models[n].cache.items()}
        for _ in range(5):
            models[n].cache = dict(zeros)
            results[n] = models[n].logits(reference[n][0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(4):
        check_between(converted, results[n], wanted[n])


def test_report(converted, tmp_path):
    path = tmp_path / "report.txt"
    Llama(converted, delegate(report=path))
    lines = path.read_text().splitlines()
    claimed = "claimed 2 of odml.scaled_dot_product_attention and 5 of odml.rms_norm"
    assert sum(claimed in line for line in lines) == 3
    assert not any("left to LiteRT" in line for line in lines)


def test_nothing_is_printed(converted, capfd):
    Llama(converted, delegate()).logits([1, 2, 3])
    printed = "".join(capfd.readouterr())
    assert "exactflash" not in printed
    Llama(converted, delegate(report="stderr"))
    assert "exactflash: graph of" in capfd.readouterr().err
