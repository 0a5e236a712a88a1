"""Each error says what is wrong, whether to try again, and what to do."""

import copy
import pickle

import pytest

from airflow_incident import errors
from airflow_incident.errors import APIError, ConfigurationError, FieldError, Problem, ValidationError

SAMPLES = [
    ConfigurationError([Problem("API key", "missing"), Problem("Base URL", "odd")], conn_id="c"),
    errors.MissingConnectionError([Problem("Connection", "is not defined, or not readable")], conn_id="c"),
    errors.UnknownNameError(
        [errors.UnknownName.among("Severity", "severity", "Majr", ("Minor", "Major"))], conn_id="c"
    ),
    errors.TransportError("refused", maybe_delivered=True),
    errors.AirflowTimeoutError("Airflow gave no answer within 10 s"),
    APIError(418, type="teapot", request_id="r", retry_after=2.0),
    ValidationError(422, errors=(FieldError("c", "m", "f", "p"),)),
    errors.UnexpectedResponseError(200, "odd", request_id="r"),
    *(APIError.for_status(status)(status) for status in (401, 403, 404, 409, 429, 500, 503)),
]


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_survives_its_journey_between_processes(error):
    """Airflow pickles what tasks raise."""
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert (str(twin), twin.retryable, twin.maybe_delivered) == (str(error), error.retryable, error.maybe_delivered)
        assert (twin.args, twin.advice) == (error.args, error.advice)


@pytest.mark.parametrize("error", SAMPLES, ids=lambda e: type(e).__name__)
def test_an_error_says_what_to_do(error):
    """One line, one advice."""
    assert error.advice
    assert "\n" not in str(error)


def test_a_configuration_error_names_every_wrong_field():
    assert str(SAMPLES[0]) == "connection 'c': API key: missing; Base URL: odd"


def test_an_error_of_no_connection_says_only_what_is_wrong():
    """A name that incident.io does not know has nothing to do with how it is configured."""
    unknown = errors.UnknownName.among("Severity", "severity", "Majr", ("Minor", "Major"))
    assert str(errors.UnknownNameError([unknown])) == "Severity: there is no severity 'Majr'; known: Minor, Major"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (408, True),
        (409, False),
        (422, False),
        (429, True),
        (500, True),
        (599, True),
    ],
)
def test_whether_to_try_again_belongs_to_the_error(status, retryable):
    """Nobody else reads a status."""
    assert APIError.for_status(status)(status).retryable is retryable


@pytest.mark.parametrize(
    ("field", "message", "open_already"),
    [
        (FieldError(field="idempotency_key", message="has already been used"), "", True),
        (FieldError(field="idempotency_key", code="already_exists"), "", True),
        (FieldError(pointer="/idempotency_key", message="must be unique"), "", True),
        (FieldError(field="idempotency_key", message="is too long"), "", False),
        (FieldError(field="name", message="already exists"), "", False),
    ],
)
def test_only_a_used_key_means_that_the_incident_is_open(field, message, open_already):
    """A key that is refused for its form has opened nothing: taking it for open would lose the failure."""
    assert ValidationError(422, errors=(field,)).already_open is open_already


def test_the_tree_is_the_one_that_is_drawn():
    """The docstring's tree names every class."""
    tree = errors.__doc__ or ""
    classes = [v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.IncidentIoError)]
    assert all(f"{c.__name__} " in tree or f"{c.__name__}\n" in tree for c in classes)
