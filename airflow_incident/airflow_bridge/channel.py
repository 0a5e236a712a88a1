"""How long Airflow may keep a callback waiting: for a connection, a Variable, the state of a task.

What hangs is ended by a timer on the process's main thread, as Airflow's own time-outs are. Nothing is asked here.
"""

from __future__ import annotations

import select
import signal
import socket
import sys
import threading
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from airflow_incident.airflow_bridge.compat import supervisor
from airflow_incident.core.timing import (
    ALARM_AGAIN,
    ALARM_STUBBORN,
    LAST_WORD,
    LAST_WRITE,
    LATE_PATIENCE,
    SHORT_CALLBACK,
)
from airflow_incident.errors import AirflowTimeoutError

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Coroutine, Iterator
    from types import FrameType

    State = Literal["elsewhere", "waiting", "within"]

T = TypeVar("T")

_POSTPONED = 20
"""How often it does so, before it ends what hangs wherever that is."""
_NO_ANSWER = "Airflow gave no answer within {:.2g} s"


class Hung(BaseException):
    """Raised by the timer into what hangs: no Exception, for Airflow's look-ups swallow every one."""


class _Time(NamedTuple):
    """When a callback began, by `time.monotonic()`, and how many seconds it has."""

    began: float
    seconds: float


_time: ContextVar[_Time | None] = ContextVar("time", default=None)
"""The time of the callback that is running; None outside of callbacks."""


@contextmanager
def callback(seconds: float) -> Iterator[None]:
    """Run a callback that must be over in some seconds; `within` and `left` know of them.

    :raises AirflowTimeoutError: when it is not, whatever it does.
    """
    token = _time.set(_Time(time.monotonic(), seconds))
    try:
        if _can_ring():
            with _Alarm(seconds, Hung()):
                yield
        else:
            yield
    except Hung:
        raise AirflowTimeoutError(_NO_ANSWER.format(seconds)) from None
    finally:
        _time.reset(token)


def shorten(seconds: float) -> None:
    """Let the callback that is running have no more than these seconds in all."""
    span = _time.get()
    if span is not None and seconds < span.seconds:
        _time.set(_Time(span.began, seconds))


def left(before: float = LAST_WRITE) -> float | None:
    """Return the seconds that a callback has left, None outside of callbacks, which nobody limits.

    :param before: `LAST_WRITE`, `LAST_ANSWER` or `LAST_WORD`: seconds at its end that do not count.
    """
    span = _time.get()
    if span is None:
        return None
    return span.began + span.seconds - before * min(1.0, span.seconds / SHORT_CALLBACK) - time.monotonic()


@contextmanager
def within(most: float = float("inf"), *, last: bool = False, asks: bool = True) -> Iterator[None]:
    """Ask Airflow something, and end it when its time is over. Outside of callbacks nothing is limited.

    Off the main thread, and where there is no such timer, nothing can end it: it comes late.

    :param most: Seconds that it may take, if the callback has so many.
    :param last: Whether this is the callback's last write, which all of its time is for.
    :param asks: Whether Airflow is asked at all, and so may owe an earlier answer.
    :raises AirflowTimeoutError: when its time is over, or while Airflow still owes an earlier answer.
    """
    seconds = _seconds(most, last=last)
    if seconds is None or not _can_ring():
        yield
        return
    hung = Hung()
    try:
        with _Alarm(seconds, hung):
            if asks:
                _catch_up(seconds)
            yield
    except Hung as raised:
        if raised is not hung:
            raise
        raise AirflowTimeoutError(_NO_ANSWER.format(seconds)) from None


async def awithin(asking: Coroutine[Any, Any, T], most: float = float("inf"), *, last: bool = False) -> T:
    """Async version of `within`.

    What takes longer is left to itself, and never cancelled, whoever cancels this: the triggerer before Airflow 3.2
    does not outlive a question that nobody waits to see answered.

    :raises AirflowTimeoutError: as `within` does.
    """
    import asyncio  # tasks need none

    try:
        seconds = _seconds(most, last=last)
    except AirflowTimeoutError:
        asking.close()
        raise
    task = asyncio.create_task(_contained(asking))
    _asking.add(task)
    task.add_done_callback(_forget)
    if not (await asyncio.wait({task}, timeout=seconds))[0]:
        raise AirflowTimeoutError(_NO_ANSWER.format(seconds))
    answer = task.result()
    if isinstance(answer, _Exit):
        raise answer.error
    return answer


class _Exit(NamedTuple):
    """What a secrets backend raised to end the process: from a task of its own it would end the loop."""

    error: SystemExit


async def _contained(asking: Coroutine[Any, Any, T]) -> T | _Exit:
    try:
        return await asking
    except SystemExit as error:
        return _Exit(error)


_asking: set[Task[Any]] = set()
"""What was asked from coroutines and is not answered yet; a loop itself would let go of it."""


def _forget(task: Task[Any]) -> None:
    """Let go of what was answered; an error that came too late is nobody's."""
    _asking.discard(task)
    if not task.cancelled():
        task.exception()


def _seconds(most: float, *, last: bool) -> float | None:
    """Say how long something may take; None if nobody limits it.

    :raises AirflowTimeoutError: if there is no time at all.
    """
    seconds = left(LAST_WORD if last else LAST_WRITE)
    if seconds is None:
        return None
    seconds = min(seconds, most)
    if seconds < ALARM_AGAIN:
        raise AirflowTimeoutError("Airflow took all the time that a callback has")
    return seconds


def _began() -> float | None:
    span = _time.get()
    return None if span is None else span.began


def _can_ring() -> bool:
    """Return whether the timer can be used: signals are for the main thread, and a handler of C cannot be put back."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return False
    # To raise into an event loop would be to break it; and whoever has one waits for nobody.
    loop = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return (loop is None or loop() is None) and signal.getsignal(signal.SIGALRM) is not None


class _Alarm:
    """Raises into what takes too long. The timer that was set before goes on meanwhile, and afterwards.

    https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
    """

    def __init__(self, seconds: float, hung: Hung) -> None:
        self._due = time.monotonic() + seconds
        self._hung = hung
        self._postponed = 0
        self._over = False

    def __enter__(self) -> None:
        self._handler = signal.getsignal(signal.SIGALRM)
        delay, self._interval = signal.getitimer(signal.ITIMER_REAL)
        self._theirs = time.monotonic() + delay if delay else float("inf")
        signal.signal(signal.SIGALRM, self._ring)
        _arm(min(self._due, self._theirs))

    def __exit__(self, *_: object) -> None:
        try:
            self._over = True
        finally:  # the timer may come at any line before
            self._over = True
            self._put_back()

    def _put_back(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._handler)
        if self._theirs < float("inf"):
            _arm(self._theirs, self._interval)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        if self._over:
            return
        if _time.get() is None:  # the callback is over, and this was not turned off
            self._put_back()
            return
        now = time.monotonic()
        if now < self._due or self._theirs <= now:
            self._pass_on(number, frame, now)
            return
        state = _state(frame)
        if state == "within" and self._postponed < _POSTPONED:
            self._postponed += 1
            self._due = now + ALARM_AGAIN
            _arm(min(self._due, self._theirs))
            return
        self._due = now + ALARM_STUBBORN
        _arm(min(self._due, self._theirs))
        _note(state)
        raise self._hung

    def _pass_on(self, number: int, frame: FrameType | None, now: float) -> None:
        """Let whoever set the timer before have its signal; it may raise."""
        if self._theirs <= now:
            self._theirs = now + self._interval if self._interval else float("inf")
        _arm(min(self._due, self._theirs))
        if callable(self._handler):
            self._handler(number, frame)


def _arm(moment: float, interval: float = 0) -> None:
    """Set the timer; no time at all would turn it off."""
    signal.setitimer(signal.ITIMER_REAL, max(1e-6, moment - time.monotonic()), interval)


class _Late:
    """Airflow's socket while an answer is under way that nobody waits for any more.

    Messages are only answered in turn, so it would be taken for the answer to whatever is asked next, by us or by
    somebody else. Whoever asks next first waits for it, as one does for every answer, and it is thrown away.
    https://github.com/apache/airflow/blob/main/task-sdk/src/airflow/sdk/execution_time/comms.py
    """

    def __init__(self, comms: Any) -> None:
        self._comms = comms
        self._socket = comms.socket
        self.callback = _began()
        self.is_reading = False
        self._patience = LATE_PATIENCE

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def sendall(self, data: Any) -> None:
        """Send a message, once the answer has come that is late."""
        self.wait()
        self._socket.sendall(data)

    def wait(self) -> None:
        """Read the answer that is late, and let the socket be itself again."""
        size = int.from_bytes(self._read(4), "big")
        self._read(size)
        self._comms.socket = self._socket

    def has_come(self) -> bool:
        """Return whether there is something to read, were it the end."""
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def comes_within(self, seconds: float) -> bool:
        """Wait for it in another callback than the one that gave up; return whether there is something to read.

        All of them together wait no longer than is bearable: a batch that takes too long is killed as a whole.
        """
        began = time.monotonic()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        try:
            return bool(poll.poll(1000 * max(0.0, min(seconds, self._patience))))
        finally:
            self._patience -= time.monotonic() - began

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            chunk = self._socket.recv(size - len(content))
            self.is_reading = True
            if not chunk:
                raise EOFError("Airflow's supervisor has closed its channel")
            content += chunk
        return content


def _catch_up(seconds: float) -> None:
    """Take in an answer that is late. In the same callback the next question waits for it, as it comes to its turn.

    :param seconds: What this callback may wait for the answer to an earlier one's question.
    :raises AirflowTimeoutError: if callbacks have waited for it long enough.
    """
    late = getattr(supervisor(), "socket", None)
    if not isinstance(late, _Late):
        return
    is_ours = late.callback == _began()
    if late.has_come() or (not is_ours and late.comes_within(seconds)):
        try:
            late.wait()
        except EOFError as error:
            raise AirflowTimeoutError(str(error)) from None
    elif not is_ours:
        raise AirflowTimeoutError("Airflow still owes the answer that an earlier callback waited for")


def _state(frame: FrameType | None) -> State:
    """Tell where the timer has come: while an answer is waited for, within a message, or elsewhere."""
    comms = supervisor()
    while frame is not None:
        name = frame.f_code.co_name
        me = frame.f_locals.get("self") if name in {"_read", "_read_frame", "send"} else None
        if isinstance(me, _Late):
            return "within" if me.is_reading else "elsewhere"
        if me is not None and me is comms:
            waits = name == "_read_frame" and "len_bytes" not in frame.f_locals
            return "waiting" if waits else "within"
        frame = frame.f_back
    return "elsewhere"


def _note(state: State) -> None:
    """Let whoever asks next wait for the answer that will be late; half a message leaves nothing but to hang up."""
    comms = supervisor()
    if state == "waiting" and not isinstance(comms.socket, _Late):
        comms.socket = _Late(comms)
    elif state == "within":
        with suppress(OSError):
            comms.socket.shutdown(socket.SHUT_RDWR)
