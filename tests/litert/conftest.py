import json
import os
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

LIBRARY = os.environ["XF_LITERT_LIBRARY"]
FIXTURES = Path(os.environ["XF_FIXTURES"])


def delegate(**options):
    return load_delegate(LIBRARY, options)


def interpreter(model, *delegates, threads=2, xnnpack=True):
    """Of a file, or of bytes."""
    resolver = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    where = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
    result = Interpreter(
        **where,
        experimental_delegates=list(delegates) or None,
        experimental_op_resolver_type=resolver,
        num_threads=threads,
    )
    result.allocate_tensors()
    return result


def run(model, inputs, *delegates, threads=2):
    """The first output of a model without signatures."""
    it = interpreter(model, *delegates, threads=threads)
    for detail, value in zip(it.get_input_details(), inputs, strict=True):
        it.set_tensor(detail["index"], value)
    it.invoke()
    return it.get_tensor(it.get_output_details()[0]["index"])


class Llama:
    """A converted model with a cache, through its signatures."""

    def __init__(self, path, *delegates, threads=2):
        self.interpreter = interpreter(path, *delegates, threads=threads)
        self.runners = {
            name: self.interpreter.get_signature_runner(name)
            for name in self.interpreter.get_signature_list()
        }
        details = self.runners["decode"].get_input_details()
        self.cache = {
            name: np.zeros(detail["shape"], np.float32)
            for name, detail in details.items()
            if name.startswith("kv_cache")
        }

    def step(self, name, tokens, first):
        """The logits of the tokens, which may be fewer than the signature's."""
        runner = self.runners[name]
        n = runner.get_input_details()["tokens"]["shape"][1]
        padded = np.zeros((1, n), np.int32)
        padded[0, : len(tokens)] = tokens
        positions = np.arange(first, first + n, dtype=np.int32)
        out = runner(tokens=padded, input_pos=positions, **self.cache)
        self.cache = {name: value for name, value in out.items() if name != "logits"}
        return out["logits"][0, : len(tokens)]

    def logits(self, tokens, prefill=64):
        """Of all tokens: as many as fit by one prefill, the others by decoding."""
        head = self.step(f"prefill_{prefill}", tokens[:prefill], 0)
        tail = [self.step("decode", [t], prefill + i)[0] for i, t in enumerate(tokens[prefill:])]
        return np.concatenate([head, tail]) if tail else head


@pytest.fixture(scope="session", params=["f32", "q8"])
def converted(request):
    return FIXTURES / "litert" / f"tl-mini_{request.param}_ekv256.tflite"


@pytest.fixture(scope="session")
def reference():
    """Prompts of tl-mini-f32, and the logits of all their positions."""
    folder = FIXTURES / "models" / "tl-mini-f32"
    prompts = json.loads((folder / "ids.json").read_text())["prompts"]
    logits = np.fromfile(folder / "logits_f32.bin", np.float32).reshape(-1, 512)
    ends = np.cumsum([len(prompt) for prompt in prompts])
    return list(zip(prompts, np.split(logits, ends[:-1]), strict=True))
