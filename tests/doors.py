"""What the fault, context and law tests share: contexts, a server that follows a script, and an ear on every logger."""

import asyncio
import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Self

from airflow_incident import open_incident
from airflow_incident.sandbox.fault import read_request
from airflow_incident.sandbox.fault_answers import answer

API_KEY = "inc_4f1c9b7e2dKEYa80"
"""A key that occurs nowhere by chance."""

CREATED = json.dumps(
    {"incident": {"id": "01HSCRIPT", "reference": "INC-7", "name": "x", "status": "triage", "permalink": "http://x/7"}}
).encode()


def use_store(monkeypatch: Any, texts: Any) -> Any:
    """Let every door keep its records in a store."""
    monkeypatch.setattr("airflow_incident.delivery.run.Variables", lambda: texts)
    return texts


def forget_process() -> None:
    """Let this process have met no outage and spent no time."""
    from airflow_incident.airflow_bridge.process import PROCESS  # a test counts what else is loaded

    PROCESS.reset()


def dag_context(run_id: str = "run-1", dag_id: str = "orders", **more: Any) -> dict[str, Any]:
    """Build the poorest context of a DAG's callback."""
    return {"dag": SimpleNamespace(dag_id=dag_id), "run_id": run_id, "reason": "task_failure"} | more


def task_context(run_id: str = "run-1", dag_id: str = "orders", *, clear: int = 0, **more: Any) -> dict[str, Any]:
    """Build the context of a task's callback; `more` also replaces attributes of the task instance."""
    names = ("task_id", "map_index", "try_number", "max_tries", "state")
    of_ti = {name: more.pop(name) for name in names if name in more}
    defaults = {"task_id": "load", "map_index": -1, "try_number": 1, "max_tries": 0}
    ti = SimpleNamespace(dag_id=dag_id, run_id=run_id, **(defaults | of_ti))
    run = SimpleNamespace(dag_id=dag_id, run_id=run_id, clear_number=clear, run_type="manual")
    dag = SimpleNamespace(dag_id=dag_id)
    exception = ValueError("boom")
    return {"dag": dag, "dag_run": run, "ti": ti, "run_id": run_id, "exception": exception} | more


def succeeded(context: dict[str, Any]) -> dict[str, Any]:
    """Make of a failure's context what Airflow gives the callbacks of a success."""
    if "reason" in context:
        return context | {"reason": "success"}
    ti = SimpleNamespace(**vars(context["ti"]) | {"state": "success"})
    return {name: value for name, value in context.items() if name != "exception"} | {"ti": ti}


def dag_named(title: str) -> str:
    """Return the id of the DAG in an incident's own title, whether its callback or a task's has told."""
    return title.removeprefix("DAG ").partition(" failed")[0]


def call_sync(notifier: Any, context: Any) -> None:
    """Call as a task's process and the DAG processor do."""
    assert notifier(context) is None


def call_async(notifier: Any, context: Any) -> None:
    """Call as the triggerer does."""
    asyncio.run(notifier.async_notify(context))


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Run calls in threads of their own, as close together as can be."""
    gate = threading.Barrier(len(calls))
    errors: list[BaseException] = []

    def run(call: Callable[[], object]) -> None:
        gate.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- told below
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


class Heard(logging.Handler):
    """Every record of every logger, in order."""

    def __init__(self) -> None:
        super().__init__(level=logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def ours(self) -> list[logging.LogRecord]:
        """Records of this package."""
        return [r for r in self.records if r.name.partition(".")[0] == "airflow_incident"]

    @property
    def everything(self) -> str:
        """All that was logged at any level by anyone, with tracebacks."""
        return "\n".join(map(logging.Formatter("%(name)s %(message)s").format, self.records))

    def texts(self, level: int = logging.WARNING) -> list[str]:
        """Our messages from a level on."""
        return [r.getMessage() for r in self.ours if r.levelno >= level]

    def sole(self, level: int, *, logger: str = "airflow_incident.notifications") -> str:
        """Return the only message from `level` on; fail unless it is one line that any log file can hold."""
        found = [r for r in self.ours if r.levelno >= level]
        assert [(r.name, r.levelname) for r in found] == [(logger, logging.getLevelName(level))], self.texts()
        text = found[0].getMessage()
        assert len(text.splitlines()) == 1
        text.encode()
        return text

    @property
    def error(self) -> str:
        """The one error line."""
        return self.sole(logging.ERROR)


@contextlib.contextmanager
def listen() -> Iterator[Heard]:
    """Hear everything that is logged at any level."""
    heard = Heard()
    root = logging.getLogger()
    loggers = [root, *(logging.getLogger(name) for name in ("httpx", "httpcore", "airflow_incident"))]
    before = [(logger, logger.level, logger.disabled) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.disabled = False
    root.addHandler(heard)
    try:
        yield heard
    finally:
        root.removeHandler(heard)
        for logger, level, disabled in before:
            logger.setLevel(level)
            logger.disabled = disabled


def report(context: Any = None, call: Callable[..., None] = call_sync, **options: Any) -> tuple[Heard, float]:
    """Call the callback for real; return all that was logged and the seconds it took. The key is never in a log."""
    notifier = open_incident(**options)
    with listen() as heard:
        began = time.monotonic()
        call(notifier, dag_context() if context is None else context)
        took = time.monotonic() - began
    assert API_KEY not in heard.everything
    return heard, took


def by_hand(line: str) -> dict[str, Any]:
    """Read the body that an error line holds for whoever wants to send it by hand."""
    body, _ = json.JSONDecoder().raw_decode(line.partition("POST /v1/incidents ")[2])
    assert isinstance(body, dict)
    return body


@dataclass
class Arrival:
    """One request and when it came."""

    at: float
    head: bytes
    body: bytes


@dataclass
class Scripted:
    """A server on 127.0.0.1 that gives its answers in order, the last one for ever, and records what it gets.

    An answer is bytes, or a function that gets the socket and answers as it likes.
    """

    script: list[bytes | Callable[[socket.socket], None]] = field(default_factory=lambda: [answer(200, CREATED)])
    arrivals: list[Arrival] = field(default_factory=list)
    connections: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._live: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        self._threads[0].join()
        for live in self._live:
            with contextlib.suppress(OSError):
                live.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def wait(self, seconds: float) -> None:
        """Wait, but no longer than this server lives."""
        self._over.wait(seconds)

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self._over.is_set():
                client.close()
                return
            self.connections += 1
            self._live.append(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as reader, contextlib.suppress(OSError, ValueError):
            while (request := read_request(reader)) is not None:
                with self._lock:
                    self.arrivals.append(Arrival(time.time(), request.head, request.body))
                    step = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                if callable(step):
                    step(client)
                    return
                client.sendall(step)
