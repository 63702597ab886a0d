"""What the tests of the Python package share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

import exactflash

ROOT = Path(os.environ.get("XF_SOURCE_DIR", Path(__file__).resolve().parents[2]))
DEMO_MODEL = ROOT / "demo-model"

# The same examples in every run, and no limit of time for one: other programs use this machine too.
settings.register_profile("exactflash", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("exactflash")


def fixture_folder(name: str) -> Path:
    """A folder of the larger test data; the test is skipped where there is none."""
    folder = Path(os.environ.get("XF_FIXTURES", ROOT.parent / "shared" / "fixtures")) / name
    if not folder.exists():
        pytest.skip(f"{folder} is not there")
    return folder


@pytest.fixture(scope="session")
def model() -> exactflash.Model:
    return exactflash.build_model(DEMO_MODEL)
