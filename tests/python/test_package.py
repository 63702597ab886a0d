"""The installed package: what it brings, and what it leaves alone."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import exactflash

FOLDER = Path(exactflash.__file__).parent


def test_nothing_heavy_is_imported():
    """import exactflash takes neither torch nor NumPy with it."""
    program = "import sys, exactflash; print([m for m in ('torch', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_wheel():
    """Typed; for every Python 3 of the platform; with the libraries that it needs."""
    try:
        files = metadata.files("exactflash")
    except metadata.PackageNotFoundError:
        pytest.skip("exactflash is not installed from a wheel")
    assert (FOLDER / "py.typed").exists()
    tags = metadata.distribution("exactflash").read_text("WHEEL")
    assert "Tag: py3-none-" in tags and metadata.version("exactflash") == exactflash.__version__
    bundled = {Path(file).name.split("-")[0] for file in files if "exactflash.libs" in str(file)}
    if not bundled:
        pytest.skip("the wheel was not repaired by auditwheel: the system's libraries are used")
    exactflash.Context()
    loaded = Path("/proc/self/maps").read_text()
    for name in ("libsleef", "libcpuinfo", "libcjson", "libpcre2", "libutf8proc"):
        assert any(library.startswith(name) for library in bundled), name
        assert f"exactflash.libs/{name}" in loaded, name
