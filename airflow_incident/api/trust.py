"""Trust stores for TLS, each loaded once per process, on a thread.

OpenSSL takes 15 to 20 ms for the usual one and needs no Python meanwhile, so that a failure is read beside it.
"""

from __future__ import annotations

import os
import ssl
import sys
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

import certifi

from airflow_incident.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Callable

_Place: TypeAlias = tuple[str | None, str | None]
"""A file of authorities, or a folder of them."""

_stores: dict[tuple[int, _Place], Future[ssl.SSLContext]] = {}


def begin(ca_bundle: str | None) -> Future[ssl.SSLContext]:
    """Get the store, or begin to load it. What cannot be loaded is told by whoever needs it, not here.

    The first of several threads wins. No lock: one held while Airflow forks would never be released.

    :param ca_bundle: Path of a PEM file. Default: what SSL_CERT_FILE or SSL_CERT_DIR names, else certifi's.
    """
    known = (os.getpid(), _place(ca_bundle))
    if known in _stores:
        return _stores[known]
    mine: Future[ssl.SSLContext] = Future()
    # Made here: the thread then only loads. Whatever Python it runs has to wait for the caller's, 5 ms each time.
    # And made before others may wait for it: what raises here must leave no promise behind.
    try:
        context = _context()
    except (OSError, ValueError) as error:
        mine.set_exception(error)
        return mine
    first = _stores.setdefault(known, mine)
    if first is mine:
        _apart(lambda: _load(context, known, mine))
    return first


def trust(ca_bundle: str | None) -> ssl.SSLContext:
    """Get the store, waiting for it.

    :raises ConfigurationError: if it cannot be read.
    """
    try:
        return begin(ca_bundle).result()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        file, folder = _place(ca_bundle)
        what = repr(ca_bundle) if ca_bundle else f"SSL_CERT_FILE of the environment, {file or folder!r},"
        raise ConfigurationError([Problem("CA bundle", f"{what} cannot be read ({error})")]) from None


def _place(ca_bundle: str | None) -> _Place:
    """Find the store as httpx does: https://www.python-httpx.org/environment_variables/."""
    if file := ca_bundle or os.environ.get("SSL_CERT_FILE"):
        return file, None
    if folder := os.environ.get("SSL_CERT_DIR"):
        return None, folder
    return certifi.where(), None


def _context() -> ssl.SSLContext:
    """Make what `ssl.create_default_context` makes, but for the store, which that would load at once."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if sys.version_info >= (3, 13):
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    return context


def _apart(work: Callable[[], None]) -> None:
    """Do work on a thread that Python waits for: OpenSSL cleans up at exit, and whoever still loads would crash."""
    try:
        threading.Thread(target=work, name="incident.io trust store").start()
    except RuntimeError:  # no thread to be had
        work()


def _load(context: ssl.SSLContext, known: tuple[int, _Place], future: Future[ssl.SSLContext]) -> None:
    """Load a store; one that cannot be loaded is tried anew the next time."""
    try:
        context.load_verify_locations(*known[1])
    except BaseException as error:  # noqa: BLE001 -- carried to the caller, who raises it
        _stores.pop(known, None)
        future.set_exception(error)
    else:
        future.set_result(context)
