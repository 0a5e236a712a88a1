"""Make one virtual environment with this project, or another, and everything a command needs, at pinned versions."""

import pathlib
import subprocess
import sys
import time

from tools.watch import Trouble, Watch, perform

PROJECT = ("--editable", ".[sandbox]")
LIMIT = 1800
# So many packages found are one more line where no live line can be shown.
STRIDE = 25


def make(watch: Watch, folder: pathlib.Path, constraints: str, group: str, *what: str) -> str:
    """Create `folder` afresh and install the project, or what else is named, with one dependency group into it."""
    began = time.monotonic()
    watch.say(f"setting up {folder} (once, one to three minutes)")
    folder.mkdir(parents=True, exist_ok=True)
    run(watch, folder, "making an empty environment", sys.executable, "-m", "venv", folder)  # others may be using it
    pip = (
        folder / "bin" / "python",
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--constraint",
        constraints,
    )
    # The pip that a Python ships may be too old to know dependency groups (PEP 735).
    run(watch, folder, "updating pip", *pip, "pip")
    run(watch, folder, "installing packages", *pip, "--group", group, *(what or PROJECT))
    (folder / "ready").touch()
    return f"{folder} is ready after {time.monotonic() - began:.0f} s"


def run(watch: Watch, folder: pathlib.Path, text: str, *command: str | pathlib.Path) -> None:
    """Run a command, and show how far pip is in it."""
    log = folder / "install.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def look() -> tuple[str, bool | None]:
        said, code = log.read_text(errors="replace"), process.poll()
        if code:
            raise Trouble(f"{text} failed (exit {code})", log)
        found = said.count("\nCollecting ") // STRIDE * STRIDE
        doing = ": unpacking" if "\nInstalling collected" in said else f": {found} found" if found else ""
        return text + doing, None if code is None else True

    try:
        watch.until(look, seconds=LIMIT, log=log)
    finally:
        process.terminate()  # where it has not ended by itself
        process.wait()


if __name__ == "__main__":
    sys.exit(perform(lambda watch: make(watch, pathlib.Path(sys.argv[1]), *sys.argv[2:])))
