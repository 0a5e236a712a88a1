"""The other end of Airflow's channel: a supervisor that answers late, or never, over Airflow's own messages."""

import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

EMPTY = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))


class LateSupervisor:
    """Answers for a connection, Variables and the states of tasks, each kind of question after some seconds.

    :param connection: Fields of the connection that there is.
    :param delays: Seconds by the name of a message, each for one question and the last one for all others; None: never.
    """

    def __init__(self, connection: dict[str, Any], **delays: list[float | None]) -> None:
        self.connection = connection
        self.delays = delays
        self.variables: dict[str, str] = {}
        self.heard: list[str] = []

    @contextmanager
    def __call__(self) -> Iterator[Any]:
        """Be the supervisor of this process; yields its channel."""
        import socket

        from airflow.sdk.execution_time import comms, task_runner

        ours, self.end = socket.socketpair()
        self._comms = comms
        task_runner.SUPERVISOR_COMMS = comms.CommsDecoder(socket=ours)
        thread = threading.Thread(target=self._serve_and_close, daemon=True)
        thread.start()
        try:
            yield task_runner.SUPERVISOR_COMMS
        finally:
            del task_runner.SUPERVISOR_COMMS
            ours.close()
            self.end.close()
            thread.join(5)

    @asynccontextmanager
    async def on_the_loop(self) -> AsyncIterator[Any]:
        """Be the supervisor of a triggerer, whose channel its event loop has; yields that channel."""
        import asyncio

        from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
        from airflow.sdk.execution_time import task_runner

        with self() as comms:
            reader, writer = await asyncio.open_connection(sock=comms.socket)
            channel = TriggerCommsDecoder(async_reader=reader, async_writer=writer, socket=comms.socket)
            task_runner.SUPERVISOR_COMMS = channel
            if hasattr(channel, "start_reader"):
                await channel.start_reader()
            try:
                yield channel
            finally:
                if reading := getattr(channel, "_reader_task", None):
                    reading.cancel()
                writer.close()

    def _serve_and_close(self) -> None:
        try:
            self._serve()
        finally:
            self.end.close()

    def _serve(self) -> None:
        import msgspec

        decoder = msgspec.msgpack.Decoder(self._comms._RequestFrame)
        with suppress(OSError):
            while head := self._read(4):
                request = decoder.decode(self._read(int.from_bytes(head, "big")))
                kind = request.body["type"]
                self.heard.append(kind)
                delays = self.delays.get(kind, [0.0])
                delay = delays.pop(0) if len(delays) > 1 else delays[0]
                answer = self.answer(kind, request.body)
                if delay is None:
                    continue
                time.sleep(delay)
                self.end.sendall(self._comms._ResponseFrame(id=request.id, body=answer).as_bytes())

    def _read(self, size: int) -> bytes:
        content = b""
        while len(content) < size:
            chunk = self.end.recv(size - len(content))
            if not chunk:
                return b""
            content += chunk
        return content

    def answer(self, kind: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """Say what a message is answered with."""
        if kind == "GetConnection":
            ours = {"conn_type": "incident_io"} | self.connection
            fields = ours if body["conn_id"] == "incident_io_default" else {"conn_type": "neighbour"}
            return EMPTY | {"conn_id": body["conn_id"], "type": "ConnectionResult"} | fields
        if kind == "GetVariable":
            if (value := self.variables.get(body["key"])) is None:
                return {"error": "VARIABLE_NOT_FOUND", "type": "ErrorResponse"}
            return {"key": body["key"], "value": value, "type": "VariableResult"}
        if kind == "PutVariable":
            self.variables[body["key"]] = body["value"]
        if kind == "GetTaskStates":
            return {"task_states": {"run-1": {"load": "failed"}}, "type": "TaskStatesResult"}
        return None
