"""A distributed Airflow on one machine: PostgreSQL, Redis, two Celery workers, and a folder for each component.

Everything is on loopback, at ports that are free. The components share what they would share over a network.
"""

import base64
import json
import secrets
import shutil
from pathlib import Path

from tools.loopback import API_KEY, Airflow
from tools.postgres import PLAIN, Postgres, program
from tools.stage import ROOT, START_LIMIT, Stage
from tools.watch import Trouble, Watch

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
WORKERS = ("worker-1", "worker-2")
SLOTS = 3
# Airflow's workers have no way to its database but the API server.
WITH_DATABASE = {"migrate", "connections", "journal", *COMPONENTS}
# Seconds until Airflow gives up a task whose worker is lost, and until Redis gives to another worker what was not done.
HEARTBEAT_TIMEOUT = 30
VISIBILITY_TIMEOUT = 60
DAGS = ROOT / "tools" / "distributed_dags"
MISSING = "make e2e-celery needs PostgreSQL and Redis. On Debian and Ubuntu: apt-get install postgresql redis-server"


class Cluster(Stage):
    """Holds what a distributed Airflow needs; when the block ends, all of it is gone but its logs."""

    def __init__(self, postgres: Postgres) -> None:
        super().__init__("distributed")
        self._postgres = postgres
        self._redis = program("redis-server", MISSING)
        self._shared = {
            "API__SECRET_KEY": secrets.token_hex(32),
            "API_AUTH__JWT_SECRET": secrets.token_hex(64),
            # Airflow encrypts Variables with it, and so the journal.
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        }

    def reserve(self) -> None:
        """Choose the ports, before there is any process."""
        self.airflow = f"http://127.0.0.1:{self.port(0)}"
        self._postgres.reserve(self)
        self._redis_port = self.port(0)

    def folder(self, name: str) -> Path:
        """Return a component's AIRFLOW_HOME: each has its own, with its own copy of the DAGs, as machines have."""
        folder = self.home / name
        if not folder.exists():
            shutil.copytree(DAGS, folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
        return folder

    def environment(self, name: str) -> dict[str, str]:
        """Say all that a component is told."""
        settings = self._shared | {
            "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "CORE__EXECUTION_API_SERVER_URL": f"{self.airflow}/execution/",
            "CORE__EXECUTOR": "CeleryExecutor",
            "CORE__LOAD_EXAMPLES": "False",
            "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "API__HOST": "127.0.0.1",
            "API__PORT": self.airflow.rpartition(":")[2],
            "API__BASE_URL": self.airflow,
            "CELERY__BROKER_URL": f"redis://127.0.0.1:{self._redis_port}/0",
            "CELERY__RESULT_BACKEND": f"db+{self._postgres.url}",
            "CELERY__WORKER_CONCURRENCY": str(SLOTS),
            "CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": str(VISIBILITY_TIMEOUT),
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(HEARTBEAT_TIMEOUT),
            "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "INCIDENT_IO__AUTO_OPEN": "True",
            "INCIDENT_IO__DEPLOYMENT": "distributed",
            "INCIDENT_IO__STORM_LIMIT": "0",
            "INCIDENT_IO__STORM_LIMIT_PER_DAG": "0",
            "USAGE_DATA_COLLECTION__ENABLED": "False",
        }
        if name in WITH_DATABASE:
            settings["DATABASE__SQL_ALCHEMY_CONN"] = self._postgres.url
        return self.told(self.folder(name), settings)

    def bring_up(self, watch: Watch, incident_io: str, dags: set[str]) -> Airflow:
        """Start everything; return when DAGs can be triggered.

        :param incident_io: address that the connection leads to.
        :param dags: IDs of the DAGs to wait for.
        """
        self._start_services(watch)
        self.start("migrate", "-m", "airflow", "db", "migrate")
        self.await_errand(watch, "migrate", "Airflow's database is being made")
        connection = json.dumps({"conn_type": "incident_io", "password": API_KEY, "host": incident_io})
        add = ("connections", "add", "incident_io_default", "--conn-json", connection)
        self.start("connections", "-m", "airflow", *add)
        self.await_errand(watch, "connections", "the connection is being stored")
        for name in COMPONENTS:
            # The log servers would listen on every interface; here the logs are files that all can read.
            quiet = ["--skip-serve-logs"] if name in {"scheduler", "triggerer"} else []
            self.start(name, "-m", "airflow", name, *quiet)
        for name in WORKERS:
            self.start(name, "-m", "airflow", "celery", "worker", "--skip-serve-logs", "--celery-hostname", name)
        return self._await_airflow(watch, dags)

    def _start_services(self, watch: Watch) -> None:
        self._postgres.create(self, watch)
        broker = ("--bind", "127.0.0.1", "--port", str(self._redis_port), "--save", "", "--dir", self.home)
        self.run("redis", self._redis, *broker, env=PLAIN)
        self.await_words(watch, "redis", "Ready to accept connections")

    def _await_airflow(self, watch: Watch, dags: set[str]) -> Airflow:
        airflow = Airflow(self.airflow)

        def look() -> tuple[str, bool | None]:
            self.check()
            unready = airflow.unready("triggerer")
            if unready is None or unready:
                return "Airflow is starting", None
            if trace := airflow.import_errors():
                raise Trouble(f"Airflow cannot import a DAG file:\n{trace}")
            return "Airflow reads the DAGs", True if dags <= airflow.dags() else None

        watch.until(look, seconds=START_LIMIT, log=self.log("api-server"), every=1)
        for name in WORKERS:
            self.await_words(watch, name, " ready.")
        return airflow
