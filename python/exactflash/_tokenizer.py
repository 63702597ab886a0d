"""Text to token ids and back."""

import ctypes
import os
from collections.abc import Iterable
from ctypes import byref, c_int32, c_size_t

from exactflash import _arrays
from exactflash._library import Handle, call, lib

_BOS, _PARSE_SPECIAL = 1, 2


class Tokenizer:
    """A tokenizer.model, a tokenizer.json, a GGUF file, or a folder that holds one of the first two.

    Immutable; threads may share one.
    """

    def __init__(self, path: "str | os.PathLike[str]") -> None:
        self._handle = Handle(lib.xf_tokenizer_open, lib.xf_tokenizer_close, os.fsencode(path))

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return int(lib.xf_tokenizer_vocab_size(self._handle.pointer))

    @property
    def bos_token_id(self) -> int | None:
        """The token that begins a text, if there is one."""
        token = int(lib.xf_tokenizer_bos(self._handle.pointer))
        return None if token < 0 else token

    @property
    def eos_token_id(self) -> int | None:
        """The token that ends a text, if there is one."""
        token = int(lib.xf_tokenizer_eos(self._handle.pointer))
        return None if token < 0 else token

    def encode(
        self, text: str, *, bos: bool | None = None, parse_special: bool = False
    ) -> list[int]:
        """Token ids of a text. bos: whether the BOS token comes first; None: as the model was made.
        parse_special: whether the spelling of a control token ("</s>") becomes that token."""
        if bos is None:
            bos = bool(lib.xf_tokenizer_adds_bos(self._handle.pointer))
        flags = (_BOS if bos else 0) | (_PARSE_SPECIAL if parse_special else 0)
        data, n = text.encode("utf-8", "surrogateescape"), c_size_t()
        arguments = self._handle.pointer, data, len(data), flags
        call(lib.xf_tokenizer_encode, *arguments, None, 0, byref(n))
        ids = (c_int32 * n.value)()
        call(lib.xf_tokenizer_encode, *arguments, ids, n.value, byref(n))
        return list(ids)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of token ids. Control tokens are silent; bytes that are no UTF-8 become U+FFFD."""
        tokens, n = _arrays.tokens(ids, "ids", least=0), c_size_t()
        arguments = self._handle.pointer, tokens, len(tokens)
        call(lib.xf_tokenizer_decode, *arguments, None, 0, byref(n))
        text = ctypes.create_string_buffer(max(1, n.value))
        call(lib.xf_tokenizer_decode, *arguments, text, n.value, byref(n))
        return text.raw[: n.value].decode("utf-8", "replace")
