"""Carries the steps of a report to store and API, from a thread or a coroutine. No step outlives its time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_incident.airflow_bridge.channel import awithin, left, within
from airflow_incident.api.calls import CallSequence, PreparedCreate
from airflow_incident.api.exchange import create_call, too_late
from airflow_incident.core.timing import LOOK_AGAIN, MIN_REQUEST_SECONDS, STORE_PATIENCE
from airflow_incident.delivery.effects import (
    Ask,
    Attach,
    Complete,
    Delete,
    Get,
    Keep,
    ReadAll,
    Send,
    Set,
    Show,
    Sleep,
    StoreFailed,
    StoreStep,
)
from airflow_incident.errors import AirflowTimeoutError, IncidentIoError, UnexpectedResponseError

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Generator

    from airflow_incident.api.calls import Call, PaginatedCall
    from airflow_incident.api.client import Client
    from airflow_incident.api.incident import AlertState, IncidentState
    from airflow_incident.delivery.effects import Effect
    from airflow_incident.delivery.record import Record, Store

    Anything = Call[Any] | CallSequence[Any] | PaginatedCall[Any]

T = TypeVar("T")

_METHODS: dict[type, str] = {Get: "get", Set: "set", Keep: "set", Delete: "delete", ReadAll: "read_all"}
"""What a store does for each step."""


class AnyAsyncClient(Protocol):
    """What makes calls from a coroutine."""

    async def call(self, call: Any, *, budget: float) -> Any:
        """Make a call within `budget` seconds."""


class AsyncStore(Protocol):
    """Where records live, for coroutines."""

    async def do(self, method: str, *args: str) -> Any:
        """Do as a method of `record.Store` does."""


def store_patience() -> float:
    """Say how long a store may take that is believed: in a callback, whose time is limited as a whole, all of that."""
    return STORE_PATIENCE if left() is None else float("inf")


class Driver:
    """Carries one report from ordinary code.

    The store is used on the calling thread, for Airflow's channel is not thread-safe everywhere. The request
    goes out on a daemon thread: when its turn comes, or when the store has taken longer than it may.

    :param key: The idempotency or deduplication key of the report.
    :param first: What to do if the store hangs: all that sending the report takes.
    :param seconds: What everything may take together.
    """

    def __init__(self, store: Store, client: Client, *, key: str, first: CallSequence[Any], seconds: float) -> None:
        self._guard = _Guard(store, store_patience())
        self._client = client
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._errors_seen: list[IncidentIoError] = []
        self._key = key
        self._first: Call[Any] | CallSequence[Any] = first
        self._turn = threading.Event()
        self._asking = False
        self._wanted = True
        self._lock = threading.Lock()
        self._spent = False
        self._gone = False
        self._answer: Future[IncidentState | AlertState] | None = Future()
        try:
            threading.Thread(target=self._wait_and_send, args=(self._answer,), daemon=True, name="incident.io").start()
        except RuntimeError:  # no thread to be had: send on this one
            self._answer = None

    def run(self, steps: Generator[Effect, Any, T]) -> T:
        """Take every step and return what the generator returns."""
        try:
            return _carry(steps, self._take)
        finally:
            self._wanted = False
            self._turn.set()

    def _take(self, step: Effect) -> Any:
        if isinstance(step, StoreStep):
            return self._guard.take(step)
        self._asking = True
        try:
            if isinstance(step, Sleep):
                return time.sleep(min(step.seconds, self.left))
            if isinstance(step, Send) and self._answer and self._hand_over(step):
                return self._answer.result(timeout=self.left)
            return self._client.call(_call(step), budget=self.left)
        except TimeoutError:
            return too_late(self._seconds, self._errors_seen)
        except IncidentIoError as error:
            return error
        finally:
            self._asking = False

    def _hand_over(self, step: Send) -> bool:
        """Let the thread send a body; tell whether it does, or has done all by itself meanwhile."""
        with self._lock:
            if self._spent:
                return False
            self._spent = True
            if not self._gone:
                self._first = create_call(PreparedCreate(step.body, step.endpoint))
                self._turn.set()
                return True
            return self._key in _keys_of(step)

    def _wait_and_send(self, answer: Future[IncidentState | AlertState]) -> None:
        seconds = STORE_PATIENCE
        while not self._turn.wait(seconds) and self._asking:
            seconds = LOOK_AGAIN  # it is incident.io that takes long, not the store
        if not self._wanted:
            return
        with self._lock:
            self._gone = True
        try:
            answer.set_result(self._client.call_here(self._first, budget=self.left, errors_seen=self._errors_seen))
        except BaseException as error:  # noqa: BLE001 -- carried to the thread that asked
            answer.set_exception(error)

    @property
    def left(self) -> float:
        """Seconds left of the report's time."""
        return max(MIN_REQUEST_SECONDS, self._deadline - time.monotonic())


class AsyncDriver:
    """Carries one report from a coroutine. It is sent when its turn comes, or when the store takes too long.

    :param first: What to send then: all that sending the report takes. None if nothing is sent without the store.
    """

    def __init__(
        self,
        store: AsyncStore,
        client: AnyAsyncClient,
        *,
        seconds: float,
        key: str = "",
        first: CallSequence[Any] | None = None,
    ) -> None:
        self._guard = _Guard(store, seconds)
        self._client = client
        now = time.monotonic()
        self._deadline, self._patience = now + seconds, now + STORE_PATIENCE
        self._key = key
        self._first = first
        self._sending: Task[Any] | None = None

    async def run(self, steps: Generator[Effect, Any, T]) -> T:
        """Take every step and return what the generator returns."""
        answer: Any = None
        try:
            while True:
                answer = await self._take(steps.send(answer))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            if self._sending:
                self._sending.cancel()

    async def _take(self, step: Effect) -> Any:
        import asyncio  # tasks need none

        if isinstance(step, Sleep):
            return await asyncio.sleep(min(step.seconds, self._left))
        if isinstance(step, StoreStep):
            storing = asyncio.create_task(self._guard.atake(step))
            done, _ = await asyncio.wait({storing}, timeout=max(0.0, self._patience - time.monotonic()))
            if not done and self._first is not None:
                self._sending = asyncio.create_task(self._call(self._first))
                self._first = None
            return await storing
        if isinstance(step, Send):
            self._first = None
            if self._sending and self._key in _keys_of(step):
                return await self._sending
        return await self._call(_call(step))

    async def _call(self, call: Anything) -> Any:
        try:
            return await self._client.call(call, budget=self._left)
        except IncidentIoError as error:
            return error

    @property
    def _left(self) -> float:
        return max(MIN_REQUEST_SECONDS, self._deadline - time.monotonic())


def run_all(
    steps: Generator[Effect, Any, T],
    store: Store,
    call: Callable[[Anything, str], Any],
    *,
    complete: Callable[[Record], Any] = lambda record: record,
    patience: float = float("inf"),
) -> T:
    """Carry a flush: nobody waits for it, and each record names its own connection.

    :param call: Makes a call with the key of a connection.
    :param complete: Adds to a record's draft what its connection says.
    :param patience: Seconds that the store may take, where somebody waits after all.
    """
    guard = _Guard(store, patience)

    def take(step: Effect) -> Any:
        if isinstance(step, StoreStep):
            return guard.take(step)
        if isinstance(step, Sleep):
            return time.sleep(step.seconds)
        try:
            return complete(step.record) if isinstance(step, Complete) else call(_call(step), step.conn_id)
        except IncidentIoError as error:
            return error
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- it costs this record, and no other
            return UnexpectedResponseError(200, f"the answer cannot be used ({type(error).__name__})")

    return _carry(steps, take)


def _carry(steps: Generator[Effect, Any, T], take: Callable[[Effect], Any]) -> T:
    """Take every step with the answer to the one before; return what the generator returns."""
    answer: Any = None
    try:
        while True:
            answer = take(steps.send(answer))
    except StopIteration as end:
        result: T = end.value
        return result


def _keys_of(step: Send) -> set[str | None]:
    """Return the keys that a request may be known by."""
    return {step.body.get("idempotency_key"), step.body.get("deduplication_key"), step.record_key}


def _call(step: Effect) -> Anything:
    match step:
        case Send():
            return create_call(PreparedCreate(step.body, step.endpoint))
        case Show(incident_id):
            from airflow_incident.api.endpoints import show_incident_state  # few failures ask

            return show_incident_state(incident_id)
        case Attach(incident_id, url, title):
            from airflow_incident.api.endpoints import attach_link

            return attach_link(incident_id, url=url, title=title)
        case Ask(call):
            return call
    raise TypeError(f"not a question for incident.io: {step!r}")


class _Guard:
    """A store whose failures are answers; once it has failed or hung, only what keeps a failure is still tried.

    :param patience: Seconds that a step may take: a read that timed out says "missing".
    """

    def __init__(self, store: Store | AsyncStore, patience: float) -> None:
        self._store: Any = store
        self._patience = patience
        self._trouble: StoreFailed | None = None

    def take(self, step: StoreStep) -> Any:
        """Take one step of a store for threads."""
        if self._trouble and not isinstance(step, Keep):
            return self._trouble
        began = time.monotonic()
        try:
            with within(self._patience, last=isinstance(step, Set | Keep)):
                answer = getattr(self._store, _METHODS[type(step)])(*step)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
            return self._give_up(error)
        if time.monotonic() - began > self._patience:
            self._trouble = StoreFailed("the store takes too long")
            return self._trouble
        return answer

    async def atake(self, step: StoreStep) -> Any:
        """Take one step of a store for coroutines."""
        if self._trouble and not isinstance(step, Keep):
            return self._trouble
        try:
            asking = self._store.do(_METHODS[type(step)], *step)
            return await awithin(asking, self._patience, last=isinstance(step, Set | Keep))
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
            return self._give_up(error)

    def _give_up(self, error: BaseException) -> StoreFailed:
        """Stop asking the store."""
        why = str(error) if isinstance(error, AirflowTimeoutError) else f"{type(error).__name__}: {error}"
        self._trouble = StoreFailed(why)
        return self._trouble
