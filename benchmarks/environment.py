"""The environment that is measured in: Airflow and the peers at pinned versions. This project is on its path only."""

import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".venv-peers"
CONSTRAINTS = ROOT / "constraints" / "peers.txt"


def python_with_peers() -> Path | None:
    """Return the environment's Python, after setting it up where that is still to do; None if it cannot be."""
    ready = FOLDER / "ready"
    if not ready.exists() or ready.stat().st_mtime < CONSTRAINTS.stat().st_mtime:
        print(f"setting up {FOLDER.name} (once, one to three minutes)", flush=True)
        try:
            _install()
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"{FOLDER.name} could not be set up: {error}")
            return None
        ready.touch()
    return FOLDER / "bin" / "python"


def _install() -> None:
    """Install what this project and its group `peers` ask for; not the project, or Airflow would load parts of it."""
    venv.create(FOLDER, with_pip=True, clear=True)
    pip = [FOLDER / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    pip += ["--constraint", CONSTRAINTS]
    # The pip that a Python ships may be too old to know dependency groups (PEP 735).
    subprocess.run([*pip, "pip"], cwd=ROOT, check=True)
    subprocess.run([*pip, "--group", "peers"], cwd=ROOT, check=True)
