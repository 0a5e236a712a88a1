"""Resolve the pinned versions of constraints/ anew: the newest of everything, for Python 3.11 to 3.13."""

import subprocess
import sys
from pathlib import Path

TARGETS = {
    "airflow-3.3": ("3.3.2", "dev"),
    "airflow-2.11": ("2.11.2", "oldest"),
    "celery": ("3.3.2", "celery"),
    "peers": ("3.3.2", "peers"),
}
"""Constraints file to the Airflow version and the dependency group that it is for."""


def resolve(name: str, airflow: str, group: str) -> None:
    """Write one constraints file, without addresses: where packages come from is the reader's business."""
    wanted = f"apache-airflow=={airflow}\npip>=25.1\n"
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal", "--upgrade"]
    command += ["--python-version", "3.11", "--no-header", "--no-annotate", "--no-emit-index-url"]
    command += ["--extra", "sandbox", "--group", f"pyproject.toml:{group}", "pyproject.toml", "-"]
    file = Path("constraints", f"{name}.txt")
    subprocess.run([*command, "--output-file", file], input=wanted, text=True, check=True)
    print(f"{file}: {len(file.read_text().splitlines())} packages")


if __name__ == "__main__":
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "uv"], check=True)
    for name, (airflow, group) in TARGETS.items():
        resolve(name, airflow, group)
