"""`make test-matrix` runs both tiers of tests on every supported Airflow, each in an environment of its own."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

from tools.versions import VERSIONS, Version

ROOT = Path(__file__).resolve().parent.parent
REPORTS = ROOT / ".matrix"
TIERS = {
    "alone": ["-m", "not airflow", "--numprocesses", "auto", "--dist", "worksteal"],
    "airflow": ["-m", "airflow"],
}
"""What `make test` and `make test-airflow` run, and how."""
NOTHING_TO_RUN = 5
"""https://docs.pytest.org/en/stable/reference/exit-codes.html"""


class Row(NamedTuple):
    """What became of one Airflow."""

    airflow: str
    python: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    minutes: float = 0.0
    trouble: str = ""

    @property
    def is_green(self) -> bool:
        """Whether the suite ran there and nothing failed."""
        return not self.trouble and not self.failed and self.passed > 0

    def and_then(self, other: "Row") -> "Row":
        """Add what became of more tests on the same Airflow."""
        return Row(
            self.airflow,
            self.python,
            self.passed + other.passed,
            self.failed + other.failed,
            self.skipped + other.skipped,
            self.minutes + other.minutes,
            self.trouble or other.trouble,
        )


def find_python(minor: str) -> str | None:
    """Find a Python by its name, or among pyenv's, whose shims answer only for the version that is chosen."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates = [shutil.which(f"python{minor}"), *pyenv.glob(f"versions/{minor}.*/bin/python")]
    return next((str(python) for python in candidates if python and _is(python, minor)), None)


def _is(python: str | Path, minor: str) -> bool:
    asks = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    told = subprocess.run([python, "-c", asks], capture_output=True, text=True, check=False)
    return told.stdout.strip() == minor


def environment(name: str) -> Path | str:
    """Make the environment of one Airflow, if it is not there; return its Python, or what is in the way."""
    wanted = VERSIONS[name].python
    folder = ROOT / f".venv-{name}"
    mine = folder / "bin" / "python"
    python = find_python(wanted)
    if python is None:
        return f"Python {wanted} is missing: install it, as python{wanted} on the PATH"
    if mine.exists() and not _is(mine, wanted):
        shutil.rmtree(folder)
    made = subprocess.run(["make", "--no-print-directory", f".venv-{name}/ready", f"PYTHON={python}"], check=False)
    return f"the environment could not be made (exit {made.returncode})" if made.returncode else mine


def run(name: str, tests: list[str]) -> Row:
    """Run the suite, or some tests, on one Airflow."""
    version = VERSIONS[name]
    python = environment(name)
    if isinstance(python, str):
        return Row(version.airflow, version.python, trouble=python)
    first, *others = (run_tests(f"{name}-{tier}", version, python, [*how, *tests]) for tier, how in TIERS.items())
    return reduce(Row.and_then, others, first)


def run_tests(name: str, version: Version, python: Path, tests: list[str], folder: Path = ROOT) -> Row:
    """Run tests that lie in a folder by one Python; count how they ended."""
    REPORTS.mkdir(exist_ok=True)
    report = REPORTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    ended = subprocess.run([python, "-m", "pytest", f"--junitxml={report}", *tests], cwd=folder, check=False)
    minutes = (time.monotonic() - began) / 60
    if not report.exists():
        return Row(
            version.airflow, version.python, minutes=minutes, trouble=f"pytest gave no report (exit {ended.returncode})"
        )
    suite = ET.parse(report).getroot()[0]
    ran, failed, errors, skipped = (int(suite.get(what, 0)) for what in ("tests", "failures", "errors", "skipped"))
    unexplained = ended.returncode not in {0, NOTHING_TO_RUN} and not failed + errors
    trouble = f"pytest ended with exit {ended.returncode}" if unexplained else ""
    passed = ran - failed - errors - skipped
    return Row(version.airflow, version.python, passed, failed + errors, skipped, minutes, trouble)


def table(rows: list[Row]) -> Iterator[str]:
    """Show what became of each."""
    yield f"\n{'Airflow':9}{'Python':8}{'passed':>7}{'failed':>8}{'skipped':>9}{'minutes':>9}"
    for row in rows:
        numbers = f"{row.passed:7}{row.failed:8}{row.skipped:9}{row.minutes:9.1f}"
        yield f"{row.airflow:9}{row.python:8}{numbers}{'  ' + row.trouble if row.trouble else ''}"


def main() -> int:
    """Run every row, or those named; all must be green."""
    parser = argparse.ArgumentParser(prog="python -m tools.matrix", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(VERSIONS), choices=VERSIONS, help="these versions of Airflow")
    parser.add_argument("tests", nargs="*", default=[], help="what pytest is given; default: the whole suite")
    args = parser.parse_args()
    rows = [run(name, args.tests) for name in args.only or VERSIONS]
    print("\n".join(table(rows)))
    return 0 if all(row.is_green for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
