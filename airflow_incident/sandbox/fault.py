"""A TCP proxy before the sandbox that breaks the wire in named ways. Standard library only, loopback only.

Only requests to the API are broken; the page passes through untouched.
"""

import contextlib
import dataclasses
import functools
import io
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from . import fault_answers as answers

API = ("/v1/", "/v2/")
LOOPBACK = "127.0.0.1"


def bound(port: int) -> socket.socket:
    """Return a socket that has taken this port, or any free one for 0, and does not listen yet."""
    # asyncio sends small answers at once (TCP_NODELAY) only on a socket that says it is TCP.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError:
        listener.close()
        raise
    return listener


@dataclasses.dataclass(frozen=True)
class WireRequest:
    """A request as it came over the wire."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    head: bytes

    def closing(self) -> bytes:
        """Return the request's bytes, asking for the connection to end with the answer."""
        head = re.sub(rb"\r\nconnection:[^\r]*", b"", self.head, flags=re.IGNORECASE)
        return head.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n" + self.body


class FaultProxy:
    """A port on 127.0.0.1 that leads to another one, and fails on the way.

    `with FaultProxy(box.direct_port, "hang", times=1) as proxy: ...` lets one request hang at `proxy.url`.

    :param upstream_port: where the sandbox listens, without TLS.
    :param fault: one of `FAULTS`; "none" passes everything.
    :param times: how many API requests it affects, the first ones; None is all.
    :param port: where to listen; 0 takes any free port.
    :param pace: seconds between two bytes of a drip.
    :param delay: seconds until `slow` answers.
    :param wait: seconds until a retry is possible, as the `error-429-*` tell it.
    :param target: where the redirects lead.
    """

    def __init__(
        self,
        upstream_port: int,
        fault: str = "none",
        *,
        times: int | None = None,
        port: int = 0,
        pace: float = 1.0,
        delay: float = 3.0,
        wait: float = 3.0,
        target: str = "http://127.0.0.1:9",
    ) -> None:
        _check(fault, times)
        self.upstream_port = upstream_port
        self.pace, self.delay, self.wait, self.target = pace, delay, wait, target
        self.requests: list[WireRequest] = []
        self.stopping = threading.Event()
        self._fault = fault
        self._left = float("inf") if times is None else times
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = bound(port)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self._listening = False

    def start(self) -> Self:
        """Accept connections, unless the fault is that nobody does."""
        if self._fault != "refuse":
            self._listen()
        return self

    def heal(self) -> None:
        """End the fault: from now on everything passes."""
        self._left = 0
        if not self._listening:
            self._listen()

    def stop(self) -> None:
        """End every connection, whatever state it is in, and close the port."""
        self.stopping.set()
        if self._listening:
            with contextlib.suppress(OSError):
                socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        with self._lock:
            for live in self._sockets:
                with contextlib.suppress(OSError):
                    live.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    __enter__ = start

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _listen(self) -> None:
        self._listener.listen(128)
        self._listening = True
        self._spawn(self._accept)

    def _spawn(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name="fault", daemon=True)
        self._threads.append(thread)
        thread.start()

    @contextlib.contextmanager
    def _tracked(self, live: socket.socket) -> Iterator[None]:
        """Let `stop` end this connection too."""
        with self._lock:
            self._sockets.add(live)
            if self.stopping.is_set():
                live.shutdown(socket.SHUT_RDWR)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.discard(live)
            live.close()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.stopping.is_set():
                client.close()
                return
            self._spawn(functools.partial(self._serve, client))

    def _serve(self, client: socket.socket) -> None:
        """Answer one connection's requests until either side has enough of it."""
        with self._tracked(client), client.makefile("rb") as reader, contextlib.suppress(OSError, ValueError):
            while (request := read_request(reader)) is not None:
                if not request.path.startswith(API):
                    self._stream(client, request)
                    return
                self.requests.append(request)
                exchange = Exchange(self, client, reader, request)
                FAULTS[self._take()](exchange)
                if exchange.ended:
                    return

    def _take(self) -> str:
        with self._lock:
            if self._left <= 0:
                return "none"
            self._left -= 1
            return self._fault

    def _stream(self, client: socket.socket, request: WireRequest) -> None:
        """Pass an answer on as it comes; the page's stream of events never ends by itself."""
        upstream = socket.create_connection((LOOPBACK, self.upstream_port))
        with self._tracked(upstream):
            upstream.sendall(request.closing())
            while data := upstream.recv(65536):
                client.sendall(data)


@dataclasses.dataclass
class Exchange:
    """One API request and what may be done with it."""

    proxy: FaultProxy
    client: socket.socket
    reader: io.BufferedReader
    request: WireRequest
    ended: bool = False

    def send(self, *parts: bytes) -> None:
        """Send these bytes to the client."""
        for part in parts:
            self.client.sendall(part)

    def forward(self) -> bytes:
        """Let the request take effect and return the sandbox's whole answer."""
        with socket.create_connection((LOOPBACK, self.proxy.upstream_port)) as upstream:
            upstream.sendall(self.request.closing())
            with upstream.makefile("rb") as stream:
                answer = stream.read()
        return re.sub(rb"\r\nconnection: close", b"", answer, count=1, flags=re.IGNORECASE)

    def forward_body(self) -> bytes:
        """Let the request take effect and return the answer without its head."""
        return self.forward().partition(b"\r\n\r\n")[2]

    def drip(self, data: bytes) -> None:
        """Send one byte after the other, slowly, as long as the proxy lives."""
        for byte in data:
            self.send(bytes([byte]))
            if self.proxy.stopping.wait(self.proxy.pace):
                return

    def end(self) -> None:
        """Close the connection in the regular way."""
        self.ended = True

    def reset(self) -> None:
        """Close the connection so that the client sees it broken."""
        # Lingering for zero seconds makes close() send RST instead of FIN.
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()


def _hang(exchange: Exchange) -> None:
    exchange.reader.read()  # until the client gives up
    exchange.end()


def _slow(exchange: Exchange) -> None:
    answer = exchange.forward()
    exchange.proxy.stopping.wait(exchange.proxy.delay)
    exchange.send(answer)


def _drip_body(exchange: Exchange) -> None:
    head, gap, body = exchange.forward().partition(b"\r\n\r\n")
    exchange.send(head + gap)
    exchange.drip(body)


def _drop_after_accept(exchange: Exchange) -> None:
    exchange.forward()
    exchange.end()


def _stale(exchange: Exchange) -> None:
    exchange.send(exchange.forward())
    exchange.reader.peek(1)  # until the client uses this connection again, or closes it
    exchange.reset()


def _huge(exchange: Exchange) -> None:
    before, after = answers.padded(exchange.forward_body())
    block = b"x" * 65536
    count = answers.HUGE // len(block)
    length = str(len(before) + count * len(block) + len(after))
    head = answers.head(200, {"Content-Type": "application/json", "Content-Length": length})
    exchange.send(head, before, *[block] * count, after)


def _answer(change: Callable[[bytes], bytes], **headers: str) -> Callable[[Exchange], None]:
    """Let the request take effect, and answer with what `change` makes of the sandbox's body."""
    return lambda exchange: exchange.send(answers.answer(200, change(exchange.forward_body()), **headers))


def _redirect(status: int) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(
        answers.answer(status, b"", Location=exchange.proxy.target + exchange.request.path)
    )


def _error(name: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.send(answers.error(name, time.time(), exchange.proxy.wait))


FAULTS: dict[str, Callable[[Exchange], None]] = {
    "none": lambda exchange: exchange.send(exchange.forward()),
    # Nobody listens; nothing ever arrives here.
    "refuse": Exchange.end,
    "hang": _hang,
    "slow": _slow,
    "drip-head": lambda exchange: exchange.drip(exchange.forward()),
    "drip-body": _drip_body,
    "drop-before": Exchange.reset,
    "drop-after-accept": _drop_after_accept,
    "stale": _stale,
    "invalid-json": _answer(lambda body: body[: len(body) // 2]),
    "wrong-shape": _answer(lambda _body: b'{"incident": {"name": "It has no id"}}'),
    "huge": _huge,
    "gzip-bomb": _answer(answers.bomb, Content_Encoding="gzip"),
    "redirect-302": _redirect(302),
    "redirect-307": _redirect(307),
    **{name: _error(name) for name in answers.NAMES},
}


def parse(text: str) -> tuple[str, int | None]:
    """Read `NAME` or `NAME:N`: a fault, and the number of requests it affects."""
    name, colon, count = text.partition(":")
    if colon and re.fullmatch("[1-9][0-9]{0,8}", count) is None:
        raise ValueError(f"{name} affects a whole number of requests, not {count!r}")
    times = int(count) if colon else None
    _check(name, times)
    return name, times


def _check(name: str, times: int | None) -> None:
    if name not in FAULTS:
        raise ValueError(f"unknown fault {name!r}; known: {', '.join(FAULTS)}")
    if name == "refuse" and times is not None:
        raise ValueError("refused connections cannot be counted: leave the number out")


def read_request(reader: io.BufferedReader) -> WireRequest | None:
    """Read one request, or return None when the client has gone or speaks no HTTP."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = reader.readline(65536)
        if not line or len(head) > 65536:  # noqa: PLR2004 - a head's usual limit
            return None
        head += line
    first, *lines = head.decode("latin-1").strip().split("\r\n")
    method, _, rest = first.partition(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "transfer-encoding" in headers:
        body = b""
        while not body.endswith(b"0\r\n\r\n") and (line := reader.readline()):
            body += line
    else:
        body = reader.read(int(headers.get("content-length", "0")))
    return WireRequest(method, rest.partition(" ")[0], headers, body, head)
