"""The conversation, without any I/O: a script answers, a list records."""

from datetime import UTC, datetime, timedelta

import pytest

from airflow_incident.api.calls import Call, CallSequence, Directory, PaginatedCall
from airflow_incident.api.exchange import ATTEMPTS, Request, RequestLimits, Response, execute
from airflow_incident.errors import (
    AuthenticationError,
    ConflictError,
    IncidentIoError,
    NotFoundError,
    RateLimitError,
    ServerError,
    TransportError,
    UnexpectedResponseError,
    ValidationError,
)

NOW = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
CREATE = Call(method="POST", path="/v1/incidents", body={"name": "ü"}, parse=lambda content: content.decode())
SHOW = Call(method="GET", path="/v1/incidents/1", parse=lambda content: content.decode())


class Talk:
    """Drives a conversation with prepared answers on a clock that only pauses move."""

    def __init__(self, *answers, budget=100.0, random=0.5):
        self.answers = list(answers)
        self.requests = []
        self.pauses = []
        self.clock = 0.0
        self.terms = RequestLimits(
            deadline=budget, clock=lambda: self.clock, now=lambda: NOW, random=lambda: random, errors_seen=[]
        )

    def run(self, call):
        conversation = execute(call, self.terms)
        answer = None
        try:
            while True:
                step = conversation.send(answer)
                assert isinstance(step, Request)
                if self.requests:
                    self.pauses.append(step.delay)
                self.clock += step.delay
                self.requests.append(step)
                answer = self.answers.pop(0)
                self.clock += step.cut or 0.0 if answer is None else 0.0
        except StopIteration as end:
            return end.value


def ok(content=b"fine"):
    return Response(200, {}, content)


def limited(*, header=None, body=None):
    headers = {} if header is None else {"retry-after": header}
    limit = b"{}" if body is None else b'{"rate_limit": {"retry_after": "%s"}}' % body.encode()
    return Response(429, headers, limit)


def test_a_success_is_parsed_and_ends_it():
    talk = Talk(ok())
    assert talk.run(CREATE) == "fine"
    assert len(talk.requests) == 1


@pytest.mark.parametrize(
    "first", [TransportError("refused"), Response(500), Response(502, {}, b"<html>"), Response(503), Response(408)]
)
def test_what_may_pass_later_is_asked_again_with_the_same_bytes(first):
    """Whatever failed, the second request is the first one again."""
    talk = Talk(first, first, ok())
    assert talk.run(CREATE) == "fine"
    assert len({request.content for request in talk.requests}) == 1
    assert talk.requests[0].content == b'{"name": "\\u00fc"}'


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, IncidentIoError),
        (401, AuthenticationError),
        (404, NotFoundError),
        (409, ConflictError),
        (422, ValidationError),
    ],
)
def test_a_refusal_is_final(status, error):
    """Asking again would be refused again."""
    talk = Talk(Response(status))
    with pytest.raises(error):
        talk.run(CREATE)
    assert talk.pauses == []


def test_attempts_end():
    """The last failure is the one that is told."""
    talk = Talk(*[Response(500)] * 9, Response(503))
    with pytest.raises(ServerError):
        talk.run(CREATE)
    assert len(talk.requests) == ATTEMPTS


def test_pauses_grow_and_are_diced():
    """Full jitter: the dice decides within a limit that doubles."""
    talk = Talk(*[Response(500)] * ATTEMPTS, random=1.0)
    with pytest.raises(ServerError):
        talk.run(CREATE)
    assert talk.pauses == [0.5, 1.0, 2.0, 4.0]


def test_no_request_begins_after_the_deadline():
    """A pause that does not fit is not begun either; the answer's wait shrinks to what is left."""
    talk = Talk(*[Response(500)] * ATTEMPTS, budget=2.0, random=1.0)
    with pytest.raises(ServerError):
        talk.run(CREATE)
    assert talk.pauses == [0.5, 1.0]
    assert [request.timeout for request in talk.requests] == [2.0, 1.5, 0.5]


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (limited(header="7"), 7.0),
        (limited(header="1.5"), 1.5),
        (limited(header="Mon, 23 Nov 2026 09:00:07 GMT"), 7.0),
        (limited(header="Mon, 23 Nov 2026 09:00:07 UTC"), 7.0),
        (limited(header="2026-11-23T09:00:07Z"), 7.0),
        (limited(body="2026-11-23T09:00:07Z"), 7.0),
        (limited(body="2026-11-23T10:00:07.25+01:00"), 7.25),
        (limited(body="Mon, 23 Nov 2026 09:00:07 UTC"), 7.0),
        (limited(header="nonsense", body="2026-11-23T09:00:07Z"), 7.0),
        (limited(header="3", body="2026-11-23T09:00:07Z"), 7.0),
        (limited(header="9", body="2026-11-23T09:00:07Z"), 9.0),
        (limited(header="Mon, 23 Nov 2026 09:00:09 GMT", body="Mon, 23 Nov 2026 09:00:07 UTC"), 9.0),
        (limited(header="0", body="2026-11-23T09:00:07Z"), 7.0),
        (limited(header="5", body="2020-11-23T09:00:07Z"), 5.0),
        (limited(header="-5", body="2020-11-23T09:00:07Z"), 0.0),
        (limited(header="5", body="nonsense"), 5.0),
        (limited(header="nan", body="2026-11-23T09:00:07Z"), 7.0),
        (limited(header="-5"), 0.0),
        (limited(header="Mon, 23 Nov 2020 09:00:07 GMT"), 0.0),
        (limited(header="nan"), 0.25),
        (limited(header="99999999999999999999 Nov"), 0.25),
        (limited(), 0.25),
    ],
)
def test_every_form_of_a_retry_date_is_obeyed(answer, seconds):
    """Seconds, RFC 3339 and HTTP dates with either zone, in header or body; nonsense counts as none."""
    talk = Talk(answer, ok())
    assert talk.run(CREATE) == "fine"
    assert talk.pauses == [pytest.approx(seconds)]


def test_a_wish_to_wait_longer_than_the_budget_ends_it_at_once():
    """Waiting for nothing would only keep Airflow waiting; what was asked for is told."""
    talk = Talk(limited(header="30"), budget=12.0)
    with pytest.raises(RateLimitError) as caught:
        talk.run(CREATE)
    assert caught.value.retry_after == 30.0
    assert talk.pauses == []


def test_a_date_to_come_back_counts_from_the_answer_s_own_date():
    """A machine whose clock is an hour behind would wait an hour too long."""
    headers = {"date": "Mon, 23 Nov 2026 10:00:00 GMT", "retry-after": "3"}
    body = b'{"rate_limit": {"retry_after": "2026-11-23T10:00:07Z"}}'
    talk = Talk(Response(429, headers, body), ok())
    assert talk.run(CREATE) == "fine"
    assert talk.pauses == [7.0]


def test_a_wish_to_wait_for_ever_is_clamped():
    talk = Talk(limited(header="1e300"))
    with pytest.raises(RateLimitError) as caught:
        talk.run(CREATE)
    assert caught.value.retry_after == 3600.0


def test_everything_that_support_asks_for_is_kept():
    """Status, type, request id and each field's error."""
    body = b"""{"type": "validation_error", "status": 422, "request_id": "req-1",
        "errors": [{"code": "is_required", "message": "is required", "source": {"field": "severity_id"}}, "odd"]}"""
    with pytest.raises(ValidationError) as caught:
        Talk(Response(422, {}, body)).run(CREATE)
    error = caught.value
    assert (error.status, error.type, error.request_id) == (422, "validation_error", "req-1")
    assert str(error) == "incident.io answered 422: severity_id: is required (request_id req-1)"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"[]", b"null", b"[" * 100_000, b'{"errors": 3}', b'{"errors": [{"source": 1}]}', b"\xff"],
)
def test_an_error_answer_may_hold_anything(content):
    """Proxies answer with pages."""
    with pytest.raises(AuthenticationError):
        Talk(Response(401, {"x-request-id": "r"}, content)).run(CREATE)


def _unreadable(content):
    raise ValueError(content)


def test_a_success_that_cannot_be_read_is_asked_for_again():
    """The incident may be open: the same key brings it back."""
    answers = [_unreadable, bytes.decode]
    call = Call(method="POST", path="/", body={}, parse=lambda content: answers.pop(0)(content))
    talk = Talk(ok(), ok())
    assert talk.run(call) == "fine"


def test_a_redirect_is_not_followed():
    """The key goes to one host."""
    talk = Talk(Response(307, {"location": "https://evil.example/"}))
    with pytest.raises(UnexpectedResponseError, match="another address"):
        talk.run(CREATE)
    assert len(talk.requests) == 1


@pytest.mark.parametrize(
    ("answers", "maybe"),
    [
        ([TransportError("refused")] * ATTEMPTS, False),
        ([TransportError("reset", maybe_delivered=True), *[TransportError("refused")] * (ATTEMPTS - 1)], True),
        ([Response(504), Response(403)], True),
        ([Response(429), Response(403)], False),
        ([ok()] * ATTEMPTS, True),
    ],
)
def test_it_is_told_whether_an_attempt_may_have_taken_effect(answers, maybe):
    """One doubtful attempt makes the whole create doubtful, whatever came last."""
    with pytest.raises(IncidentIoError) as caught:
        Talk(*answers).run(Call(method="POST", path="/", body={}, parse=_unreadable))
    assert caught.value.maybe_delivered is maybe


def test_reading_has_no_doubtful_outcome():
    with pytest.raises(IncidentIoError) as caught:
        Talk(*[TransportError("reset", maybe_delivered=True)] * ATTEMPTS).run(SHOW)
    assert caught.value.maybe_delivered is False


def pages(*content):
    """Build a listing whose pages are given as (items, after)."""
    left = list(content)
    asked = []

    def page(after):
        asked.append(after)
        return Call(method="GET", path="/", parse=lambda _: left.pop(0))

    return PaginatedCall(page), asked


def test_a_listing_is_read_to_its_end():
    """Until a page names no next one, or is empty."""
    listing, asked = pages(([1, 2], "b"), ([3], "c"), ([], "d"))
    assert Talk(ok(), ok(), ok()).run(listing) == [1, 2, 3]
    assert asked == [None, "b", "c"]


def test_a_listing_that_goes_round_in_circles_ends():
    listing, _ = pages(([1], "b"), ([2], "b"))
    with pytest.raises(UnexpectedResponseError, match="circles"):
        Talk(ok(), ok()).run(listing)


def test_a_sequence_is_left_behind_when_its_share_of_the_time_is_over():
    """Its calls learn so as of any other error, and it may go on with what it has; a call that has no share cannot be."""

    def steps(_):
        try:
            yield SHOW
        except TransportError as error:
            return str(error)

    talk = Talk(Response(503), None, budget=9.0)
    assert talk.run(CallSequence(steps, share=1 / 3)).startswith(
        "no answer within 3 s, after: incident.io answered 503"
    )
    assert [request.cut for request in talk.requests] == [3.0, 2.75]
    talk = Talk(ok(), budget=9.0)
    talk.run(SHOW)
    assert talk.requests[0].cut is None


def test_a_driver_that_answers_nothing_is_told_so():
    with pytest.raises(TypeError):
        Talk(None).run(SHOW)


def test_seconds_left_are_counted_by_the_clock_that_is_given():
    talk = Talk(budget=10.0)
    talk.clock = 4.0
    assert talk.terms.left == 6.0
    assert timedelta(seconds=talk.terms.left) == timedelta(seconds=6)


@pytest.mark.parametrize(
    ("date", "ahead"),
    [
        ("Mon, 23 Nov 2026 09:00:05 GMT", 5.0),
        ("Mon, 23 Nov 2026 08:00:00 GMT", -3600.0),
        ("yesterday", None),
        (None, None),
    ],
)
def test_each_answer_tells_how_far_apart_the_clocks_are(date, ahead):
    """A refusal, too; a date that cannot be read tells nothing."""
    talk = Talk(Response(404, {} if date is None else {"date": date}))
    talk.terms = talk.terms._replace(directory=Directory())
    with pytest.raises(NotFoundError):
        talk.run(SHOW)
    assert talk.terms.directory.ahead == ahead
