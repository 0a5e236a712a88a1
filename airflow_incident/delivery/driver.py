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
    Names,
    Send,
    Set,
    Show,
    Sleep,
    StoreFailed,
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

_FOR_EVER = float("inf")


class AnyAsyncClient(Protocol):
    """What makes calls from a coroutine."""

    async def call(self, call: Any, *, budget: float) -> Any:
        """Make a call within `budget` seconds."""


class AsyncStore(Protocol):
    """Where records live, for coroutines; see `record.Store`."""

    async def get(self, name: str) -> str | None:
        """Return the text under a name; None does not prove that there is none."""

    async def set(self, name: str, text: str) -> None:
        """Write a text under a name, over what was there."""

    async def delete(self, name: str) -> None:
        """Delete what is under a name, if there is anything."""

    async def names(self, prefix: str) -> list[str]:
        """List the names that begin with a prefix."""


def store_patience() -> float:
    """Say how long a store may take that is believed: in a callback, whose time is limited as a whole, all of that."""
    return STORE_PATIENCE if left() is None else _FOR_EVER


class Driver:
    """Carries one report from ordinary code.

    The store is used on the calling thread, for Airflow's channel is not thread-safe everywhere. The request
    goes out on a daemon thread: when its turn comes, or when the store has taken longer than it may.

    :param key: The idempotency or deduplication key of the report.
    :param first: What to do if the store hangs: all that sending the report takes.
    :param seconds: What everything may take together.
    """

    def __init__(self, store: Store, client: Client, *, key: str, first: CallSequence[Any], seconds: float) -> None:
        self._guarded = _GuardedStore(store, patience=store_patience())
        self._client = client
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._errors_seen: list[IncidentIoError] = []
        self._key = key
        self._first: CallSequence[Any] | Call[Any] = first
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
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Send):
                    answer = self._send(step)
                elif isinstance(step, Show | Attach | Ask | Sleep):
                    answer = self._ask(step)
                else:
                    answer = self._guarded.take(step)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._wanted = False
            self._turn.set()

    def _send(self, step: Send) -> IncidentState | AlertState | IncidentIoError:
        try:
            if self._answer is None or not self._hand_over(step):
                state: IncidentState | AlertState = self._client.call(_opening(step), budget=self.left)
                return state
            return self._answer.result(timeout=self.left)
        except TimeoutError:
            return too_late(self._seconds, self._errors_seen)
        except IncidentIoError as error:
            return error

    def _hand_over(self, step: Send) -> bool:
        """Let the thread send a body; tell whether it does, or has done all by itself meanwhile."""
        with self._lock:
            if self._spent:
                return False
            self._spent = True
            if not self._gone:
                self._first = _opening(step)
                self._turn.set()
                return True
            return self._key in _keys_of(step)

    def _ask(self, step: Show | Attach | Ask | Sleep) -> Any:
        self._asking = True
        try:
            if isinstance(step, Sleep):
                time.sleep(min(step.seconds, self.left))
                return None
            return self._client.call(_call(step), budget=self.left)
        except IncidentIoError as error:
            return error
        finally:
            self._asking = False

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
        self._guarded = _AsyncGuardedStore(store, seconds)
        self._client = client
        now = time.monotonic()
        self._deadline, self._patience = now + seconds, now + STORE_PATIENCE
        self._key = key
        self._first = first
        self._sending: Task[Any] | None = None

    async def run(self, steps: Generator[Effect, Any, T]) -> T:
        """Take every step and return what the generator returns."""
        import asyncio  # tasks need none

        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Sleep):
                    await asyncio.sleep(min(step.seconds, self._left))
                    answer = None
                elif isinstance(step, Send | Show | Attach | Ask):
                    answer = await self._ask(step)
                else:
                    answer = await self._keep(step)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            if self._sending:
                self._sending.cancel()

    async def _keep(self, step: Effect) -> Any:
        """Take a step of the store; send meanwhile if that takes too long."""
        import asyncio  # tasks need none

        storing = asyncio.create_task(self._guarded.take(step))
        done, _ = await asyncio.wait({storing}, timeout=max(0.0, self._patience - time.monotonic()))
        if not done and self._first is not None:
            self._sending = asyncio.create_task(self._call(self._first))
            self._first = None
        return await storing

    async def _ask(self, step: Send | Show | Attach | Ask) -> Any:
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
    guard = _GuardedStore(store, patience=patience)
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Send | Show | Attach | Ask | Complete):
                try:
                    answer = complete(step.record) if isinstance(step, Complete) else call(_call(step), step.conn_id)
                except IncidentIoError as error:
                    answer = error
                except (Exception, SystemExit) as error:  # noqa: BLE001 -- it costs this record, and no other
                    answer = UnexpectedResponseError(200, f"the answer cannot be used ({type(error).__name__})")
            elif isinstance(step, Sleep):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = guard.take(step)
    except StopIteration as end:
        result: T = end.value
        return result


def _keys_of(step: Send) -> set[str | None]:
    """Return the keys that a request may be known by."""
    return {step.body.get("idempotency_key"), step.body.get("deduplication_key"), step.record_key}


def _opening(step: Send) -> Call[Any]:
    return create_call(PreparedCreate(step.body, step.endpoint))


def _call(step: Send | Show | Attach | Ask) -> Anything:
    match step:
        case Send():
            return _opening(step)
        case Show(incident_id):
            from airflow_incident.api.endpoints import show_incident_state  # few failures ask

            return show_incident_state(incident_id)
        case Attach(incident_id, url, title):
            from airflow_incident.api.endpoints import attach_link

            return attach_link(incident_id, url=url, title=title)
        case Ask(call):
            return call


class _Trouble:
    """Makes answers of a store's failures; once it has failed or hung, only what keeps a failure is still tried."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._trouble: StoreFailed | None = None

    def in_the_way_of(self, step: Effect) -> StoreFailed | None:
        """Return why a step is not tried."""
        return None if isinstance(step, Keep) else self._trouble

    def give_up(self, error: BaseException) -> StoreFailed:
        """Stop asking the store."""
        why = str(error) if isinstance(error, AirflowTimeoutError) else f"{type(error).__name__}: {error}"
        self._trouble = StoreFailed(why)
        return self._trouble

    def believe(self, answer: Any, began: float) -> Any:
        """Take an answer, unless it comes too late: a read that timed out says "missing"."""
        if time.monotonic() - began > self._patience:
            self._trouble = StoreFailed("the store takes too long")
            return self._trouble
        return answer


class _GuardedStore(_Trouble):
    """A store whose failures are answers."""

    def __init__(self, store: Store, *, patience: float = STORE_PATIENCE) -> None:
        super().__init__(patience)
        self._store = store

    def take(self, step: Effect) -> Any:
        """Take one step."""
        if trouble := self.in_the_way_of(step):
            return trouble
        began = time.monotonic()
        try:
            with within(self._patience, last=isinstance(step, Set | Keep)):
                answer = _do(self._store, step)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
            return self.give_up(error)
        return self.believe(answer, began)


class _AsyncGuardedStore(_Trouble):
    """The same for coroutines."""

    def __init__(self, store: AsyncStore, patience: float) -> None:
        super().__init__(patience)
        self._store = store

    async def take(self, step: Effect) -> Any:
        """Take one step."""
        if trouble := self.in_the_way_of(step):
            return trouble
        try:
            return await awithin(_do(self._store, step), self._patience, last=isinstance(step, Set | Keep))
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
            return self.give_up(error)


def _do(store: Store | AsyncStore, step: Effect) -> Any:
    match step:
        case Get(name):
            return store.get(name)
        case Set(name, text) | Keep(name, text):
            return store.set(name, text)
        case Delete(name):
            return store.delete(name)
        case Names(prefix):
            return store.names(prefix)
    raise TypeError(f"not a step of the store: {step!r}")
