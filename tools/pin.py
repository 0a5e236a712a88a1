"""Resolve the pinned versions of constraints/ anew, for Python 3.11 to 3.13.

For each Airflow the newest of everything, and what was the newest on the day of its release; once, the lowest we allow.
"""

import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.versions import LOWEST, NEWEST, VERSIONS, Version

OURS = ["--extra", "sandbox", "pyproject.toml"]


def newest(version: Version, *groups: str) -> tuple[list[str], list[str]]:
    """Take the newest with which this Airflow works, for us and the tools of dependency groups."""
    tools = [part for group in groups for part in ("--group", f"pyproject.toml:{group}")]
    return [f"apache-airflow=={version.airflow}", *version.bounds], [*OURS, *tools]


def release(version: Version) -> tuple[list[str], list[str]]:
    """Take what a release's users have: Airflow decides, and none of our bounds has a say."""
    wanted = [f"apache-airflow=={version.airflow}", "fastapi", "markdown-it-py", "pydantic", "uvicorn"]
    return wanted, ["--group", "pyproject.toml:release", *_on(version.released)]


def lowest(version: Version) -> tuple[list[str], list[str]]:
    """Take the lowest of what we ask for, and of the rest what the oldest Airflow came with."""
    how = ["--resolution", "lowest-direct", "--group", "pyproject.toml:release"]
    return [f"apache-airflow=={version.airflow}"], [*OURS, *how, *_on(version.released)]


def _on(day: str) -> list[str]:
    return ["--exclude-newer", f"{day}T23:59:59Z"]


# Only the newest has the tools for lint and docs.
TARGETS: dict[str, Callable[[], tuple[list[str], list[str]]]] = {
    **{
        f"airflow-{name}": partial(newest, v, *(("dev", "bom") if name == NEWEST else ("test",)))
        for name, v in VERSIONS.items()
    },
    **{f"airflow-{name}-release": partial(release, version) for name, version in VERSIONS.items()},
    **{name: partial(newest, VERSIONS[NEWEST], name) for name in ("celery", "peers")},
    "lowest": partial(lowest, LOWEST),
}
"""Constraints file to what is wanted in it, and how it is resolved."""


def resolve(name: str) -> None:
    """Write one constraints file, without addresses: where packages come from is the reader's business."""
    wanted, how = TARGETS[name]()
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--upgrade"]
    command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url", *how, "-"]
    file = Path("constraints", f"{name}.txt")
    given = "\n".join([*wanted, "pip>=25.1", ""])
    subprocess.run([*command, "--output-file", file], input=given, text=True, check=True)
    print(f"{file}: {len(file.read_text().splitlines())} packages")


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(TARGETS)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    for name in chosen:
        resolve(name)
