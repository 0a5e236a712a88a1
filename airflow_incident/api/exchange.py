"""The one exchange with the API: a generator that yields requests and pauses, and does no I/O itself.

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
    create_call,
    is_for_alert_source,
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
    UnexpectedResponseError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

T = TypeVar("T")

ATTEMPTS = 5
"""Requests made for one call, at most."""
ALERT_SOURCE_HINT = "Check 'Alert source ID' and 'Alert source token' of the connection."


class Request(NamedTuple):
    """What the driver shall send. The API key is the driver's to add."""

    method: str
    path: str
    query: Mapping[str, Any] | None
    content: bytes | None
    timeout: float
    limit: int


class Pause(NamedTuple):
    """How long the driver shall wait, in seconds."""

    seconds: float


class WithTimeout(NamedTuple):
    """A part of the exchange with a time of its own, in seconds; `errors_seen` collects the errors on its way.

    The driver ends it then, also where the wire drips or hangs, and answers with what it has returned or raised.
    """

    conversation: Generator[HttpStep, StepResult, Any]
    seconds: float
    errors_seen: list[IncidentIoError]


class Result(NamedTuple):
    """What such a part has returned."""

    value: Any


class Response(NamedTuple):
    """What the driver received; header names in lower case."""

    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes = b""


HttpStep = Request | Pause | WithTimeout
StepResult = Response | Result | IncidentIoError | None


class RequestLimits(NamedTuple):
    """What a call may take: when it must end, by which clock, and the chance for its pauses.

    `clock` counts seconds and never goes back; `now` is the time of day, in UTC; `random` is in [0, 1). `errors_seen`
    collects the errors on the way, for one that is cut off has no other way to show them. `directory` is what was
    looked up before.
    """

    deadline: float
    clock: Callable[[], float]
    now: Callable[[], datetime]
    random: Callable[[], float]
    errors_seen: list[IncidentIoError]
    directory: Directory = Directory()

    @property
    def left(self) -> float:
        """Seconds left until the deadline."""
        return self.deadline - self.clock()


def execute(
    call: Call[T] | CallSequence[T] | PaginatedCall[T] | PreparedCreate, limits: RequestLimits
) -> Generator[HttpStep, StepResult, Any]:
    """Make a call, or all the calls of a list or a sequence.

    :raises IncidentIoError: the last failure, when none is left to try or the time is over.
    """
    if isinstance(call, PreparedCreate):
        return (yield from _exchange(create_call(call), limits))
    if isinstance(call, CallSequence):
        return (yield from _run_sequence(call, limits) if call.share >= 1 else _with_timeout(call, limits))
    if isinstance(call, PaginatedCall):
        return (yield from _all_pages(call, limits))
    return (yield from _exchange(call, limits))


def _with_timeout(sequence: CallSequence[T], limits: RequestLimits) -> Generator[HttpStep, StepResult, T]:
    """Make the calls within their share of the time, whatever the wire does: what comes after them needs the rest."""
    seconds = limits.left * sequence.share
    within = limits._replace(deadline=limits.clock() + seconds)
    answer = yield WithTimeout(_run_sequence(sequence, within), seconds, limits.errors_seen)
    if isinstance(answer, IncidentIoError):
        raise answer
    if not isinstance(answer, Result):
        raise TypeError("a part must be answered with what it returned or an error")
    result: T = answer.value
    return result


def _run_sequence(sequence: CallSequence[T], limits: RequestLimits) -> Generator[HttpStep, StepResult, T]:
    steps = sequence.steps(limits.directory)
    resume = partial(next, steps)
    try:
        while True:
            call = _next_call(resume)
            try:
                resume = partial(steps.send, (yield from execute(call, limits)))
            except IncidentIoError as error:
                resume = partial(steps.throw, error)
    except StopIteration as end:
        result: T = end.value
        return result


def _next_call(resume: Callable[[], Any]) -> Any:
    """Resume a sequence; whatever it trips over is in what it was answered.

    :raises StopIteration: when it has ended.
    """
    try:
        return resume()
    except (StopIteration, IncidentIoError):
        raise
    except Exception as error:  # noqa: BLE001 -- and no cause is shown: its text may hold a part of the answer
        raise UnexpectedResponseError(200, f"the answer cannot be used ({type(error).__name__})") from None


def _all_pages(paginated: PaginatedCall[T], limits: RequestLimits) -> Generator[HttpStep, StepResult, list[T]]:
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


def _exchange(call: Call[T], limits: RequestLimits) -> Generator[HttpStep, StepResult, T]:
    """Send one request until it is answered for good; the same bytes each time."""
    content = None if call.body is None else _encoded(call.body)
    maybe_delivered = False
    for attempt in range(ATTEMPTS):
        answer = yield Request(
            method=call.method,
            path=call.path,
            query=call.query,
            content=content,
            timeout=max(MIN_REQUEST_SECONDS, min(ATTEMPT_SECONDS, limits.left)),
            limit=call.limit,
        )
        _compare_clocks(answer, limits)
        try:
            return _read(call, answer, limits.now)
        except IncidentIoError as error:
            limits.errors_seen.append(error)
            maybe_delivered |= error.maybe_delivered
            wait = _wait(error, attempt, limits.random)
            if not error.retryable or attempt + 1 == ATTEMPTS or wait >= limits.left:
                error.maybe_delivered = maybe_delivered and content is not None
                raise
        yield Pause(wait)
    raise AssertionError  # pragma: no cover -- the last attempt returns or raises


def _encoded(body: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigurationError([Problem("Request", f"cannot be written as JSON ({error})")]) from None


def _compare_clocks(answer: StepResult, limits: RequestLimits) -> None:
    """Note how far apart the two clocks are.

    https://www.rfc-editor.org/rfc/rfc9110#name-date
    """
    moment = _dated(answer) if isinstance(answer, Response) else None
    if moment is not None:
        limits.directory.ahead = (moment - limits.now()).total_seconds()


def _wait(error: IncidentIoError, attempt: int, random: Callable[[], float]) -> float:
    """Say how long to wait: what the server asked for, else exponential backoff with full jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if isinstance(error, APIError) and error.retry_after is not None:
        return error.retry_after
    return random() * min(BACKOFF_LIMIT, BACKOFF_SECONDS * float(2**attempt))


def _read(call: Call[T], answer: StepResult, now: Callable[[], datetime]) -> T:
    if isinstance(answer, IncidentIoError):
        raise answer
    if not isinstance(answer, Response):
        raise TypeError("a request must be answered with a response or an error")
    if 200 <= answer.status < 300:  # noqa: PLR2004
        try:
            return call.parse(answer.content)
        except Exception:  # noqa: BLE001 -- a parser may raise anything: 100,000 brackets are a RecursionError
            what = "the answer is not what incident.io documents"
            raise UnexpectedResponseError(answer.status, what, request_id=_request_id(answer)) from None
    if answer.status < 400:  # noqa: PLR2004
        what = "the answer points to another address, where the API key must not go"
        raise UnexpectedResponseError(answer.status, what, request_id=_request_id(answer))
    error = read_error(answer, now)
    if is_for_alert_source(call) and error.status in {401, 403, 404}:
        error.advice = ALERT_SOURCE_HINT
    raise error


def read_error(response: Response, now: Callable[[], datetime]) -> APIError:
    """Read an error answer; proxies answer with pages, so nothing of the body is taken for granted.

    https://docs.incident.io/api-reference/introduction
    """
    kind = APIError.for_status(response.status)
    try:
        return _described(kind, response, now)
    except Exception:  # noqa: BLE001 -- as for a parser; that it was refused is what matters
        return kind(response.status)


def _described(kind: type[APIError], response: Response, now: Callable[[], datetime]) -> APIError:
    body = _error_body(response.content)
    details = body.get("errors")
    return kind(
        response.status,
        type=str(body.get("type") or ""),
        request_id=_request_id(response, body),
        errors=tuple(_field_error(e) for e in details if isinstance(e, dict)) if isinstance(details, list) else (),
        retry_after=_retry_after(response, body, now),
    )


def _error_body(content: bytes) -> dict[str, Any]:
    try:
        return read_object(content)
    except (ValueError, RecursionError):  # a page, or too deep; its headers still count
        return {}


def _request_id(response: Response, body: Mapping[str, Any] | None = None) -> str:
    return str((body or {}).get("request_id") or response.headers.get("x-request-id") or "")


def _field_error(entry: Mapping[str, Any]) -> FieldError:
    source = entry.get("source")
    place: Mapping[str, Any] = source if isinstance(source, dict) else {}
    return FieldError(
        code=str(entry.get("code") or ""),
        message=str(entry.get("message") or ""),
        field=str(place.get("field") or ""),
        pointer=str(place.get("pointer") or ""),
    )


def _retry_after(response: Response, body: Mapping[str, Any], now: Callable[[], datetime]) -> float | None:
    """Read when to come back: the later of the header and the body, which have both had several forms.

    A date counts from the answer's own, for this machine's clock may be wrong.
    """
    limit = body.get("rate_limit")
    said = (response.headers.get("retry-after"), limit.get("retry_after") if isinstance(limit, dict) else None)
    began = _dated(response) or now()
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


def _dated(response: Response) -> datetime | None:
    date = response.headers.get("date")
    return _read_date(date) if date else None


def _read_date(text: str) -> datetime | None:
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = read(text)
        except Exception:  # noqa: BLE001, S112 -- Python's reader of dates raises what it meets
            continue
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return None
