"""`make package` builds wheel and sdist, checks both as PyPI does, and installs each where nothing of ours is.

What came with the wheel it writes down in build/bom: a CycloneDX document, and the licences.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email import message_from_bytes
from email.message import Message
from os import environ
from pathlib import Path

from readme_renderer import markdown

from tools.versions import NEWEST

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints" / f"airflow-{NEWEST}-release.txt"
"""What users of that release have; Airflow's own constraint file is like it."""
PINS = ROOT / "constraints" / f"airflow-{NEWEST}.txt"
"""Versions of our tools."""
BOM = ROOT / "build" / "bom"
LEADS = re.compile(r"https://|mailto:|#user-content-")
"""How a link must begin that leads somewhere from the page on PyPI; headings have the last one."""


def build(folder: Path, source: Path = ROOT) -> list[Path]:
    """Build the wheel, by way of an sdist, and that into an empty folder; return them in this order.

    https://hatch.pypa.io/latest/config/build/#reproducible-builds
    """
    shutil.rmtree(folder, ignore_errors=True)
    # Hatchling is installed here, pinned: nothing is fetched.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, source]
    # Without this variable each file has one date, Hatchling's own: only the source decides about the bytes.
    environment = {name: value for name, value in environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return sorted(folder.iterdir())


def differing(artifacts: list[Path], scratch: Path) -> list[str]:
    """Build them once more elsewhere, from the sdist; name those that come out with other bytes."""
    _, sdist = artifacts
    shutil.unpack_archive(sdist, scratch, filter="data")
    source = scratch / sdist.name.removesuffix(".tar.gz")
    (source / "PKG-INFO").unlink()  # written by the build
    again = build(scratch / "again", source)
    return [one.name for one, other in zip(artifacts, again, strict=True) if one.read_bytes() != other.read_bytes()]


def metadata_of(wheel: Path) -> Message:
    """Read what a wheel says of itself; its payload is the project's page on PyPI."""
    with zipfile.ZipFile(wheel) as opened:
        (name,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(opened.read(name))


def targets(wheel: Path) -> list[str]:
    """Render the page as PyPI does, which twine leaves out for Markdown; return what its links and pictures lead to."""
    page = markdown.render(metadata_of(wheel).get_payload()) or ""
    return re.findall(r'(?:href|src)="([^"]*)"', page)


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
    if artifact.suffix == ".whl":
        yield from take_stock(folder / "venv" / "bin" / "python", version, folder / "bom")


def take_stock(python: Path, version: str, folder: Path) -> Iterator[str]:
    """Write down what an environment has, and its licences; tell of one that pyproject.toml does not allow.

    :param folder: Where an environment is made for what writes it down.
    """
    venv.create(folder)
    lister = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", lister, "install", "--quiet"]
    subprocess.run([*pip, "--constraint", PINS, "--group", "bom"], cwd=ROOT, check=True)
    shutil.rmtree(BOM, ignore_errors=True)
    BOM.mkdir(parents=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip"], check=True)  # is no part of it
    file = BOM / f"airflow-incident-{version}.cdx.json"
    how = ["--pyproject", "pyproject.toml", "--mc-type", "library", "--output-reproducible", "--output-file", file]
    subprocess.run([lister, "-m", "cyclonedx_py", "environment", *how, python], cwd=ROOT, check=True)
    document = json.loads(file.read_text())
    # pyproject.toml leaves the version to the build.
    document["metadata"]["component"] |= {"version": version, "purl": f"pkg:pypi/airflow-incident@{version}"}
    file.write_text(json.dumps(document, indent=2) + "\n")
    licences = ["--python", python, "--output-file", BOM / "licences.md"]
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", *licences], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        yield f"{done.stderr.strip()}; if that is all right, allow it in pyproject.toml under [tool.pip-licenses]"


def main() -> int:
    """Build, check and try; say what is wrong."""
    artifacts = build(ROOT / "dist")
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *artifacts], check=True)
    with tempfile.TemporaryDirectory(prefix="airflow-incident-") as scratch, ThreadPoolExecutor() as threads:
        wrong = [f"{name} differs when it is built again" for name in differing(artifacts, Path(scratch, "source"))]
        wrong += [
            f"PyPI's page links to {it}, which is not there" for it in targets(artifacts[0]) if not LEADS.match(it)
        ]
        folders = [Path(scratch, str(number)) for number in range(len(artifacts))]
        for folder in folders:
            folder.mkdir()
        wrong += [line for found in threads.map(lambda *of: list(try_out(*of)), artifacts, folders) for line in found]
    print("\n".join(wrong or [f"{artifact.name} installs, and Airflow finds it" for artifact in artifacts]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
