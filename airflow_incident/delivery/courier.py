"""Carries the steps of a report to store and API, from a thread or a coroutine. No step outlives its time."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_incident.api.calls import Creation, Plan, open_incident
from airflow_incident.delivery.steps import Ask, Attach, Delete, Get, Names, Send, Set, Show, StoreFailed, Wait
from airflow_incident.errors import IncidentIoError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from airflow_incident.api.calls import Call, Listing
    from airflow_incident.api.client import AsyncClient, Client
    from airflow_incident.api.head import AlertHead, IncidentHead
    from airflow_incident.delivery.journal import Store
    from airflow_incident.delivery.steps import Step

    Anything = Call[Any] | Plan[Any] | Listing[Any]

T = TypeVar("T")

PATIENCE = 2.0
"""Seconds that a store may take before a failure is sent without it."""
_LOOK_AGAIN = 0.25


class Courier:
    """Carries one report from ordinary code.

    The store is used on the calling thread, for Airflow's channel is not thread-safe everywhere. The request
    goes out on a daemon thread: when its turn comes, or when the store has taken longer than it may.

    :param key: The idempotency or deduplication key of the report.
    :param first: What to do if the store hangs: all that sending the report takes.
    :param seconds: What everything may take together.
    """

    def __init__(self, store: Store, client: Client, *, key: str, first: Plan[Any], seconds: float) -> None:
        self._shelf = _Shelf(store)
        self._client = client
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._met: list[IncidentIoError] = []
        self._key = key
        self._first: Plan[Any] | Call[Any] = first
        self._turn = threading.Event()
        self._asking = False
        self._wanted = True
        self._lock = threading.Lock()
        self._spent = False
        self._gone = False
        self._answer: Future[IncidentHead | AlertHead] | None = Future()
        try:
            threading.Thread(target=self._wait_and_send, args=(self._answer,), daemon=True, name="incident.io").start()
        except RuntimeError:  # no thread to be had: send on this one
            self._answer = None

    def carry(self, steps: Generator[Step, Any, T]) -> T:
        """Take every step and return what the generator returns."""
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Send):
                    answer = self._send(step)
                elif isinstance(step, Show | Attach | Ask | Wait):
                    answer = self._ask(step)
                else:
                    answer = self._shelf.take(step)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self._wanted = False
            self._turn.set()

    def _send(self, step: Send) -> IncidentHead | AlertHead | IncidentIoError:
        try:
            if self._answer is None or not self._hand_over(step):
                head: IncidentHead | AlertHead = self._client.call(_opening(step), budget=self.left)
                return head
            return self._answer.result(timeout=self.left)
        except TimeoutError:
            from airflow_incident.api.client import too_late  # noqa: PLC0415 -- loaded by now

            return too_late(self._seconds, self._met)
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
            return self._key in {step.body.get("idempotency_key"), step.body.get("deduplication_key"), step.record_key}

    def _ask(self, step: Show | Attach | Ask | Wait) -> Any:
        self._asking = True
        try:
            if isinstance(step, Wait):
                time.sleep(min(step.seconds, self.left))
                return None
            return self._client.call(_call(step), budget=self.left)
        except IncidentIoError as error:
            return error
        finally:
            self._asking = False

    def _wait_and_send(self, answer: Future[IncidentHead | AlertHead]) -> None:
        patience = PATIENCE
        while not self._turn.wait(patience) and self._asking:
            patience = _LOOK_AGAIN  # it is incident.io that takes long, not the store
        if not self._wanted:
            return
        with self._lock:
            self._gone = True
        try:
            answer.set_result(self._client.call_here(self._first, budget=self.left, met=self._met))
        except BaseException as error:  # noqa: BLE001 -- carried to the thread that asked
            answer.set_exception(error)

    @property
    def left(self) -> float:
        """Seconds left of the report's time."""
        return max(0.1, self._deadline - time.monotonic())


class AsyncCourier:
    """Carries one report from a coroutine; the store is used in a worker thread."""

    def __init__(self, store: Store, client: AsyncClient, *, seconds: float) -> None:
        self._shelf = _Shelf(store)
        self._client = client
        self._deadline = time.monotonic() + seconds

    async def carry(self, steps: Generator[Step, Any, T]) -> T:
        """Take every step and return what the generator returns."""
        answer: Any = None
        try:
            while True:
                step = steps.send(answer)
                if isinstance(step, Wait):
                    await asyncio.sleep(min(step.seconds, self._left))
                    answer = None
                elif isinstance(step, Send | Show | Attach | Ask):
                    answer = await self._ask(step)
                else:
                    answer = await self._keep(step)
        except StopIteration as end:
            result: T = end.value
            return result

    async def _keep(self, step: Step) -> Any:
        try:
            return await asyncio.wait_for(asyncio.to_thread(self._shelf.take, step), PATIENCE)
        except TimeoutError:
            return self._shelf.give_up(f"no answer within {PATIENCE:.0f} s")

    async def _ask(self, step: Send | Show | Attach | Ask) -> Any:
        try:
            return await self._client.call(_call(step), budget=self._left)
        except IncidentIoError as error:
            return error

    @property
    def _left(self) -> float:
        return max(0.1, self._deadline - time.monotonic())


def carry_all(
    steps: Generator[Step, Any, T],
    store: Store,
    call: Callable[[Anything, str], Any],
    *,
    patience: float = float("inf"),
) -> T:
    """Carry a flush: nobody waits for it, and each record names its own connection.

    :param call: Makes a call with the key of a connection.
    :param patience: Seconds that the store may take, where somebody waits after all.
    """
    shelf = _Shelf(store, patience=patience)
    answer: Any = None
    try:
        while True:
            step = steps.send(answer)
            if isinstance(step, Send | Show | Attach | Ask):
                try:
                    answer = call(_call(step), step.conn_id)
                except IncidentIoError as error:
                    answer = error
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = shelf.take(step)
    except StopIteration as end:
        result: T = end.value
        return result


def _opening(step: Send) -> Call[Any]:
    return open_incident(Creation(step.body, step.via))


def _call(step: Send | Show | Attach | Ask) -> Anything:
    match step:
        case Send():
            return _opening(step)
        case Show(incident_id):
            from airflow_incident.api.endpoints import show_head  # noqa: PLC0415 -- few failures ask

            return show_head(incident_id)
        case Attach(incident_id, url, title):
            from airflow_incident.api.endpoints import attach_link  # noqa: PLC0415 -- as above

            return attach_link(incident_id, url=url, title=title)
        case Ask(call):
            return call


class _Shelf:
    """A store whose failures are answers; once it has failed or hung it is not asked again."""

    def __init__(self, store: Store, *, patience: float = PATIENCE) -> None:
        self._store = store
        self._patience = patience
        self._trouble: StoreFailed | None = None

    def give_up(self, why: str) -> StoreFailed:
        """Stop asking the store."""
        self._trouble = StoreFailed(why)
        return self._trouble

    def take(self, step: Step) -> Any:
        """Take one step."""
        if self._trouble:
            return self._trouble
        began = time.monotonic()
        try:
            answer = self._do(step)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a secrets backend may raise anything
            return self.give_up(f"{type(error).__name__}: {error}")
        if time.monotonic() - began > self._patience:
            # What such a store says proves nothing: a read that timed out says "missing".
            return self.give_up("the store takes too long")
        return answer

    def _do(self, step: Step) -> Any:
        match step:
            case Get(name):
                return self._store.get(name)
            case Set(name, text):
                return self._store.set(name, text)
            case Delete(name):
                return self._store.delete(name)
            case Names(prefix):
                return self._store.names(prefix)
        raise TypeError(f"not a step of the store: {step!r}")
