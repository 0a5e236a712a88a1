"""PostgreSQL from Debian's package: a server on loopback, in a folder of its own that is thrown away."""

import contextlib
import os
import pwd
import shutil
import signal
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tools.stage import Stage
from tools.watch import Trouble, Watch

PLAIN = {"PATH": os.defpath, "LC_ALL": "C"}


class Postgres:
    """Holds the server's folder until the block ends; a stage runs the server.

    :param missing: what to say where a program is missing.
    """

    def __init__(self, missing: str) -> None:
        self._initdb = program("initdb", missing)
        self._postgres = program("postgres", missing)
        self._owner = owner(missing)

    def __enter__(self) -> Self:
        # Not in this checkout, which the database's owner may not enter.
        self._folder = Path(tempfile.mkdtemp(prefix="airflow-incident-postgres-"))
        if self._owner:
            shutil.chown(self._folder, **self._owner)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._folder)

    def reserve(self, stage: Stage) -> None:
        """Choose the port."""
        self._port = stage.port(0)
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self._port}/postgres"

    def create(self, stage: Stage, watch: Watch) -> None:
        """Make the database, and start to serve it."""
        make = (self._initdb, "--username=airflow", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        stage.run("initdb", *make, self._folder / "data", **self._options())
        stage.await_errand(watch, "initdb", "PostgreSQL's folder is being made")
        self.start(stage, watch)

    def start(self, stage: Stage, watch: Watch) -> None:
        """Serve what is there."""
        # It is thrown away at the end, so it need not survive a loss of power.
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self._port),
            "unix_socket_directories": str(self._folder),
            "fsync": "off",
            "max_connections": "200",
        }
        serve = (self._postgres, "-D", self._folder / "data", *(f"--{name}={value}" for name, value in options.items()))
        # SIGTERM would wait for its clients: https://www.postgresql.org/docs/current/server-shutdown.html
        stage.run("postgres", *serve, end=signal.SIGINT, **self._options())
        stage.await_words(watch, "postgres", "ready to accept connections")

    def _options(self) -> dict[str, Any]:
        """Say as whom and where the programs run."""
        return {"cwd": self._folder, "env": PLAIN} | (self._owner | {"extra_groups": []} if self._owner else {})


def program(name: str, missing: str) -> Path:
    """Find a program; Debian keeps the database's out of the path."""
    debian = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    found = shutil.which(name) or (debian[-1] if debian else None)
    if found is None:
        raise Trouble(f"{missing} ({name} is not there)")
    return Path(found)


def owner(missing: str) -> dict[str, str]:
    """Say as whom the database is to run, if not as whoever runs this: it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    with contextlib.suppress(KeyError):
        return {"user": pwd.getpwnam("postgres").pw_name, "group": "postgres"}
    raise Trouble(f"{missing} (there is no user postgres, and PostgreSQL refuses to run as root)")
