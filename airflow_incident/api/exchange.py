"""The one exchange with the API: a generator that yields requests, and does no I/O itself.

Retries, Retry-After, the time budget and the reading of errors are decided here, for sync and async alike.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_incident.api.calls import (
    Call,
    CallSequence,
    Directory,
    PaginatedCall,
    PreparedCreate,
    is_for_alert_source,
    send_alert,
)
from airflow_incident.api.incident import read_object
from airflow_incident.core.timing import (
    ATTEMPT_SECONDS,
    BACKOFF_LIMIT,
    BACKOFF_SECONDS,
    MIN_REQUEST_SECONDS,
    RETRY_AFTER_LIMIT,
)
from airflow_incident.errors import (
    APIError,
    ConfigurationError,
    FieldError,
    IncidentIoError,
    Problem,
    TransportError,
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

T = TypeVar("T")

ATTEMPTS = 5
"""Requests made for one call, at most."""
ALERT_SOURCE_HINT = "Check 'Alert source ID' and 'Alert source token' of the connection."


class Request(NamedTuple):
    """What the driver shall send, `delay` seconds from now. The API key is the driver's to add.

    `timeout` is for httpx; after `cut` seconds the driver leaves it behind, whatever the wire does, and answers None.
    """

    method: str
    path: str
    query: Mapping[str, Any] | None
    content: bytes | None
    timeout: float
    limit: int
    delay: float = 0.0
    cut: float | None = None


class Response(NamedTuple):
    """What the driver received; header names in lower case."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes = b""


Received = Response | IncidentIoError | None
"""What a request is answered with; None if it was left behind."""


class RequestLimits(NamedTuple):
    """What a call may take: when it must end, by which clock, and the chance for its pauses.

    `clock` counts seconds and never goes back; `now` is the time of day, in UTC; `random` is in [0, 1). `errors_seen`
    collects the errors on the way, for one that is cut off has no other way to show them. `directory` is what was
    looked up before. `share` are the seconds of a sequence that has a part of the time, and is cut off after it.
    """

    deadline: float
    clock: Callable[[], float]
    now: Callable[[], datetime]
    random: Callable[[], float]
    errors_seen: list[IncidentIoError]
    directory: Directory = Directory()
    share: float | None = None

    @property
    def left(self) -> float:
        """Seconds left until the deadline."""
        return self.deadline - self.clock()


def create_call(creation: PreparedCreate) -> Call[Any]:
    """Open an incident with a body that is ready, or get the one that its key has opened before; or send an alert.

    https://docs.incident.io/api-reference/incidents-v1/create
    https://docs.incident.io/api-reference/incidents-v2/create
    """
    if creation.endpoint == "alert":
        return send_alert(creation.body)
    return Call(method="POST", path=f"/{creation.endpoint}/incidents", body=creation.body, parse=creation.read)


def execute(
    call: Call[T] | CallSequence[T] | PaginatedCall[T] | PreparedCreate, limits: RequestLimits
) -> Generator[Request, Received, Any]:
    """Make a call, or all the calls of a list or a sequence.

    :raises IncidentIoError: the last failure, when none is left to try or the time is over.
    """
    if isinstance(call, CallSequence):
        return (yield from _run_sequence(call, limits))
    if isinstance(call, PaginatedCall):
        return (yield from _all_pages(call, limits))
    return (yield from _exchange(create_call(call) if isinstance(call, PreparedCreate) else call, limits))


def _run_sequence(sequence: CallSequence[Any], limits: RequestLimits) -> Generator[Request, Received, Any]:
    """Make calls that depend on one another, within their share of the time: what comes after them needs the rest."""
    if sequence.share < 1:
        share = limits.left * sequence.share
        limits = limits._replace(deadline=limits.clock() + share, share=share)
    steps = sequence.steps(limits.directory)
    resume: Callable[[], Any] = partial(next, steps)
    try:
        while True:
            call = resume()
            try:
                resume = partial(steps.send, (yield from execute(call, limits)))
            except IncidentIoError as error:
                resume = partial(steps.throw, error)
    except StopIteration as end:
        return end.value
    except IncidentIoError:
        raise
    except Exception as error:  # noqa: BLE001 -- it trips over an answer; no cause is shown, for its text may quote it
        raise UnexpectedResponseError(200, f"the answer cannot be used ({type(error).__name__})") from None


def _all_pages(paginated: PaginatedCall[T], limits: RequestLimits) -> Generator[Request, Received, list[T]]:
    items: list[T] = []
    seen: set[str] = set()
    after: str | None = None
    while True:
        found, after = yield from _exchange(paginated.page(after), limits)
        items += found
        if not after or not found:
            return items
        if after in seen:
            raise UnexpectedResponseError(200, "the list goes round in circles")
        seen.add(after)


def _exchange(call: Call[T], limits: RequestLimits) -> Generator[Request, Received, T]:
    """Send one request until it is answered for good; the same bytes each time."""
    try:
        content = None if call.body is None else json.dumps(call.body, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError([Problem("Request", f"cannot be written as JSON ({error})")]) from None
    maybe_delivered = False
    wait = 0.0
    for attempt in range(ATTEMPTS):
        left = limits.left - wait
        answer = yield Request(
            method=call.method,
            path=call.path,
            query=call.query,
            content=content,
            timeout=max(MIN_REQUEST_SECONDS, min(ATTEMPT_SECONDS, left)),
            limit=call.limit,
            delay=wait,
            cut=None if limits.share is None else max(0.0, left),
        )
        try:
            return _read(call, answer, limits)
        except IncidentIoError as error:
            limits.errors_seen.append(error)
            maybe_delivered |= error.maybe_delivered
            wait = _wait(error, attempt, limits.random)
            if not error.retryable or attempt + 1 == ATTEMPTS or wait >= limits.left:
                error.maybe_delivered = maybe_delivered and content is not None
                raise
    raise AssertionError  # pragma: no cover -- the last attempt returns or raises


def too_late(seconds: float, errors_seen: Sequence[IncidentIoError]) -> TransportError:
    """Make the error of a call whose time has run out, with what went wrong before."""
    before = f", after: {errors_seen[-1]}" if errors_seen else ""
    return TransportError(f"no answer within {seconds:.3g} s{before}", maybe_delivered=True)


def _wait(error: IncidentIoError, attempt: int, random: Callable[[], float]) -> float:
    """Say how long to wait: what the server asked for, else exponential backoff with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if isinstance(error, APIError) and error.retry_after is not None:
        return error.retry_after
    return random() * min(BACKOFF_LIMIT, BACKOFF_SECONDS * float(2**attempt))


def _read(call: Call[T], answer: Received, limits: RequestLimits) -> T:
    if isinstance(answer, IncidentIoError):
        raise answer
    if answer is None and limits.share is not None:
        raise too_late(limits.share, limits.errors_seen)
    if not isinstance(answer, Response):
        raise TypeError("a request must be answered with a response or an error")
    # By how much the two clocks differ: https://www.rfc-editor.org/rfc/rfc9110#name-date
    if moment := _read_date(answer.headers.get("date")):
        limits.directory.ahead = (moment - limits.now()).total_seconds()
    if 200 <= answer.status < 300:  # noqa: PLR2004
        try:
            return call.parse(answer.content)
        except Exception:  # noqa: BLE001 -- a parser may raise anything: 100,000 brackets are a RecursionError
            what = "the answer is not what incident.io documents"
            raise UnexpectedResponseError(answer.status, what, request_id=_request_id(answer)) from None
    if answer.status < 400:  # noqa: PLR2004
        what = "the answer points to another address, where the API key must not go"
        raise UnexpectedResponseError(answer.status, what, request_id=_request_id(answer))
    error = _read_error(answer, limits.now)
    if is_for_alert_source(call) and error.status in {401, 403, 404}:
        error.advice = ALERT_SOURCE_HINT
    raise error


def _read_error(response: Response, now: Callable[[], datetime]) -> APIError:
    """Read an error answer; proxies answer with pages, so nothing of the body is taken for granted.

    https://docs.incident.io/api-reference/introduction
    """
    kind = APIError.for_status(response.status)
    try:
        body = read_object(response.content)
    except (ValueError, RecursionError):  # a page, or too deep; its headers still count
        body = {}
    details = body.get("errors")
    try:
        return kind(
            response.status,
            type=str(body.get("type") or ""),
            request_id=_request_id(response, body),
            errors=tuple(_field_error(e) for e in details if isinstance(e, dict)) if isinstance(details, list) else (),
            retry_after=_retry_after(response, body, now),
        )
    except Exception:  # noqa: BLE001 -- as for a parser; that it was refused is what matters
        return kind(response.status)


def _request_id(response: Response, body: Mapping[str, Any] = MappingProxyType({})) -> str:
    return str(body.get("request_id") or response.headers.get("x-request-id") or "")


def _field_error(entry: Mapping[str, Any]) -> FieldError:
    source = entry.get("source")
    place = source if isinstance(source, dict) else {}
    said = (entry.get("code"), entry.get("message"), place.get("field"), place.get("pointer"))
    return FieldError(*(str(text or "") for text in said))


def _retry_after(response: Response, body: Mapping[str, Any], now: Callable[[], datetime]) -> float | None:
    """Read when to come back: the later of the header and the body, which have both had several forms.

    A date counts from the answer's own, for this machine's clock may be wrong.
    """
    limit = body.get("rate_limit")
    said = (response.headers.get("retry-after"), limit.get("retry_after") if isinstance(limit, dict) else None)
    began = _read_date(response.headers.get("date")) or now()
    known = [seconds for value in said if (seconds := _seconds_until(value, began)) is not None]
    return min(max(0.0, *known), RETRY_AFTER_LIMIT) if known else None


def _seconds_until(value: Any, began: datetime) -> float | None:
    """Read seconds, RFC 3339, or an HTTP date, also with the zone name UTC that RFC 9110 does not know."""
    if value is None or isinstance(value, bool):
        return None
    text = str(value).strip()
    try:
        seconds = float(text)
    except ValueError:
        moment = _read_date(text)
        return None if moment is None else (moment - began).total_seconds()
    return seconds if seconds == seconds else None  # noqa: PLR0124 -- NaN is no number of seconds


def _read_date(text: str | None) -> datetime | None:
    readers: tuple[Callable[[Any], datetime], ...] = (datetime.fromisoformat, parsedate_to_datetime)
    for read in readers:
        try:
            moment = read(text)
        except Exception:  # noqa: BLE001, S112 -- Python's reader of dates raises what it meets
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
