"""Resolve the pinned versions of constraints/ anew: the newest of everything, for Python 3.11 to 3.13."""

import subprocess
import sys
from pathlib import Path

from tools.versions import NEWEST, VERSIONS, Version

# Only the newest has the tools for lint and docs.
TARGETS = {f"airflow-{name}": (version, "dev" if name == NEWEST else "test") for name, version in VERSIONS.items()}
TARGETS |= {name: (VERSIONS[NEWEST], name) for name in ("celery", "peers")}
"""Constraints file to the Airflow and the dependency group that it is for."""


def resolve(name: str, version: Version, group: str) -> None:
    """Write one constraints file, without addresses: where packages come from is the reader's business."""
    wanted = "\n".join([f"apache-airflow=={version.airflow}", "pip>=25.1", *version.bounds, ""])
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--upgrade"]
    command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--extra", "sandbox", "--group", f"pyproject.toml:{group}", "pyproject.toml", "-"]
    file = Path("constraints", f"{name}.txt")
    subprocess.run([*command, "--output-file", file], input=wanted, text=True, check=True)
    print(f"{file}: {len(file.read_text().splitlines())} packages")


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(TARGETS)
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    for name in chosen:
        resolve(name, *TARGETS[name])
