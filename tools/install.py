"""Make one virtual environment with this project, or another, and everything a command needs, at pinned versions."""

import pathlib
import subprocess
import sys
import time

from tools.watch import Trouble, Watch, perform

PROJECT = ("--editable", ".[sandbox]")
LIMIT = 1800
# So many packages are one more line where no live line can be shown.
STRIDE = 25
UNPACKED = "lib/*/site-packages/*.dist-info"


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
    return f"{folder} is ready after {time.monotonic() - began:.0f} s"


def progress(said: str, unpacked: int) -> str:
    """Tell from pip's words how many packages it has found, and then how many of them are unpacked."""
    found = said.count("\nCollecting ")
    _, is_unpacking, listed = said.partition("\nInstalling collected packages: ")
    if found < STRIDE:
        return ""
    if is_unpacking:
        return f": {unpacked // STRIDE * STRIDE} of {listed.count(',') + 1} unpacked"
    return f": {found // STRIDE * STRIDE} found"


def run(watch: Watch, folder: pathlib.Path, text: str, *command: str | pathlib.Path) -> None:
    """Run a command, and show how far pip is in it."""
    log = folder / "install.log"
    before = len(list(folder.glob(UNPACKED)))
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)

    def look() -> tuple[str, bool | None]:
        said, code = log.read_text(errors="replace"), process.poll()
        if code:
            raise Trouble(f"{text} failed (exit {code})", log)
        unpacked = len(list(folder.glob(UNPACKED))) - before
        return text + progress(said, unpacked), None if code is None else True

    try:
        watch.until(look, seconds=LIMIT, log=log)
    finally:
        process.terminate()  # where it has not ended by itself
        process.wait()


if __name__ == "__main__":
    sys.exit(perform(lambda watch: make(watch, pathlib.Path(sys.argv[1]), *sys.argv[2:])))
