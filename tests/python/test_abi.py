"""The structs of exactflash/_abi.py are those of the C headers, and no message of the library is lost."""

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

import exactflash
from exactflash import _abi, _errors, _library

INCLUDE = ROOT / "include"


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """{"struct": size, "struct.field": offset} as the C compiler has them."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler")
    names = [(name, f"sizeof({name})") for name in _abi.STRUCTS]
    for name, struct in _abi.STRUCTS.items():
        names += [(f"{name}.{f[0]}", f"offsetof({name}, {f[0]})") for f in struct._fields_]
    lines = "".join(f'printf("{name} %zu\\n", {value});' for name, value in names)
    folder: Path = tmp_path_factory.mktemp("abi")
    source = f"#include <exactflash/exactflash.h>\n#include <stdio.h>\nint main(void){{{lines}return 0;}}"
    (folder / "abi.c").write_text(source)
    command = [compiler, f"-I{INCLUDE}", str(folder / "abi.c"), "-o", str(folder / "abi")]
    subprocess.run(command, check=True)
    output = subprocess.run([folder / "abi"], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in map(str.split, output.splitlines())}


def test_structs(layout):
    """Every field is where C has it. A struct that tells its size may be an older, shorter one."""
    for name, struct in _abi.STRUCTS.items():
        fields = [field[0] for field in struct._fields_]
        for field in fields:
            assert getattr(struct, field).offset == layout[f"{name}.{field}"], f"{name}.{field}"
        if fields[0] == "struct_size":
            assert ctypes.sizeof(struct) <= layout[name], name
        else:
            assert ctypes.sizeof(struct) == layout[name], name


def test_functions_have_their_number_of_arguments():
    text = "".join(path.read_text() for path in (INCLUDE / "exactflash").glob("*.h"))
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    for name, (_, arguments) in _abi.FUNCTIONS.items():
        found = re.search(rf"\b{name}\(([^)]*)\)", text)
        assert found, name
        count = 0 if found[1].strip() == "void" else found[1].count(",") + 1
        assert count == len(arguments), name


def test_every_status_has_its_exception():
    text = (INCLUDE / "exactflash" / "status.h").read_text()
    names = re.findall(r"^\s+(XF_E_\w+)", text, re.MULTILINE)
    assert len(names) == len(_errors._CLASSES)
    for status in range(1, len(names) + 1):
        error = _errors.of_status(status, "what happened")
        assert type(error) is not exactflash.Error and error.status == status
        assert str(error) == "what happened"
    with pytest.raises(exactflash.CpuError, match="what: "):
        _library.check(4, "what")


def test_version():
    assert exactflash.__version__ == exactflash.version()
    assert f'version = "{exactflash.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert exactflash.numerics_version() == 1
