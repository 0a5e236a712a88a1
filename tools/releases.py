"""`make test-releases` installs the built wheel on what each Airflow's release had, and on the lowest we allow."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tools.matrix import ROOT, Row, find_python, run_tests, table
from tools.package import build, install
from tools.versions import LOWEST, VERSIONS, Version

HOME = ROOT / ".releases"
MARK = "mark.release"
TRIED = {name: (version, f"airflow-{name}-release") for name, version in VERSIONS.items()} | {
    "lowest": (LOWEST, "lowest")
}
"""Name of an environment to its Airflow and its constraints file."""


def try_out(name: str, wheel: Path) -> Row:
    """Make one environment without us, add the wheel, and run the tests marked for it, away from this checkout."""
    version, file = TRIED[name]
    constraints = ROOT / "constraints" / f"{file}.txt"
    folder = HOME / name
    shutil.rmtree(folder, ignore_errors=True)
    try:
        python = environment(folder / "venv", version, constraints)
        before = installed(python)
        install(python, wheel, constraints, "[sandbox]")
        subprocess.run([python, "-m", "pip", "check"], check=True, stdout=subprocess.DEVNULL)
    except (subprocess.CalledProcessError, LookupError) as error:
        return Row(version.airflow, version.python, trouble=str(error))
    if changed := before - installed(python):
        return Row(version.airflow, version.python, trouble=f"we have replaced {', '.join(sorted(changed))}")
    for part in ("tests", "dags", "docs"):
        shutil.copytree(ROOT / part, folder / part)
    shutil.copy(ROOT / "pyproject.toml", folder)
    marked = [str(test.relative_to(ROOT)) for test in ROOT.glob("tests/**/test_*.py") if MARK in test.read_text()]
    return run_tests(f"release-{name}", version, python, ["-m", "release", *marked], folder)


def environment(folder: Path, version: Version, constraints: Path) -> Path:
    """Make an environment with Airflow as its users have it, and what tests need; return its Python.

    :raises LookupError: if the Python for it is not there.
    """
    wanted = find_python(version.python)
    if wanted is None:
        raise LookupError(f"Python {version.python} is missing: install it, as python{version.python} on the PATH")
    command = [wanted, "-m", "tools.install", folder, constraints, "release", "apache-airflow"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder / "bin" / "python"


def installed(python: Path) -> set[str]:
    """List what is there, as name==version."""
    command = [python, "-m", "pip", "--disable-pip-version-check", "freeze"]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n"))


def main() -> int:
    """Try every environment, or those named; all must be green."""
    parser = argparse.ArgumentParser(prog="python -m tools.releases", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], choices=TRIED, help="these versions of Airflow, or the lowest")
    os.environ.pop("PYTHONPATH", None)  # the wheel is what is tried
    wheel, _ = build(ROOT / "dist")
    rows = [try_out(name, wheel) for name in parser.parse_args().only or TRIED]
    print("\n".join(table(rows)))
    return 0 if all(row.is_green for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
