"""One session with the Airflow of this environment."""

import argparse
import contextlib
import functools
import sys
import time

from airflow_incident.sandbox.server import Sandbox
from tools.e2e.course import Course
from tools.e2e.installation import Installation
from tools.postgres import Postgres
from tools.watch import Trouble, Watch, perform
from tools.wire import Wire

DATABASES = ("postgresql", "sqlite")
MISSING = "make e2e needs PostgreSQL, or DATABASE=sqlite. On Debian and Ubuntu: apt-get install postgresql"


def play(watch: Watch, *, database: str) -> str:
    """Set everything up, let it happen, clear it away and return the verdict."""
    began = time.monotonic()
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(Postgres(MISSING)) if database == "postgresql" else None
        box = stack.enter_context(Sandbox())
        wire = stack.enter_context(Wire(box.port))
        installation = stack.enter_context(Installation(postgres))
        try:
            seen = Course(installation, watch, box, wire).go()
        finally:
            watch.show("Airflow is stopping")
    title = f"Airflow {installation.version} on {database}"
    watch.say("\n".join(["", title, *seen.table(), f"all of it: {time.monotonic() - began:.0f} s"]))
    if wrong := seen.wrong():
        raise Trouble("\n".join(["", *wrong, f"{title}: {len(wrong)} wrong; the logs are in {installation.home}"]))
    return f"{title}: nothing of ours has harmed it"


def main() -> int:
    """Read which database, and play."""
    parser = argparse.ArgumentParser(prog="python -m tools.e2e.play", description=__doc__)
    parser.add_argument("--database", choices=DATABASES, default=DATABASES[0], help="default: %(default)s")
    return perform(functools.partial(play, **vars(parser.parse_args())))


if __name__ == "__main__":
    sys.exit(main())
