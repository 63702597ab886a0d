"""Writes a Llama checkpoint as a .tflite file for LiteRT, without torch or TensorFlow.

The file has one signature for each prefill length, and decode, with the names and shapes that litert-torch's
converter gives them. Attention and RMSNorm are composites: any LiteRT can run them, a delegate may replace them.

    python -m exactflash.convert_to_tflite --checkpoint_path TinyLlama --output_path tiny_llama.tflite
        --prefill_seq_lens 64,128,256,512 --kv_cache_max_len 1024 --quantize dynamic_int8
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, BinaryIO

from exactflash._errors import ArgumentError, Error, FileError

QUANTIZE = ("none", "fp16", "dynamic_int8")
_SUFFIX = {"none": "f32", "fp16": "fp16", "dynamic_int8": "q8"}
_UNSUPPORTED = ("weight_only_int8", "dynamic_int4_block32", "dynamic_int4_block128")
_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

MOST_SLOTS = 1 << 24  # every position is a float

Progress = Callable[[int, int], None]


def output_file(output_path: str, prefix: str, quantize: str, kv_cache_max_len: int) -> Path:
    """output_path itself where it ends in .tflite, else PREFIX_QUANTIZATION_ekvLENGTH.tflite in that folder."""
    path = Path(output_path)
    if path.suffix == ".tflite" and not path.is_dir():
        return path
    return path / f"{prefix}_{_SUFFIX[quantize]}_ekv{kv_cache_max_len}.tflite"


def _write(path: Path, force: bool, write: Callable[[BinaryIO], int]) -> int:
    """Writes a file under another name and renames it: path is the whole file or what was there before."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            size = write(file)
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, force)
        os.replace(part, path)
    except OSError as error:
        raise FileError(f"{error.filename or path}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)
    return size


def _refuse_existing(path: Path, force: bool) -> None:
    if path.is_dir():
        raise FileError(f"{path}: is a folder")
    if path.exists() and not force:
        raise FileError(f"{path}: exists already; remove it, name another file or give --force")


def check_plan(prefill_seq_lens: Sequence[int], kv_cache_max_len: int) -> tuple[int, ...]:
    """The prefill lengths, each once, in ascending order."""
    lengths = tuple(sorted(set(prefill_seq_lens)))
    if not lengths:
        raise ArgumentError("prefill_seq_lens: at least one length is needed")
    if lengths[0] < 1 or not 1 <= kv_cache_max_len <= MOST_SLOTS:
        raise ArgumentError(f"prefill_seq_lens and kv_cache_max_len: lengths are 1 … {MOST_SLOTS}")
    if lengths[-1] > kv_cache_max_len:
        raise ArgumentError(
            f"prefill_seq_lens: {lengths[-1]} tokens do not fit into a cache of {kv_cache_max_len}; raise "
            "kv_cache_max_len or leave that length out"
        )
    return lengths


def convert_to_tflite(
    checkpoint_path: "str | os.PathLike[str]", output_path: "str | os.PathLike[str]", *,
    prefill_seq_lens: Sequence[int], kv_cache_max_len: int = 1280, quantize: str = "dynamic_int8",
    use_flash_attention: bool = True, output_logits_on_prefill: bool = False, mask_as_input: bool = False,
    force: bool = False, progress: Progress | None = None,
) -> int:  # fmt: skip
    """Writes output_path, and returns its size.

    checkpoint_path: a Hugging Face folder (config.json, safetensors) or a GGUF file. The weights go through a few
    MiB of memory at a time. progress(done, total) is told bytes."""
    if quantize not in QUANTIZE:
        raise ArgumentError(f"quantize: there are {', '.join(QUANTIZE)}, not {quantize}")
    lengths = check_plan(prefill_seq_lens, kv_cache_max_len)
    _refuse_existing(Path(output_path), force)
    from exactflash import _checkpoint, _tflite_llama

    plan = _tflite_llama.Plan(
        lengths, kv_cache_max_len, quantize, use_flash_attention, output_logits_on_prefill, mask_as_input
    )
    file = _tflite_llama.build(_checkpoint.Checkpoint(checkpoint_path), plan)

    def report(done: int, total: int) -> None:
        if progress:
            progress(done, total)

    return _write(Path(output_path), force, lambda out: file.write(out, report))


class Bar:
    """A bar on a terminal; elsewhere a line for every tenth."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream, self.last, self.start = stream, -1, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        terminal = self.stream.isatty()
        parts = 100 if terminal else 10
        step = done * parts // max(total, 1)
        if step == self.last:
            return
        self.last = step
        text = f"{done / 2**20:,.0f} of {total / 2**20:,.0f} MiB, {time.monotonic() - self.start:.0f} s"
        if terminal:
            filled = step * 30 // parts
            self.stream.write(f"\r[{'#' * filled}{'.' * (30 - filled)}] {text} ")
        else:
            self.stream.write(f"{step * 10} %: {text}\n")
        if terminal and done >= total:
            self.stream.write("\n")
        self.stream.flush()


def _lengths(text: str) -> list[int]:
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 64,128") from None
    if min(values) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: lengths are at least 1")
    return values


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return _BOOLEANS[text.lower()]


def _quantize(text: str) -> str:
    """A name; or a boolean, as the flag was once."""
    name = text.lower()
    if name in _BOOLEANS:
        return "dynamic_int8" if _BOOLEANS[name] else "none"
    if name in _UNSUPPORTED:
        raise argparse.ArgumentTypeError(f"{name} is not supported; there are {', '.join(QUANTIZE)}")
    if name not in QUANTIZE:
        raise argparse.ArgumentTypeError(f"there are {', '.join(QUANTIZE)}, not {text!r}")
    return name


def _add_boolean(parser: Any, name: str, default: bool, text: str) -> None:
    """--name, --name=true, --name false, --noname: what absl's flags take."""
    parser.add_argument(f"--{name}", nargs="?", const=True, default=default, type=_boolean, help=text)
    parser.add_argument(f"--no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m exactflash.convert_to_tflite", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--checkpoint_path",
        required=True,
        help="a Hugging Face folder (config.json, safetensors) or a GGUF file",
    )
    add(
        "--output_path",
        required=True,
        help="a .tflite file, or a folder for one that is named by its contents",
    )
    add("--output_name_prefix", help="begin of that name (default: the checkpoint's name)")
    add("--prefill_seq_lens", type=_lengths, action="append", metavar="N[,N…]",
        help="prefill lengths; a list, or given several times (default: 8,64,128,256,512,1024)")  # fmt: skip
    add("--kv_cache_max_len", type=int, default=1280, help="slots of the KV cache (default: 1280)")
    add("--quantize", type=_quantize, nargs="?", const="dynamic_int8", default="dynamic_int8",
        help="type of the weights: none (f32), fp16 or dynamic_int8 (default)")  # fmt: skip
    add("--noquantize", dest="quantize", action="store_const", const="none", help=argparse.SUPPRESS)
    _add_boolean(
        parser, "use_flash_attention", True,
        "attention as a composite, which flash attention can replace (default); false: as plain operators",
    )  # fmt: skip
    _add_boolean(parser, "output_logits_on_prefill", False, "logits of every token of a prefill too")
    _add_boolean(
        parser, "mask_as_input", False, "the mask is an input of each signature: f32 [1, 1, N, kv]"
    )
    _add_boolean(parser, "transpose_kv_cache", False, "true is not supported")
    add("--decode_batch_size", type=int, default=1, help="only 1 is supported")
    _add_boolean(parser, "force", False, "overwrite an existing file")
    return parser


def _arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = _parser()
    arguments = parser.parse_args(given)
    if arguments.transpose_kv_cache:
        parser.error(
            "--transpose_kv_cache: only false is supported; caches are [1, kv, kv_heads, head_dim]"
        )
    if arguments.decode_batch_size != 1:
        parser.error("--decode_batch_size: only 1 is supported")
    named = arguments.prefill_seq_lens
    lengths = [n for part in named for n in part] if named else [8, 64, 128, 256, 512, 1024]
    try:
        arguments.prefill_seq_lens = check_plan(lengths, arguments.kv_cache_max_len)
    except ArgumentError as error:
        parser.error(f"--{error}")
    return arguments


def main(given: Sequence[str] | None = None) -> int:
    """The program."""
    arguments = _arguments(given)
    checkpoint = arguments.checkpoint_path
    prefix = arguments.output_name_prefix or Path(checkpoint).resolve().name.removesuffix(".gguf")
    kv = arguments.kv_cache_max_len
    path = output_file(arguments.output_path, prefix, arguments.quantize, kv)
    try:
        size = convert_to_tflite(
            checkpoint, path, prefill_seq_lens=arguments.prefill_seq_lens, kv_cache_max_len=kv,
            quantize=arguments.quantize, use_flash_attention=arguments.use_flash_attention,
            output_logits_on_prefill=arguments.output_logits_on_prefill,
            mask_as_input=arguments.mask_as_input, force=arguments.force, progress=Bar(sys.stderr),
        )  # fmt: skip
    except ImportError as error:
        print(f"{error}\nNeeded: pip install numpy flatbuffers ai-edge-litert", file=sys.stderr)
        return 1
    except (Error, OSError, ValueError) as error:
        print(f"convert_to_tflite: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nconvert_to_tflite: cancelled; nothing was written", file=sys.stderr)
        return 1
    print(f"{path}: {size / 2**20:,.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
