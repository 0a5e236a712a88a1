"""What looks like a secret leaves no text; what does not is left as it is."""

import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_incident.core import redaction
from airflow_incident.core.redaction import redact_secrets
from airflow_incident.core.secret_values import LOOK_ALIKES
from tests.core.secret_kinds import KINDS, READABLE, left_over

TRIES = 25
KNOWN = "key-of-the-connection"
NAMES = [kind.name for kind in KINDS]


def leaks(kind):
    """Return a text of a kind in which a piece of its secret is left, as it came out; None if there is none."""
    for seed in range(TRIES):
        secret = kind.secret(seed)
        redacted = redact_secrets(kind.filled(secret))
        if left_over(kind, secret, redacted):
            return redacted
    return None


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_no_secret_of_a_kind_is_left(kind):
    """Of 25 secrets, of every length and alphabet that the form can carry, not five letters in a row are left."""
    assert leaks(kind) is None


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_nothing_but_the_secret_goes(kind):
    """The lines before and behind stay as they were, and all of it the second time."""
    redacted = redact_secrets(f"fact one\n{kind.filled(kind.secret(0))}\nfact: 42 rows")
    assert redacted.startswith("fact one\n")
    assert redacted.endswith("\nfact: 42 rows")
    assert redact_secrets(redacted) == redacted


@pytest.mark.parametrize("text", READABLE)
def test_a_text_without_a_secret_stays_as_it_is(text):
    """Messages about secrets, tracebacks, statements, ids, paths, addresses, and our own messages."""
    assert redact_secrets(text) == text


def test_the_shares_are_told(capsys):
    """Print what the decision record says: which share of the kinds is caught, and which of the texts is harmed."""
    caught = sum(leaks(kind) is None for kind in KINDS)
    unharmed = sum(redact_secrets(text) == text for text in READABLE)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{caught} of {len(KINDS)} kinds of secrets are caught ({caught / len(KINDS):.0%}), "
            f"{unharmed} of {len(READABLE)} readable texts unharmed ({unharmed / len(READABLE):.0%})\n"
        )
    assert caught >= 0.97 * len(KINDS)
    assert unharmed == len(READABLE)


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        ("postgresql://etl:hunter2@db:5432/x", "postgresql://etl:***@db:5432/x"),
        ("postgresql://etl:hun/ter2@db/x", "postgresql://etl:***@db/x"),
        ("amqp://:hunter2@mq", "amqp://:***@mq"),
        ("password=hunter2 next", "password=*** next"),
        ("PGPASSWORD: hunter2, host: x", "PGPASSWORD: ***, host: x"),
        ('{"client_secret": "hunter2 x", "a": 1}', '{"client_secret": "***", "a": 1}'),
        ("{'api_key' => 'hunter2'}", "{'api_key' => '***'}"),
        ("aws_secret_access_key = hunter2", "aws_secret_access_key = ***"),
        ("Authorization: Bearer hunter2hunter2", "Authorization: Bearer ***"),
        ("x -----BEGIN RSA PRIVATE KEY-----\nhunter2", "x ***"),
        ("Command '['mysql', '--password', 'hunter2']' failed", "Command '['mysql', '--password', '***']' failed"),
        (r'{"a": "{\"password\": \"hunter2\", \"n\": 1}"}', r'{"a": "{\"password\": \"***\", \"n\": 1}"}'),
        ("mysqldump -u root -phunter2 db", "mysqldump -u root -p*** db"),
        ("curl -u etl:hunter2 https://x", "curl -u etl:*** https://x"),
        ("<password>hunter2</password>", "<password>***</password>"),
        (KNOWN, "***"),
        (f"a{KNOWN}b and {KNOWN}", "a***b and ***"),
        ("token: missing-link4u", "token: ***"),
    ],
)
def test_only_the_value_is_replaced(secret, told):
    """What it is of stays readable, and JSON stays JSON."""
    assert redact_secrets(secret, known=[KNOWN, ""]) == told


def test_the_parameters_of_a_statement_are_cut():
    """SQLAlchemy shows bound values, which are people's data."""
    error = "(x.Error) boom\n[SQL: INSERT INTO t VALUES (?)]\n[parameters: ('bob@example.com', [1])]\n(Background on"
    told = redact_secrets(error)
    assert "bob" not in told
    assert "[SQL: INSERT INTO t VALUES (?)]\n[parameters: cut]\n(Background on" in told


PIECES = (
    *("password", "token", "=", ": ", " ", "\n", "  ", "'", '"', '\\"', "\\", ",", ";", "(", ")", "[", "]", "{", "}"),
    *("://", "@", "a:b@", "***", "x1", "--password ", "'--token', ", "Bearer ", "Authorization: ", "Cookie: a=b; "),
    *("<password>", "</", "&quot;", "%22", "[parameters: ", "-----BEGIN PRIVATE KEY-----\n", "mysql -p", "curl -u "),
    *("password = ", "| ", "|\n  ", "auth=(", "getenv('A', ", "insert into t (password) values (", "\x1b[1m", "\u0130"),
)
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=6), max_size=12).map("".join)


@settings(max_examples=1000)
@given(TEXTS)
def test_redacting_twice_is_redacting_once(text):
    """What was redacted stays as it is, whatever it was; no text is too odd."""
    once = redact_secrets(text, known=[KNOWN])
    assert redact_secrets(once, known=[KNOWN]) == once


HOSTILE = [
    *("a", "token", "token ", "://", "://a:", "a@", "://a:b@c/", "[parameters: ", "bearer ", "\\", '\\\\"', "'", '"'),
    *("password=", 'password="', "password='", 'password=\\"', "password: ", "password is ", "password\n", "password=("),
    *("--password ", "'--password',", "<password>", "<password ", "&lt;password&gt;", "secrets={'a':'b',", 'password=["a",'),
    *("authorization: digest a=", "cookie: a=b; ", "-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
    *("A" * 64 + "\n", "mysql ", "mysql -p", "curl -u ", "eyJ", "eyJaaaaaaaa.", "sk-a", "$2b$", "a.b:1234:", 'key="password" '),
    *("insert into t (password", "insert into t (a) values (", "password=a((((", "password=,", "password=&", "password=a,b c "),
    *("password='a'\"b\"", "password='a'b", "password: |\n  x", "token: str = ", "password{value=", "value='a' name='password"),
]  # fmt: skip


@pytest.mark.parametrize("flood", HOSTILE)
def test_the_time_grows_with_the_text_and_no_faster(flood):
    """Eight times as much of a text that was made to make a pattern run away takes no more than 24 times as long."""

    def seconds(length):
        text = (flood * (length // len(flood) + 1))[:length]
        began = time.process_time()
        redact_secrets(text)
        return time.process_time() - began

    seconds(64)  # compiles what it takes
    for _ in range(3):  # a busy machine is given another try
        short, long = min(seconds(8_000) for _ in range(2)), min(seconds(64_000) for _ in range(2))
        if long < max(24 * short, 0.05):
            return
    pytest.fail(f"{short * 1000:.0f} ms became {long * 1000:.0f}")


def fold(text):
    """Write a text as the rules search it."""
    return text.translate(LOOK_ALIKES).lower()


def test_a_text_is_folded_letter_by_letter():
    """What is found in the folded text is found at the same place: no letter becomes two, or none."""
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert len(fold(everything)) == len(everything)


@given(st.data())
def test_a_form_has_a_word_by_which_it_is_tried(data):
    """Patterns are tried for texts with one of their words only, so no match may be without."""
    form = data.draw(st.sampled_from([*redaction._FORMS, *redaction._LEADS]))
    text = data.draw(st.from_regex(form.pattern))
    assert any(word in fold(text) for word in form.words)


@pytest.mark.parametrize(("letter", "odd"), ["i\u0131", "i\u0130", "s\u017f", "k\u212a"])
@pytest.mark.parametrize("word", ["basic ", "bearer ", "credential=", "secret=", "api_key: ", "passwd="])
def test_a_letter_that_is_read_as_another_hides_no_secret(word, letter, odd):
    """To Python's `re` there are four letters i, and more than one s and k."""
    odd_word = word.replace(letter, odd)
    assert redact_secrets(f"{odd_word}hunter2hunter2") == f"{odd_word}***"


@pytest.mark.parametrize("name", ["MY_\u0410PI_TOKEN", "\u0410PI_KEY", "DB_KENNW\u041eRT"])
def test_a_letter_that_is_read_as_another_hides_no_secret_from_the_letters_beside_it(name):
    """One Cyrillic letter in a name leaves the capitals K of its other letters capitals."""
    assert redact_secrets(f"{name}=n9rMpMR0") == f"{name}=***"


def test_a_text_that_breaks_a_rule_neither_leaves_nor_raises(monkeypatch):
    """It stands for nothing then, and the failure is told all the same."""

    def fails(_):
        raise RecursionError

    monkeypatch.setattr(redaction, "_named", fails)
    assert redact_secrets("password=hunter2") == redaction.WITHHELD
