"""The public names have the types that their users rely on."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import ROOT

CASES = sorted(file.stem for file in Path(__file__).parent.glob("[!_t]*.py"))


@pytest.mark.skipif(not find_spec("mypy"), reason="only the environment of `make lint` has mypy")
def test_the_types_of_the_public_names_are_these():
    """Each right use has its type and each wrong one is an error; one that is not makes its ignore an error."""
    assert CASES == ["callbacks", "hook", "steps"]
    modules = [part for case in CASES for part in ("--module", f"tests.typing.{case}")]
    mypy = [sys.executable, "-m", "mypy", *modules]
    ended = subprocess.run(mypy, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
