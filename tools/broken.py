"""`make test-broken` breaks one compatibility line at a time; the matrix must notice each, or it watches nothing."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.matrix import ROOT, environment
from tools.versions import VERSIONS

NOTICED = {1, 2}
"""A test failed, or a module of tests could not even be read. https://docs.pytest.org/en/stable/reference/exit-codes.html"""


class Broken(NamedTuple):
    """A line that one Airflow needs, how it reads without that Airflow in mind, and the tests that must notice."""

    airflow: str
    file: str
    line: str
    instead: str
    tests: str


LINES = (
    Broken("2.11", "installation.py", 'if major >= 3 else ("webserver", "core")', "", "tests/test_installation.py"),
    Broken("2.11", "installation.py", "if self.major >= 3 else", "if True else", "tests/test_installation.py"),
    Broken("2.11", "core/pages.py", "if airflow < 3:", "if airflow < 2:", "tests/test_recovery.py"),
    Broken("2.11", "variables.py", ', "airflow.secrets.cache")', ",)", "tests/test_journal.py"),
    Broken("2.11", "variables.py", "if not _has_supervisor():", "if False:", "tests/test_journal.py"),
    Broken("2.11", "context.py", "ChainMap({}, known,", "ChainMap({}, dict(known),", "tests/test_oldest.py"),
    Broken(
        "2.11",
        "links.py",
        "airflow.providers.common.compat.sdk import Base",
        "airflow.sdk import Base",
        "tests/test_oldest.py",
    ),
    Broken(
        "2.11",
        "provider.py",
        "(PasswordField if option.secret else StringField)(",
        "StringField(",
        "tests/test_oldest.py",
    ),
    Broken("3.0", "terminal.py", 'os.environ[_CONTEXT] = "server"', "pass", "tests/test_tools_command.py"),
    Broken("3.0", "context.py", 'or peek(ti, "start_date") is not None', "", "tests/test_airflow_callbacks.py"),
    Broken("3.0", "context.py", "if _has_answers() else ()", "", "tests/test_contexts.py"),
    Broken("3.1", "variables.py", 'if not hasattr(_sdk(), "keys"):', "if False:", "tests/test_airflow_journal.py"),
    Broken("3.3", "provider.py", 'schema["format"] = "password"', "pass", "tests/test_provider.py"),
)


def notice(broken: Broken, python: Path) -> str | None:
    """Break the line in a copy, and run the tests there; return what is wrong if they do not notice."""
    with tempfile.TemporaryDirectory(prefix="airflow-incident-broken-") as folder:
        copy = Path(folder)
        for name in ("airflow_incident", "dags", "docs", "tests", "tools"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "README.md", "CHANGELOG.md"):
            shutil.copy(ROOT / name, copy / name)
        file = copy / "airflow_incident" / broken.file
        text = file.read_text()
        if text.count(broken.line) < 1:
            return f"{broken.file} has no such line any more: {broken.line}"
        file.write_text(text.replace(broken.line, broken.instead))
        ended = subprocess.run(
            [python, "-m", "pytest", "-qx", "--no-header", "-p", "no:cacheprovider", *broken.tests.split()],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": folder},
            check=False,
            capture_output=True,
            text=True,
        )
        if ended.returncode not in NOTICED:
            return f"the tests ended with exit {ended.returncode}\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
        found = [line for line in ended.stdout.splitlines() if line.startswith(("FAILED tests/", "ERROR tests/"))]
        print(f"      {found[0]}", flush=True)
        return None


def run(versions: list[str]) -> Iterator[bool]:
    """Break each line of these versions in turn, and tell what became of it."""
    for broken in LINES:
        if broken.airflow not in versions:
            continue
        print(f"{broken.airflow:5} {broken.file}: {broken.line.splitlines()[0]}", flush=True)
        python = environment(broken.airflow)
        trouble = python if isinstance(python, str) else notice(broken, python)
        if trouble:
            print(f"      NOT NOTICED: {trouble}", flush=True)
        yield trouble is None


def main() -> int:
    """Break every line, or those of some versions; all must be noticed."""
    parser = argparse.ArgumentParser(prog="python -m tools.broken", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(VERSIONS), choices=VERSIONS, help="these versions of Airflow")
    return 0 if all(list(run(parser.parse_args().only or list(VERSIONS)))) else 1


if __name__ == "__main__":
    sys.exit(main())
