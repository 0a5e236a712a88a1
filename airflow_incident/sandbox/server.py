"""A sandbox that runs: uvicorn on a loopback port, in a thread, for tests, the demo and the command line."""

import threading
from typing import Any, Self

import uvicorn

from .app import build
from .fault import FaultProxy, bound, parse
from .options import Options
from .store import Store


class Sandbox(Store):
    """A local incident.io: `with Sandbox() as box: ...` serves until the block ends.

    :param port: the port on 127.0.0.1; 0 takes any that is free.
    :param fault: a fault's name, or NAME:N for the first N requests; see `sandbox/fault.py`.
    :param certfile: a certificate's path; with it, and `keyfile`, the sandbox speaks TLS.
    :param options: what `Options` takes: api_key, roles, repeat, v1_removed, demand_severity, clock …
    """

    def __init__(
        self,
        *,
        port: int = 0,
        fault: str = "none",
        certfile: str | None = None,
        keyfile: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(Options(**options))
        self.proxy: FaultProxy | None = None
        self._fault, self._times = parse(fault)
        if certfile and self._fault != "none":
            raise ValueError("faults are for plain HTTP: leave out either the fault or the certificate")
        self._port = port
        self._scheme = "https" if certfile else "http"
        config = uvicorn.Config(
            build(self),
            loop="asyncio",
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
            ssl_certfile=certfile,
            ssl_keyfile=keyfile,
        )
        # An unreadable certificate fails here, not in a thread that nobody looks at.
        config.load()
        self._server = uvicorn.Server(config)

    def start(self) -> Self:
        """Listen and serve; a taken port raises OSError."""
        self._listener = bound(self._port if self._fault == "none" else 0)
        self._listener.listen(128)
        self.port = self.direct_port = int(self._listener.getsockname()[1])
        if self._fault != "none":
            try:
                self.proxy = FaultProxy(self.direct_port, self._fault, times=self._times, port=self._port)
            except OSError:
                self._listener.close()
                raise
            self.port = self.proxy.start().port
        self.direct_url = f"{self._scheme}://127.0.0.1:{self.direct_port}"
        self.url = self.base_url = f"{self._scheme}://127.0.0.1:{self.port}"
        sockets = {"sockets": [self._listener]}
        self._thread = threading.Thread(target=self._server.run, kwargs=sockets, name="sandbox", daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer what is under way, then close the port."""
        if self.proxy is not None:
            self.proxy.stop()
        # The pages' streams of events would keep the server waiting.
        self.end()
        self._server.should_exit = True
        self._thread.join()
        self._listener.close()

    @property
    def store(self) -> Store:
        """What it remembers, which is all that its application knows of it."""
        return self

    __enter__ = start

    def __exit__(self, *_error: object) -> None:
        self.stop()
