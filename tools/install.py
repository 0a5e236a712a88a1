"""Make one virtual environment with this project, or another, and everything a command needs, at pinned versions."""

import pathlib
import subprocess
import sys
import time
import venv

PROJECT = ("--editable", ".[sandbox]")


def make(folder: pathlib.Path, constraints: str, group: str, *what: str) -> None:
    """Create `folder` afresh and install the project, or what else is named, with one dependency group into it."""
    began = time.monotonic()
    print(f"setting up {folder} (once, one to three minutes)", flush=True)
    venv.create(folder, with_pip=True)  # over an older one, which other commands may be using
    pip = [folder / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "-qq"]
    pip += ["--constraint", constraints]
    # The pip that a Python ships may be too old to know dependency groups (PEP 735).
    subprocess.run([*pip, "pip"], check=True)
    subprocess.run([*pip, "--group", group, *(what or PROJECT)], check=True)
    (folder / "ready").touch()
    print(f"{folder} is ready after {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    try:
        make(pathlib.Path(sys.argv[1]), *sys.argv[2:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip could not install what is needed (exit {error.returncode}); its message is above")
