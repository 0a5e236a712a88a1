"""What the demo asks Airflow and the sandbox, over their public REST APIs on 127.0.0.1."""

import contextlib
import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

# A proxy of the caller's environment does not reach this machine's loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

API_KEY = "sandbox-key"


def call(url: str, *, token: str = "", body: dict[str, Any] | None = None, method: str | None = None) -> Any:
    """Send one request, a POST where there is a body, and return the decoded answer; failures are OSErrors."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"  # Airflow 2 refuses it without a body
        data = json.dumps(body).encode()
    with _opener.open(urllib.request.Request(url, data, headers, method=method), timeout=5) as answer:
        return json.loads(answer.read() or "{}")


def incidents(sandbox: str) -> list[dict[str, Any]] | None:
    """List the sandbox's incidents; None while it does not answer."""
    with contextlib.suppress(OSError):
        return call(f"{sandbox}/v1/incidents?page_size=250", token=API_KEY)["incidents"]
    return None


class Airflow:
    """Airflow's REST API, each answer None while there is none.

    https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
    """

    root = "api/v2"
    needed = ("scheduler", "dag_processor")
    latest_first = "-run_after"

    def __init__(self, url: str) -> None:
        self.url = url
        self._token = ""

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> Any:
        """Call a path of the API. SQLite is soon overtaxed: an Airflow that refuses now may not in a moment."""
        with contextlib.suppress(OSError):
            return call(f"{self.url}/{self.root}/{path}", token=self.token(), body=body, method=method)
        return None

    def token(self) -> str:
        """Get a token; simple auth manager, all are admins: whoever asks gets one."""
        self._token = self._token or call(f"{self.url}/auth/token")["access_token"]
        return self._token

    def new_run(self, run_id: str) -> dict[str, Any]:
        """Say which run is to be triggered."""
        return {"dag_run_id": run_id, "logical_date": None}

    def health(self) -> Any:
        """Ask how the components are."""
        return self.ask("monitor/health")

    def unready(self, *more: str) -> list[str] | None:
        """Name the components that are not healthy yet, of those that always run and these."""
        health = self.health()
        return health and [name for name in (*self.needed, *more) if health[name]["status"] != "healthy"]

    def dags(self) -> set[str]:
        """Name the DAGs that Airflow knows."""
        return {dag["dag_id"] for dag in (self.ask("dags") or {"dags": []})["dags"]}

    def import_errors(self) -> str:
        """Return the stack traces of DAG files that cannot be imported."""
        return "\n".join(f"{file}: {trace}" for file, trace in self.broken_files().items())

    def broken_files(self) -> dict[str, str]:
        """Return the stack trace of each DAG file that cannot be imported."""
        found = (self.ask("importErrors") or {"import_errors": []})["import_errors"]
        return {error["filename"]: error["stack_trace"] for error in found}

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """Return the run, triggered at the first call."""
        return self.ask(self._path(dag_id, run_id)) or self.trigger(dag_id, run_id)

    def trigger(self, dag_id: str, run_id: str, **more: Any) -> dict[str, Any] | None:
        """Trigger a run; again with the same ID, after an answer that got lost, is refused and so harmless."""
        return self.ask(self._path(dag_id), self.new_run(run_id) | more)

    def clear(self, dag_id: str, run_id: str) -> Any:
        """Clear a run's tasks, so that they are run again."""
        return self.ask(f"{self._path(dag_id, run_id)}/clear", {"dry_run": False})

    def mark(self, dag_id: str, run_id: str, state: str) -> Any:
        """Put a run into a state by hand."""
        return self.ask(self._path(dag_id, run_id), {"state": state}, "PATCH")

    def delete(self, dag_id: str, run_id: str) -> Any:
        """Delete a run."""
        return self.ask(self._path(dag_id, run_id), method="DELETE")

    @staticmethod
    def _path(dag_id: str, *run_id: str) -> str:
        """Say where a DAG's runs are, or one of them."""
        return "/".join(("dags", quote(dag_id, safe=""), "dagRuns", *(quote(each, safe="") for each in run_id)))

    def runs(self) -> dict[str, dict[str, Any]] | None:
        """Return the latest hundred runs by their IDs."""
        answer = self.ask(f"dags/~/dagRuns?limit=100&order_by={self.latest_first}")
        return answer and {run["dag_run_id"]: run for run in answer["dag_runs"]}

    def tasks(self, query: str = "limit=100") -> list[dict[str, Any]] | None:
        """List task instances of all runs, a hundred at most."""
        answer = self.ask(f"dags/~/dagRuns/~/taskInstances?{query}")
        return answer and answer["task_instances"]

    def failed_tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]] | None:
        """List the run's task instances that failed by themselves."""
        answer = self.ask(f"{self._path(dag_id, run_id)}/taskInstances")
        return answer and [task for task in answer["task_instances"] if task["state"] == "failed"]

    def raised_at(self, task: dict[str, Any]) -> str:
        """Tell when the task raised its exception, by its log; Airflow records its end after its callbacks."""
        path = "dags/{dag_id}/dagRuns/{dag_run_id}/taskInstances/{task_id}/logs/{try_number}?map_index={map_index}"
        lines = (self.ask(path.format_map(task)) or {"content": []})["content"]
        return next((line["timestamp"] for line in lines if "error_detail" in line), task["end_date"])


class Airflow2(Airflow):
    """The same of Airflow 2, which lets in whoever asks, as its webserver_config.py says.

    https://airflow.apache.org/docs/apache-airflow/2.11.2/stable-rest-api-ref.html
    """

    root = "api/v1"
    needed = ("scheduler",)
    latest_first = "-execution_date"

    def token(self) -> str:
        """Need no token."""
        return ""

    def new_run(self, run_id: str) -> dict[str, Any]:
        """Say which run is to be triggered; it has a logical date, always."""
        return {"dag_run_id": run_id}

    def health(self) -> Any:
        """Ask how the components are."""
        return self.ask("health")

    def raised_at(self, task: dict[str, Any]) -> str:
        """Tell when the task failed; Airflow 2 records that before its callbacks."""
        return str(task["end_date"])
