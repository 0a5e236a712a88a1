"""The way from Airflow to the sandbox, through this process, so that the demo can cut it and mend it."""

from types import TracebackType
from typing import Self

from airflow_incident.sandbox.fault import FaultProxy


class Wire:
    """A port that leads to the sandbox until it is cut: `with Wire(8910) as wire: ...`.

    :param port: where the sandbox listens, or soon will.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._proxy = FaultProxy(port).start()
        self.url = self._proxy.url

    def cut(self, fault: str = "refuse") -> None:
        """End every connection that there is, and from now on refuse each, or do to it what the fault says."""
        port = self._proxy.port
        self._proxy.stop()
        self._proxy = FaultProxy(self._upstream, fault, port=port).start()

    def mend(self) -> None:
        """Let everything pass again."""
        self._proxy.heal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._proxy.stop()
