"""The pages of Airflow's UI that a failure belongs to, and what may be taken for an incident's page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from airflow_incident.core.account import is_loopback

if TYPE_CHECKING:
    from airflow_incident.core.failure import Failure

_INCIDENT_PAGE = (
    # Strict, for browsers and Python split odd addresses differently: no user, no backslash, nothing but ASCII.
    r"(?:https://(?:[a-z0-9-]+\.)*incident\.io|https?://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?)"
    r"(?:/[A-Za-z0-9._~%!$&'()*+,;=:@/?#-]*)?"
)


def is_incident_page(url: str) -> bool:
    """Return whether an address that somebody else wrote is one of incident.io, or of a sandbox on this machine."""
    return re.fullmatch(_INCIDENT_PAGE, url) is not None


def with_pages(failure: Failure, *, base_url: str | None, airflow: int, local: bool) -> Failure:
    """Add the addresses of the run and of the task's log.

    :param base_url: Where the UI is, as configured; without it there are no addresses.
    :param airflow: Airflow's major version.
    :param local: Whether an address that only this machine knows is of use to the reader.
    """
    base = (base_url or "").rstrip("/")
    if not base or (is_loopback(urlsplit(base).hostname) and not local):
        return failure
    dag, run, task = (
        quote(part, safe="", errors="replace") for part in (failure.dag_id, failure.run_id, failure.task_id or "")
    )
    if airflow < 3:  # noqa: PLR2004 -- the UI was rewritten in 3.0
        page = f"{base}/dags/{dag}/grid?dag_run_id={run}"
        mapped = f"&map_index={failure.map_index}" if failure.map_index >= 0 else ""
        log = f"{page}&task_id={task}{mapped}&tab=logs"
    else:
        page = f"{base}/dags/{dag}/runs/{run}"
        mapped = f"/mapped/{failure.map_index}" if failure.map_index >= 0 else ""
        log = f"{page}/tasks/{task}{mapped}" + (f"?try_number={failure.attempt}" if failure.attempt else "")
    return failure._replace(run_url=page, log_url=log if task else None)
