"""`make package` builds wheel and sdist, checks both as PyPI does, and installs each where nothing of ours is."""

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from os import environ
from pathlib import Path

from tools.versions import NEWEST

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints" / f"airflow-{NEWEST}-release.txt"
"""What users of that release have; Airflow's own constraint file is like it."""


def build(folder: Path) -> list[Path]:
    """Build an sdist, and the wheel of it, into an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    # Hatchling is installed here, pinned: nothing is fetched.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.iterdir())


def install(python: Path, artifact: Path, constraints: Path, extra: str = "") -> None:
    """Install an artifact by a file of requirements that names Airflow's constraints first, as MWAA has it."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.write(f"--constraint {constraints}\nairflow-incident{extra} @ {artifact.resolve().as_uri()}\n")
        requirements.flush()
        pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--requirement", requirements.name], check=True)


def try_out(artifact: Path, folder: Path) -> Iterator[str]:
    """Install one artifact with Airflow's constraints into a new environment; tell what Airflow then misses."""
    venv.create(folder / "venv", with_pip=True)
    here = environ | {"AIRFLOW_HOME": str(folder), "PATH": f"{folder / 'venv' / 'bin'}:{environ['PATH']}"}
    here.pop("PYTHONPATH", None)

    def ask(*command: str) -> str:
        done = subprocess.run(command, cwd=folder, env=here, check=False, capture_output=True, text=True)
        return done.stdout if done.returncode == 0 else f"exit {done.returncode}: {done.stdout}{done.stderr}"

    install(folder / "venv" / "bin" / "python", artifact, CONSTRAINTS)
    version = artifact.name.removesuffix(".tar.gz").split("-")[1]
    for expected, *command in (
        ("No broken requirements", "pip", "check"),
        (version, "airflow-incident", "--version"),
        ("airflow-incident", "airflow", "providers", "list", "--output", "plain"),
        ("incident_io", "airflow", "plugins", "--output", "plain"),
    ):
        if expected not in (told := ask(*command)):
            yield f"{artifact.name}: `{' '.join(command)}` does not tell of {expected!r}:\n{told}"


def main() -> int:
    """Build, check and try; say what is wrong."""
    artifacts = build(ROOT / "dist")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *artifacts], check=True)
    with tempfile.TemporaryDirectory(prefix="airflow-incident-") as scratch, ThreadPoolExecutor() as threads:
        folders = [Path(scratch, str(number)) for number in range(len(artifacts))]
        for folder in folders:
            folder.mkdir()
        wrong = [line for found in threads.map(lambda *of: list(try_out(*of)), artifacts, folders) for line in found]
    print("\n".join(wrong or [f"{artifact.name} installs, and Airflow finds it" for artifact in artifacts]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
