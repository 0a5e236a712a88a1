"""`make e2e`: whether anything of ours harms a real Airflow, on every supported version.

In each, DAGs with odd IDs fail at every level, by missed deadlines and in an outage; then the API server is killed and
the database stopped while tasks fail. A neighbour's DAGs tell whether Airflow lives. `make watched`: see `watched`.
"""

import argparse
import signal
import subprocess
import sys
from pathlib import Path

from tools.e2e.play import DATABASES
from tools.matrix import ROOT
from tools.versions import NEWEST, OLDEST, VERSIONS

ON_SQLITE = (OLDEST, NEWEST)
"""The versions that are tried on SQLite, too."""
WATCHED = "watched"


def environment(name: str) -> Path | None:
    """Make the environment of one Airflow, if it is not there; return its Python."""
    folder = ".venv" if name == NEWEST else f".venv-{name}"
    made = subprocess.run(["make", "--no-print-directory", f"{folder}/ready"], cwd=ROOT, check=False)
    return None if made.returncode else ROOT / folder / "bin" / "python"


def session(name: str, database: str) -> int:
    """Have one session, the watcher's or with a database; return its exit code."""
    if (python := environment(name)) is None:
        return 1
    which = ["tools.e2e.watched"] if database == WATCHED else ["tools.e2e.play", "--database", database]
    process = subprocess.Popen([python, "-m", *which], cwd=ROOT)
    # A terminal's Ctrl-C reaches the session by itself; another signal is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number))
    return process.wait()


def main() -> int:
    """Have each session; all must end well."""
    parser = argparse.ArgumentParser(prog="python -m tools.e2e", description=__doc__)
    parser.add_argument("--only", nargs="*", default=list(VERSIONS), choices=VERSIONS, help="these versions of Airflow")
    parser.add_argument("--database", choices=DATABASES, help="default: PostgreSQL, and then SQLite with two of them")
    parser.add_argument("--watched", action="store_true", help="the watcher's session instead, with PostgreSQL")
    args = parser.parse_args()
    plan = [(name, database) for database in DATABASES for name in args.only or VERSIONS]
    if args.watched:
        plan = [(name, WATCHED) for name in args.only or VERSIONS]
    elif args.database:
        plan = [each for each in plan if each[1] == args.database]
    else:
        plan = [(name, database) for name, database in plan if database == DATABASES[0] or name in ON_SQLITE]
    ended = {}
    for each in plan:
        ended[each] = session(*each)
        if ended[each] > 128:  # noqa: PLR2004 -- a signal
            return ended[each]
    for (name, database), code in ended.items():
        print(f"Airflow {name:5} {database:11} {'FAILED' if code else 'passed'}")
    return 1 if any(ended.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
