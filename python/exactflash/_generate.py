"""Text generation: prefill a prompt, then token by token."""

from collections.abc import Iterator, Mapping, Sequence
from ctypes import byref, c_char_p, c_int, c_int32, c_size_t, c_void_p, sizeof
from typing import TYPE_CHECKING, Any, NamedTuple

from exactflash import _abi, _arrays
from exactflash._errors import ArgumentError, FileError
from exactflash._library import Handle, call, check, lib, text_at

if TYPE_CHECKING:
    from exactflash._model import Cache, Model

_DONE = {0: "", 1: "eos", 2: "stop"}


class Piece(NamedTuple):
    """What one step gave. text holds whole characters only and may be empty. token: None in a last
    piece that is text held back. done: "eos", "stop" or "length" in the last piece, else ""."""

    token: int | None
    text: str
    done: str
    logprob: float | None = None  # of the token, where log-probabilities are wanted


def _options(
    *, temperature: float, top_k: int, top_p: float, min_p: float, typical: float, seed: int,
    repetition_penalty: float, frequency_penalty: float, presence_penalty: float, repeat_last_n: int,
    logit_bias: Mapping[int, float] | None, stop: Sequence[str], ignore_eos: bool,
) -> _abi.GenerateOptions:  # fmt: skip
    options = _abi.GenerateOptions(
        struct_size=sizeof(_abi.GenerateOptions), temperature=temperature, top_k=top_k, top_p=top_p,
        min_p=min_p, typical=typical, seed=seed, repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty, presence_penalty=presence_penalty,
        repeat_last_n=repeat_last_n, ignore_eos=int(ignore_eos),
    )  # fmt: skip
    if logit_bias:
        pairs = [_abi.LogitBias(token, bias) for token, bias in logit_bias.items()]
        options.logit_bias = (_abi.LogitBias * len(pairs))(*pairs)
        options.n_logit_bias = len(pairs)
    if stop:
        texts = [stop] if isinstance(stop, str) else list(stop)
        options.stop = (c_char_p * len(texts))(*(text.encode() for text in texts))
        options.n_stop = len(texts)
    return options


class _Generator:
    """xf_generator, with what it borrows."""

    def __init__(
        self, model: "Model", cache: "Cache", with_text: bool, options: _abi.GenerateOptions
    ) -> None:
        self._borrowed = model, cache, model.tokenizer if with_text else None
        tokenizer = model.tokenizer._handle.pointer if with_text else None
        self._handle = Handle(
            lib.xf_generator_create, lib.xf_generator_destroy, model._handle.pointer,
            cache._handle.pointer, tokenizer, byref(options), parent=cache._handle,
        )  # fmt: skip

    def prompt(self, ids: Any) -> None:
        """ids: a C array"""
        call(lib.xf_generator_prompt, self._handle.pointer, ids, len(ids))

    def next(self, with_logprob: bool) -> Piece:
        token, done, text, size = c_int32(), c_int(), c_void_p(), c_size_t()
        pointers = byref(token), byref(done), byref(text), byref(size)
        call(lib.xf_generator_next, self._handle.pointer, *pointers)
        piece = Piece(token.value, text_at(text, size), _DONE[done.value])
        if not with_logprob:
            return piece
        chosen = _abi.TokenLogprob()
        call(lib.xf_generator_logprobs, self._handle.pointer, byref(chosen), None, 0)
        return piece._replace(logprob=chosen.logprob)

    def flush(self) -> str:
        text, size = c_void_p(), c_size_t()
        check(lib.xf_generator_flush(self._handle.pointer, byref(text), byref(size)), "generate")
        return text_at(text, size)


def generate(
    model: "Model", prompt: "str | Sequence[int]", *, max_new_tokens: int = 128,
    temperature: float = 0.0, top_k: int = 0, top_p: float = 0.0, min_p: float = 0.0,
    typical: float = 0.0, seed: int = 0, repetition_penalty: float = 0.0,
    frequency_penalty: float = 0.0, presence_penalty: float = 0.0, repeat_last_n: int = 0,
    logit_bias: Mapping[int, float] | None = None, stop: Sequence[str] = (),
    ignore_eos: bool = False, logprobs: bool = False, cache: "Cache | None" = None,
) -> Iterator[Piece]:  # fmt: skip
    """The text that follows a prompt, piece by piece, as it is computed.

    prompt: a text, or token ids (then a checkpoint without a tokenizer gives pieces without text).
    temperature 0: greedy; else samples, with top_k, top_p, min_p, typical (0: off), penalties and
    logit_bias (token: what is added to its logit) as include/exactflash/generate.h defines them. The
    same seed gives the same tokens on every machine. stop: texts that end the answer, in front of
    which it ends. cache: a conversation's past, to which all is added; None: a new one of the model's
    kv_cache_max_len positions. logprobs: with each token's natural log-probability.

    Raises CacheFullError where prompt and answer do not fit the cache. Arguments are checked when the
    first piece is asked for.
    """
    if max_new_tokens < 0:
        raise ArgumentError(f"max_new_tokens: {max_new_tokens} is negative")
    options = _options(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical=typical, seed=seed,
        repetition_penalty=repetition_penalty, frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty, repeat_last_n=repeat_last_n, logit_bias=logit_bias,
        stop=stop, ignore_eos=ignore_eos,
    )  # fmt: skip
    with_text = isinstance(prompt, str) or bool(stop) or has_tokenizer(model)
    ids = _arrays.tokens(model.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt, "prompt")
    generator = _Generator(model, model.new_cache() if cache is None else cache, with_text, options)
    generator.prompt(ids)
    for _ in range(max_new_tokens):
        piece = generator.next(logprobs)
        yield piece
        if piece.done:
            return
    yield Piece(None, generator.flush() if with_text else "", "length")


def has_tokenizer(model: "Model") -> bool:
    """Whether the checkpoint has one; one that is broken counts, and is told of where it is used."""
    try:
        return model.tokenizer is not None
    except FileError:
        return False
