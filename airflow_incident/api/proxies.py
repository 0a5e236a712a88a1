"""The environment's proxies, read by the standard library, for when httpx cannot read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""What httpx reads, also in lower case: https://www.python-httpx.org/environment_variables/."""


def proxy_for(base_url: str) -> str | None:
    """Return the proxy on the way to an https address; None where there is none, or NO_PROXY leaves the host out."""
    proxies = getproxies_environment()
    proxy = proxies.get("https") or proxies.get("all")
    if not proxy or proxy_bypass(urlsplit(base_url).netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def blamed_variables(is_readable: Callable[[], bool]) -> list[str]:
    """Name the proxy variables that cannot be read each by itself.

    It changes the environment meanwhile, so it is for a command, never for a process of Airflow.

    :param is_readable: Tells whether the environment as it is can be read.
    """
    names = [name for upper in VARIABLES for name in (upper, upper.lower())]
    given = {name: os.environ.pop(name) for name in names if name in os.environ}
    blamed = []
    try:
        for name, value in given.items():
            os.environ[name] = value
            if not is_readable():
                blamed.append(name)
            del os.environ[name]
    finally:
        os.environ.update(given)
    return blamed
