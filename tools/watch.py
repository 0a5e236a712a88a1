"""Waits that show what they wait for, end in time, and notice a signal or the death of what they wait for."""

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Seen = TypeVar("Seen")

LOOK_EVERY = 0.2
TAIL, WIDTH = 15, 200


class Trouble(Exception):  # noqa: N818 - it is told to a person, who calls it that
    """The demo cannot go on; says why, which log to look at, and how that log ends now, before all is stopped."""

    def __init__(self, text: str, log: Path | None = None) -> None:
        if log is not None and log.is_file():
            lines = log.read_text(errors="replace").splitlines()[-TAIL:]
            text = "\n".join([text, f"See {log}, which ends like this:", *(f"  {line[:WIDTH]}" for line in lines)])
        super().__init__(text)


class Interrupted(Exception):  # noqa: N818 - not an error
    """A person, or the system, asked the demo to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Watch:
    """One live line on a terminal, one line for each change elsewhere."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._shown = ""
        self._signal = 0
        self._began = time.monotonic()

    def listen(self) -> None:
        """Take Ctrl-C and its kin as a wish, looked at between two steps, so that no step is cut in half."""
        signal.signal(signal.SIGINT, self._note)
        signal.signal(signal.SIGTERM, self._note)
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self._signal = self._signal or number

    def show(self, text: str) -> None:
        """Say what is going on now; said again, only the seconds change."""
        if text != self._shown:
            self._began = time.monotonic()
        if self._live:
            print(f"\r\033[K{text} ({time.monotonic() - self._began:.0f} s)", end="", flush=True)
        elif text != self._shown:
            print(text, flush=True)
        self._shown = text

    def say(self, text: str) -> None:
        """Print what stays, in place of the live line."""
        if self._live or text != self._shown:
            print(f"\r\033[K{text}" if self._live else text, flush=True)
        self._shown = ""

    def until(
        self,
        look: Callable[[], tuple[str, Seen | None]],
        *,
        seconds: float,
        log: Path | None = None,
        every: float = LOOK_EVERY,
    ) -> Seen:
        """Show what `look` says until it also returns something; raise Trouble when the time is up."""
        deadline = time.monotonic() + seconds
        while True:
            if self._signal:
                raise Interrupted(self._signal)
            text, seen = look()
            self.show(text)
            if seen is not None:
                return seen
            if time.monotonic() > deadline:
                raise Trouble(f"waited {seconds:.0f} s, and still: {text}", log)
            time.sleep(every)


def perform(play: Callable[[Watch], str], *, stays: bool = False) -> int:
    """Play something that stops what it has started; say how it ended and return the exit code.

    :param stays: whether a signal is how it is meant to end.
    """
    watch = Watch()
    watch.listen()
    try:
        outcome = play(watch)
    except Interrupted as wish:
        watch.say(f"stopped by {wish}; nothing is left running")
        return 0 if stays else 128 + wish.number
    except Trouble as trouble:
        watch.say(str(trouble))
        return 1
    watch.say(outcome)
    return 0
