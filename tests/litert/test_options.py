"""The key/value list, and the interface that LiteRT loads."""

import ctypes

import pytest
from conftest import LIBRARY, delegate


@pytest.mark.parametrize(
    "options, words",
    [
        ({"thread": 1}, 'unknown option "thread"; there are threads, isa, rms_norm and report'),
        ({"threads": "many"}, 'option threads: "many"'),
        ({"threads": -1}, "option threads"),
        ({"threads": 1025}, "0 … 1024"),
        ({"threads": ""}, "option threads"),
        ({"isa": "sse9"}, 'option isa: there is no "sse9"'),
        ({"rms_norm": "yes"}, "neither 0 nor 1"),
        ({"report": "/nonexistent/report.txt"}, "cannot write /nonexistent/report.txt"),
    ],
)
def test_refused(options, words):
    with pytest.raises(ValueError, match="Failed to load delegate") as caught:
        delegate(**options)
    assert words in str(caught.value)


def test_accepted(tmp_path):
    for options in ({}, {"threads": 0}, {"threads": 3, "isa": "scalar", "report": tmp_path / "r"}):
        delegate(**options)


def test_without_a_callback():
    """A host may pass no callback, and destroy nothing."""
    library = ctypes.CDLL(LIBRARY)
    library.tflite_plugin_create_delegate.restype = ctypes.c_void_p
    keys = (ctypes.c_char_p * 1)(b"nonsense")
    assert library.tflite_plugin_create_delegate(keys, keys, ctypes.c_size_t(1), None) is None
    assert library.tflite_plugin_create_delegate(None, keys, ctypes.c_size_t(0), None) is not None
    library.tflite_plugin_destroy_delegate(None)


def foreign_context(words):
    """Something that is no context of this layout."""
    return (ctypes.c_void_p * 64)(*words)


@pytest.mark.parametrize(
    "words",
    [
        [0] * 64,
        [5] * 64,
        list(range(1000, 1064)),
    ],
    ids=["zeros", "small numbers", "numbers"],
)
def test_another_layout_is_refused(words, tmp_path):
    """Prepare says why, takes nothing and lets the interpreter be."""
    path = tmp_path / "report.txt"
    ours = delegate(report=path)
    address = ours._get_native_delegate_pointer()
    prepare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(
        ctypes.c_void_p.from_address(address + 8).value
    )
    context = foreign_context(words)
    assert prepare(ctypes.addressof(context), address) == 0
    assert "structures are not those" in path.read_text()


def test_functions_of_different_objects_are_refused(tmp_path):
    """Code addresses at the right places, but not of one runtime."""
    path = tmp_path / "report.txt"
    ours = delegate(report=path)
    address = ours._get_native_delegate_pointer()
    prepare_address = ctypes.c_void_p.from_address(address + 8).value
    libc = ctypes.cast(ctypes.CDLL(None).malloc, ctypes.c_void_p).value
    words = [9] + [prepare_address, libc] * 31 + [0]
    context = foreign_context(words)
    prepare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(prepare_address)
    assert prepare(ctypes.addressof(context), address) == 0
    assert "structures are not those" in path.read_text()
