"""One real Airflow, a database that can go away, and a supervisor that restarts what ends and remembers it."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import psutil

from tools import keeper
from tools.e2e.names import IDS
from tools.e2e.verdict import OF_DATABASE, Ending, Leftover
from tools.loopback import API_KEY, Airflow, Airflow2
from tools.postgres import Postgres
from tools.stage import AIRFLOW, IS_AIRFLOW_2, ROOT, START_LIMIT, WEB, Stage
from tools.watch import Watch

HERE = ROOT / "tools" / "e2e"
OURS = f"{ROOT / 'airflow_incident'}{os.sep}"
TRACEBACK = "Traceback (most recent call last)"
NEIGHBOUR = {"neighbour_waits", "neighbour_works"}
SLOTS = 16
DEADLINE = 15
"""Seconds from a run's logical date to its deadline."""
RESTARTS = 10
"""How often a component is started anew that ends for no reason of Airflow's own."""
RESTART_AFTER = 3
WORKING, PARSING = 20, 60
"""Seconds that a process with work to do, and one that reads a DAG file, may live while no run goes on."""


class Installation(Stage):
    """Holds Airflow's components; when the block ends, all of it is gone but its logs."""

    def __init__(self, postgres: Postgres | None, name: str = "") -> None:
        self.version = version("apache-airflow")
        self.database = "postgresql" if postgres else "sqlite"
        super().__init__(f"e2e/{'.'.join(map(str, AIRFLOW))}-{name or self.database}")
        self._postgres = postgres
        # On SQLite, Airflow 2 has no DAG processor of its own, and runs one task at a time.
        self.is_serial = IS_AIRFLOW_2 and postgres is None
        processor = () if self.is_serial else ("dag-processor",)
        self.components = (WEB, "scheduler", *processor, "triggerer")
        self.starts: Counter[str] = Counter()
        self.endings: list[Ending] = []
        self.is_shaken = False
        """Whether the database is away, or was until a moment ago: then Airflow's components end by themselves."""
        self._sessions: dict[int, str] = {}
        self._due: dict[str, float] = {}

    def reserve(self) -> None:
        """Choose the ports."""
        self.airflow = self.sandbox = f"http://127.0.0.1:{self.port(0)}"
        if self._postgres:
            self._postgres.reserve(self)

    def _dags(self) -> Path:
        self.words = self.home / "words"
        self.words.mkdir()
        folder = self.home / "dags"
        folder.mkdir()
        shutil.copy(HERE / "dags" / "neighbour.py", folder)
        self.write_dags(folder)
        return folder

    def write_dags(self, folder: Path) -> None:
        """Put there what is to fail."""
        for name in IDS:
            shutil.copy(HERE / "dags" / "family.py", folder / f"{name}.py")

    def awaited(self, refused: set[str]) -> set[str]:
        """Name the DAGs that are to be known before anything begins."""
        return {IDS[name] for name in IDS if name not in refused}

    def environment(self, name: str) -> dict[str, str]:
        """Say all that a process is told; the connection is in the database."""
        log = "{{ ti.dag_id }}/{{ ti.run_id }}/{{ ti.task_id }}/attempt={{ try_number|default(ti.try_number) }}.log"
        settings = {
            "CORE__EXECUTOR": "SequentialExecutor" if self.is_serial else "LocalExecutor",
            "CORE__PARALLELISM": str(SLOTS),
            "API__WORKERS": "1",
            "DAG_PROCESSOR__PARSING_PROCESSES": "2",
            "INCIDENT_IO__DEPLOYMENT": "e2e",
            "INCIDENT_IO__STORM_LIMIT": "0",
            "INCIDENT_IO__STORM_LIMIT_PER_DAG": "0",
            # A folder whose name begins with `dag_id=` has no room for an ID of 250 characters.
            "LOGGING__LOG_FILENAME_TEMPLATE": log,
            "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "15",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "40",
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "15",
            "WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
            # Airflow 2: the same, in its words.
            "SCHEDULER__PARSING_PROCESSES": "2",
            "SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "40",
            "SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "5",
            "SCHEDULER__STANDALONE_DAG_PROCESSOR": str(not self.is_serial),
            # It ends itself when, on a busy machine, its master takes too long.
            "WEBSERVER__WEB_SERVER_MASTER_TIMEOUT": "600",
        }
        if self._postgres:
            settings["DATABASE__SQL_ALCHEMY_CONN"] = self._postgres.url
        told = super().environment(name) | self.told(self.home, settings)
        del told["AIRFLOW_CONN_INCIDENT_IO_DEFAULT"]
        return told | {
            "E2E_WORDS": str(self.words),
            "E2E_DEADLINE": str(DEADLINE),
            "E2E_STACKS": str(self.home / "stacks.txt"),
            # Airflow 2 starts `airflow` for a task.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), told["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(HERE / "site"), str(ROOT)]),
        }

    def bring_up(self, watch: Watch, incident_io: str) -> tuple[Airflow, dict[str, str]]:
        """Start everything; return when DAGs can be triggered, with the IDs that Airflow refuses and why.

        :param incident_io: address that the connection leads to.
        """
        if self._postgres:
            self._postgres.create(self, watch)
        self.start("migrate", "-m", "airflow", "db", "migrate")
        self.await_errand(watch, "migrate", "Airflow's database is being made")
        connection = json.dumps({"conn_type": "incident_io", "password": API_KEY, "host": incident_io})
        add = ("connections", "add", "incident_io_default", "--conn-json", connection)
        self.start("connections", "-m", "airflow", *add)
        for name in self.components:
            self.start_component(name)
        self.await_errand(watch, "connections", "the connection is being stored")
        airflow = (Airflow2 if IS_AIRFLOW_2 else Airflow)(self.airflow)

        def look() -> tuple[str, dict[str, str] | None]:
            self.check()
            if (unready := airflow.unready("triggerer")) is None or unready:
                return "Airflow is starting", None
            known = airflow.dags()
            broken = {Path(file).stem: trace.strip().splitlines()[-1] for file, trace in airflow.broken_files().items()}
            refused = {name: why for name, why in broken.items() if name in IDS}
            return "Airflow reads the DAGs", refused if known >= NEIGHBOUR | self.awaited(set(refused)) else None

        return airflow, watch.until(look, seconds=START_LIMIT, log=self.log("scheduler"), every=1)

    def start_component(self, name: str) -> None:
        """Start one of Airflow's components, and keep the log of the one before."""
        if self.starts[name]:
            self.log(name).rename(self.log(f"{name}.{self.starts[name]}"))
        # The log servers would listen on every interface; here the logs are files that all can read.
        quiet = ["--skip-serve-logs"] if name in {"scheduler", "triggerer"} else []
        self.start(name, "-m", "airflow", name, *quiet)
        self._sessions[self.processes[name].pid] = name
        self.starts[name] += 1

    def tend(self) -> None:
        """Note which components have ended by themselves, and start them anew after a moment, as a supervisor does."""
        for name in self.components:
            process = self.processes.get(name)
            if process is not None and process.poll() is not None:
                del self.processes[name]
                self.endings.append(Ending(name, process.returncode, self.is_shaken, *self._reason(name)))
                self._due[name] = time.monotonic() + RESTART_AFTER
        if self.has_database():
            for name in [name for name, due in self._due.items() if due < time.monotonic()]:
                del self._due[name]
                if sum(each.name == name and not each.is_shaken for each in self.endings) <= RESTARTS:
                    self.start_component(name)

    def check(self) -> None:
        """Look after the components; that one has ended is no reason to stop here."""
        self.tend()

    def revive(self, name: str) -> None:
        """End what trouble with the database left hanging, as whoever probes for life does, and start it again.

        Airflow's scheduler stops by itself then, and its LocalExecutor may wait for a worker for ever.
        """
        ending = Ending(name, -signal.SIGKILL, self.is_shaken, *self._reason(name, about=OF_DATABASE))
        self.kill(name)
        self.endings.append(ending)
        self.start_component(name)

    def _reason(self, name: str, about: re.Pattern[str] | None = None) -> tuple[str, bool]:
        """Read from a component's log what ended it, and whether our code was under way.

        :param about: What its traceback must speak of, if another one can have come after it.
        """
        traces = self.log(name).read_text(errors="replace").split(TRACEBACK)[1:]
        trace = next((trace for trace in reversed(traces) if about is None or about.search(trace)), "")
        raised = re.findall(r"^[\w.]+(?:Error|Exception|Exit)\b.*", trace, re.MULTILINE)
        return raised[0][:160] if raised else "no exception in its log", OURS in trace

    def has_database(self) -> bool:
        """Return whether the database is there."""
        return not self._postgres or "postgres" in self.processes

    @contextlib.contextmanager
    def no_database(self, watch: Watch) -> Iterator[None]:
        """Let the database be away while the block lasts: ended at once, or, a file, locked."""
        self.is_shaken = True
        if self._postgres:
            self.end("postgres", signal.SIGQUIT)
            yield
            self._postgres.start(self, watch)
        else:
            with contextlib.closing(
                sqlite3.connect(self.home / "airflow.db", timeout=30, isolation_level=None)
            ) as file:
                file.execute("BEGIN EXCLUSIVE")
                yield

    def overdue(self) -> list[psutil.Process]:
        """List the processes that should have ended now that no run goes on."""
        return [each for leader, name in self._sessions.items() for each in self._overdue(leader, name)]

    def _overdue(self, leader: int, name: str) -> list[psutil.Process]:
        """List what lives too long below a component, or after it."""
        alive = name in self.processes and self.processes[name].pid == leader
        if alive and name == WEB:
            return []
        least = 1 if name == "dag-processor" else 2
        limit = PARSING if name == "dag-processor" else WORKING
        found = []
        for process in keeper.find([leader]):
            with contextlib.suppress(psutil.Error):
                deep = depth(process, leader)
                old = time.time() - process.create_time() > limit
                if not alive or (old and (deep is None or deep >= least)):
                    found.append(process)
        return found

    def ask(self, process: psutil.Process) -> Leftover:
        """Ask a process where it stands; see site/sitecustomize.py."""
        component = "Airflow"
        stacks = self.home / "stacks.txt"
        before = stacks.stat().st_size
        with contextlib.suppress(psutil.Error, OSError):
            component = self._sessions.get(os.getsid(process.pid), component)
            process.send_signal(signal.SIGUSR1)
        time.sleep(0.5)
        with stacks.open() as file:
            file.seek(before)
            return Leftover(component, process.pid, file.read())


def depth(process: psutil.Process, leader: int) -> int | None:
    """Count the generations from a component to a process; None if it has lost its parent."""
    for generation, each in enumerate([process, *process.parents()]):
        if each.pid == leader:
            return generation
    return None
