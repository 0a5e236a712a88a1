"""What looks like a secret."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_incident.core import redaction


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("postgresql://etl:hunter2@db:5432/x", "postgresql://etl:***@db:5432/x"),
        ("postgresql://etl:hun/ter2@db/x", "postgresql://etl:***@db/x"),
        ("amqp://:hunter2@mq", "amqp://:***@mq"),
        ("password=hunter2 next", "password=*** next"),
        ("PGPASSWORD: hunter2, host: x", "PGPASSWORD: ***, host: x"),
        ('{"client_secret": "hunter2 x", "a": 1}', '{"client_secret": ***, "a": 1}'),
        ("{'api_key' => 'hunter2'}", "{'api_key' => ***}"),
        ("aws_secret_access_key = hunter2", "aws_secret_access_key = ***"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        ("x -----BEGIN RSA PRIVATE KEY-----\nhunter2", "x ***"),
        ("key-of-the-connection", "***"),
        ("Alert source token: missing; incident.io shows it", "Alert source token: missing; incident.io shows it"),
        ("Alert source token: has spaces or characters", "Alert source token: has spaces or characters"),
        ("token: missing-link", "token: ***"),
    ],
)
def test_what_looks_like_a_secret_is_replaced(secret, told):
    """Connections, credentials in text and JSON, tokens, private keys, and the known key itself."""
    assert redaction.redact_secrets(secret, known=["key-of-the-connection", ""]) == told


def test_the_parameters_of_a_statement_are_cut():
    """SQLAlchemy shows bound values, which are people's data."""
    error = "(x.Error) boom\n[SQL: INSERT INTO t VALUES (?)]\n[parameters: ('bob@example.com', [1])]\n(Background on"
    told = redaction.redact_secrets(error)
    assert "bob" not in told
    assert "[SQL: INSERT INTO t VALUES (?)]\n[parameters: cut]\n(Background on" in told


@pytest.mark.parametrize(
    "flood", ["a" * 16_000, "token" * 4_000, "://" * 6_000, "[parameters: " * 1_500, "bearer " * 2_300]
)
def test_redaction_takes_no_time_on_hostile_text(flood):
    """No pattern runs away on a text made to make it."""
    redaction.redact_secrets(flood)


@given(st.data())
def test_a_secret_has_a_word_by_which_its_pattern_is_tried(data):
    """Patterns are tried for texts with one of their words only, so no match may be without."""
    words, pattern, _ = data.draw(st.sampled_from(redaction._SECRETS))
    secret = data.draw(st.from_regex(pattern))
    assert any(word in secret.casefold() for word in words)


@pytest.mark.parametrize(("letter", "odd"), ["i\u0131", "i\u0130", "s\u017f", "k\u212a"])
@pytest.mark.parametrize("word", ["basic ", "bearer ", "credential=", "secret=", "api_key: ", "passwd="])
def test_a_letter_that_a_pattern_takes_for_another_hides_no_secret(word, letter, odd):
    """To Python's `re` there are four letters i, and more than one s and k."""
    assert redaction.redact_secrets(f"{word.replace(letter, odd)}hunter2hunter2") == f"{word.replace(letter, odd)}***"
