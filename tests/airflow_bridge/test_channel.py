"""What Airflow keeps a callback waiting for ends in time, whatever hangs, and nobody's timer or answer is lost."""

import asyncio
import signal
import socket
import struct
import threading
import time
from types import SimpleNamespace

import pytest

from airflow_incident.airflow_bridge import channel
from airflow_incident.airflow_bridge.channel import Hung, awithin, callback, left, shorten, within
from airflow_incident.core.timing import LAST_WORD
from airflow_incident.errors import AirflowTimeoutError

SECONDS = 1.2
"""A callback's whole time; what may hang has three fourths of it."""
SLACK = 0.5


class Comms:
    """A task's end of Airflow's channel, as Airflow's own: questions are numbered, answers come in turn."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end

    def send(self, text: str) -> str:
        self.socket.sendall(text.encode().ljust(8))
        return self._get_response()

    def _get_response(self) -> str:
        return self._read_frame().decode().strip()

    def _read_frame(self) -> bytes:
        self.socket.settimeout(None)
        len_bytes = self.socket.recv(4)
        if len_bytes == b"":
            raise EOFError("closed")
        length = int.from_bytes(len_bytes, "big")
        buffer = b""
        while len(buffer) < length:
            buffer += self.socket.recv(length - len(buffer))
        return buffer


class Supervisor:
    """The other end: answers each question in turn, after some seconds; None is never."""

    def __init__(self, *delays: float | None, pause: float = 0.0) -> None:
        self.delays = list(delays)
        self.pause = pause
        ours, self.end = socket.socketpair()
        self.comms = Comms(ours)
        self.heard: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while question := self._read():
            self.heard.append(question)
            delay = self.delays.pop(0) if self.delays else 0.0
            if delay is None:
                return
            time.sleep(delay)
            answer = f"answer to {question}".encode()
            try:
                self.end.sendall(struct.pack(">I", len(answer)))
                time.sleep(self.pause)
                self.end.sendall(answer)
            except OSError:
                return

    def _read(self) -> str:
        try:
            return self.end.recv(8).decode().strip()
        except OSError:
            return ""

    def close(self) -> None:
        for end in (self.end, self.comms.socket):
            end.close()


@pytest.fixture
def supervised(monkeypatch):
    """Let a supervisor be this process's; returns the function that makes it."""
    made = []

    def make(*delays: float | None, pause: float = 0.0) -> Supervisor:
        made.append(Supervisor(*delays, pause=pause))
        monkeypatch.setitem(
            __import__("sys").modules,
            "airflow.sdk.execution_time.task_runner",
            SimpleNamespace(SUPERVISOR_COMMS=made[-1].comms),
        )
        return made[-1]

    yield make
    for supervisor in made:
        supervisor.close()


@pytest.fixture(autouse=True)
def _no_timer_is_left():
    """Find the signal's handler and its timer as they were."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def ask(comms: Comms, text: str = "conn", **limits: object) -> str:
    """Ask as Airflow does, which swallows every Exception and says that there is nothing."""
    with within(**limits):
        try:
            return comms.send(text)
        except Exception:  # noqa: BLE001 -- so does Airflow
            return "nothing"


def test_what_hangs_for_ever_is_ended_before_the_last_write(supervised):
    """In the time that a callback has, less what its last write needs."""
    comms = supervised(None).comms
    began = time.monotonic()
    with callback(SECONDS), pytest.raises(AirflowTimeoutError, match="Airflow gave no answer within 0") as caught:
        ask(comms)
    assert time.monotonic() - began < SECONDS
    assert caught.value.retryable
    assert "API server and database" in caught.value.advice


def test_what_takes_its_time_is_waited_for(supervised):
    comms = supervised(0.3).comms
    with callback(SECONDS):
        assert ask(comms) == "answer to conn"


def test_outside_of_a_callback_nothing_is_limited(supervised):
    """An operator waits as every other task does."""
    comms = supervised(0.3).comms
    assert left() is None
    assert ask(comms, most=0.1) == "answer to conn"


def test_the_last_write_waits_for_the_answer_that_is_late_and_is_not_given_it(supervised):
    """The answer to the first question comes when nobody waits for it any more."""
    supervisor = supervised(1.0)
    with callback(SECONDS):
        with pytest.raises(AirflowTimeoutError):
            ask(supervisor.comms)
        assert ask(supervisor.comms, "set", last=True) == "answer to set"
    assert supervisor.heard == ["conn", "set"]


def test_a_neighbour_is_not_given_our_late_answer(supervised):
    """Whoever asks after us gets its own answer, and Airflow's socket is as it was."""
    supervisor = supervised(1.0)
    before = supervisor.comms.socket
    with callback(SECONDS), pytest.raises(AirflowTimeoutError):
        ask(supervisor.comms)
    assert supervisor.comms.send("theirs") == "answer to theirs"
    assert supervisor.comms.socket is before


def test_the_next_callback_of_a_batch_waits_for_what_the_first_one_gave_up_on(supervised):
    """A DAG processor's first answer may take long; its batch is not lost for it."""
    supervisor = supervised(1.5)
    with callback(SECONDS), pytest.raises(AirflowTimeoutError):
        ask(supervisor.comms)
    with callback(SECONDS):
        assert ask(supervisor.comms, "second") == "answer to second"


def test_the_callbacks_of_a_batch_do_not_wait_one_by_one_for_what_the_first_one_waited_for(supervised, monkeypatch):
    """Once that is long enough they give up at once; as soon as the answer is there, they can ask again."""
    monkeypatch.setattr(channel, "LATE_PATIENCE", 0.0)
    supervisor = supervised(1.5)
    with callback(SECONDS), pytest.raises(AirflowTimeoutError):
        ask(supervisor.comms)
    began = time.monotonic()
    with callback(SECONDS), pytest.raises(AirflowTimeoutError, match="still owes"):
        ask(supervisor.comms)
    assert time.monotonic() - began < SECONDS / 2
    time.sleep(1.0)
    with callback(SECONDS):
        assert ask(supervisor.comms, "third") == "answer to third"


def test_a_supervisor_that_ends_while_it_owes_an_answer_is_told_as_a_time_out(supervised):
    """Whoever asks next is told so at once."""
    supervisor = supervised(None)
    with callback(SECONDS), pytest.raises(AirflowTimeoutError):
        ask(supervisor.comms)
    supervisor.end.shutdown(socket.SHUT_RDWR)
    with callback(SECONDS), pytest.raises(AirflowTimeoutError, match="closed its channel"):
        ask(supervisor.comms)


def test_a_message_that_has_begun_is_read_to_its_end(supervised):
    """The timer that comes between an answer's head and its body waits a moment."""
    supervisor = supervised(0.7, pause=0.5)
    with callback(SECONDS):
        assert ask(supervisor.comms) == "answer to conn"
        assert supervisor.comms.send("next") == "answer to next"


def test_half_a_message_hangs_up(supervised):
    """What cannot be put right is closed: who asks next fails, instead of reading the rest as an answer."""
    supervisor = supervised(0.0, pause=9.0)
    with pytest.raises(AirflowTimeoutError), callback(SECONDS):
        ask(supervisor.comms, most=0.2)
    with pytest.raises(OSError, match="Broken pipe"):
        supervisor.comms.send("theirs")


def test_a_template_that_hangs_elsewhere_leaves_the_channel_alone(supervised):
    """Only what was asked is owed."""
    supervisor = supervised()
    with callback(SECONDS):
        with pytest.raises(AirflowTimeoutError), within(0.2):
            time.sleep(9)
        assert ask(supervisor.comms) == "answer to conn"


def test_when_the_time_is_over_nothing_more_is_asked(supervised):
    supervisor = supervised()
    with callback(SECONDS):
        time.sleep(SECONDS - 0.2)
        with pytest.raises(AirflowTimeoutError, match="all the time"):
            ask(supervisor.comms)
        assert ask(supervisor.comms, last=True) == "answer to conn"
    assert supervisor.heard == ["conn"]


def test_a_callback_that_hangs_anywhere_else_is_ended():
    began = time.monotonic()
    with pytest.raises(AirflowTimeoutError), callback(0.5):
        time.sleep(9)
    assert time.monotonic() - began < 4


def test_what_swallows_even_that_is_ended_all_the_same():
    """A library that catches everything is told again."""
    swallowed = []

    def stubborn() -> None:
        try:
            time.sleep(9)
        except BaseException as error:  # noqa: BLE001 -- it is what is tested
            swallowed.append(error)
        time.sleep(9)

    with callback(20), pytest.raises(AirflowTimeoutError), within(0.1):
        stubborn()
    assert isinstance(swallowed[0], Hung)


def test_a_shorter_time_of_this_airflow_counts_from_the_beginning():
    """What Airflow lets a callback have is known once its configuration is read."""
    with callback(12):
        time.sleep(0.2)
        shorten(1.0)
        assert left(LAST_WORD) < 0.8
        shorten(5.0)
        assert left(LAST_WORD) < 0.8


class TheirTimeoutError(BaseException):
    """As Airflow's AirflowTaskTimeout is."""


def theirs(*_: object) -> None:
    raise TheirTimeoutError


@pytest.fixture
def their_timer():
    """Set a timer as Airflow's time-outs do, and take it away."""
    before = signal.signal(signal.SIGALRM, theirs)
    yield lambda *timer: signal.setitimer(signal.ITIMER_REAL, *timer)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_earlier_timer_goes_on_afterwards(their_timer, supervised):
    """With the time that it has left, not with all of it again."""
    comms = supervised(None).comms
    their_timer(1.5)
    with callback(SECONDS), pytest.raises(AirflowTimeoutError):
        ask(comms, most=0.3)
    delay, interval = signal.getitimer(signal.ITIMER_REAL)
    assert (0.8 < delay < 1.3, interval) == (True, 0.0)
    assert signal.getsignal(signal.SIGALRM) is theirs
    with pytest.raises(TheirTimeoutError):
        time.sleep(9)


def test_an_earlier_timer_that_is_due_first_comes_first(their_timer, supervised):
    """A task's own time-out is not ours to hold back, nor to turn into ours."""
    comms = supervised(None).comms
    their_timer(0.2)
    with pytest.raises(TheirTimeoutError), callback(SECONDS):
        ask(comms)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0.0


def test_an_earlier_timer_that_repeats_goes_on_and_ours_comes_too(supervised):
    """One that only counts keeps nobody from ending what hangs."""
    ticks = []
    before = signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with callback(SECONDS), pytest.raises(AirflowTimeoutError):
            ask(supervised(None).comms)
        during = len(ticks)
        time.sleep(0.35)
        assert during >= 5
        assert len(ticks) >= during + 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_off_the_main_thread_no_signal_is_touched(supervised):
    """It comes late there; nothing is harmed."""
    comms = supervised(0.5).comms
    found = []

    def run() -> None:
        with callback(SECONDS):
            found.append(ask(comms, most=0.1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(5)
    assert found == ["answer to conn"]


async def slow(seconds: float, done: list[str]) -> str:
    await asyncio.sleep(seconds)
    done.append("asked")
    return "answer"


def test_a_coroutine_s_question_is_left_to_itself_and_never_cancelled():
    """The triggerer before 3.2 does not outlive a question whose asker went away."""
    done: list[str] = []

    async def run() -> None:
        with callback(SECONDS):
            assert await awithin(slow(0.1, done)) == "answer"
            with pytest.raises(AirflowTimeoutError):
                await awithin(slow(1.0, done), most=0.2)
        impatient = asyncio.create_task(awithin(slow(0.5, done)))
        await asyncio.sleep(0.1)
        impatient.cancel()
        await asyncio.sleep(1.2)
        assert impatient.cancelled()

    asyncio.run(run())
    assert done == ["asked"] * 3
    assert channel._asking == set()


def test_a_coroutine_without_time_does_not_ask():
    done: list[str] = []

    async def run() -> None:
        with callback(0.3):
            await asyncio.sleep(0.3)
            with pytest.raises(AirflowTimeoutError):
                await awithin(slow(0, done), last=True)

    asyncio.run(run())
    assert done == []


def test_eight_callbacks_of_one_loop_have_each_its_own_time():
    async def one(seconds: float) -> float:
        with callback(seconds):
            await asyncio.sleep(0.05)
            return left(LAST_WORD)

    async def run() -> list[float]:
        return await asyncio.gather(*(one(number) for number in range(10, 18)))

    assert [round(seconds) for seconds in asyncio.run(run())] == list(range(10, 18))
