"""An exception as a responder reads it: from the DAG's own file on, groups by their members, and no more than is wanted."""

import sys

import pytest

from airflow_incident.core.error_text import error_text, raised_at, type_in, type_name

DAG = "/opt/dags/orders.py"
LIB = "/opt/dags/lib/etl.py"
SDK = "/venv/lib/python3.11/site-packages/airflow/sdk/execution_time/task_runner.py"
PROVIDER = "/venv/lib/python3.11/site-packages/airflow/providers/standard/operators/bash.py"
DRIVER = "/venv/lib/python3.11/site-packages/driver/base.py"


def raised(files: list[str], error: BaseException) -> BaseException:
    """Raise an error through frames of these files, the outermost first."""

    def fall() -> None:
        raise error

    call = fall
    for file in reversed(files):
        space = {"call": call}
        code = compile("def step():\n    call()\n", file, "exec")
        exec(code, space)
        call = space["step"]
    try:
        call()
    except BaseException as caught:  # noqa: BLE001 -- it is what was raised above
        # The first frame is this function's, the last one that of `fall`.
        caught.__traceback__ = caught.__traceback__.tb_next
        step = caught.__traceback__
        while step.tb_next.tb_next:
            step = step.tb_next
        step.tb_next = None
        return caught
    raise AssertionError


def files_in(text: str) -> list[str]:
    return [line.split('"')[1] for line in text.splitlines() if line.startswith("  File ")]


@pytest.mark.parametrize(
    ("files", "shown"),
    [
        ([SDK, SDK, DAG, LIB, DRIVER], [DAG, LIB, DRIVER]),
        ([SDK, LIB, DAG, DRIVER], [DAG, DRIVER]),
        ([SDK, SDK, LIB, DRIVER], [LIB, DRIVER]),
        ([SDK, SDK, PROVIDER], [PROVIDER]),
        ([SDK, DRIVER, SDK], [DRIVER, SDK]),
        ([SDK, SDK], [SDK]),
        ([DRIVER], [DRIVER]),
    ],
    ids=str,
)
def test_how_airflow_calls_a_task_is_left_out(files, shown):
    """The DAG's own file is first; else the first file that nobody has installed; else what Airflow called."""
    text = error_text(raised(files, ValueError("no")), "traceback", file=DAG)
    assert files_in(text) == shown
    assert text.startswith("Traceback (most recent call last):\n")
    assert text.endswith("ValueError: no\n")


def test_causes_are_cut_as_well():
    """Each traceback of a chain begins at the DAG's file."""
    error = raised([SDK, DAG, DRIVER], ValueError("outer"))
    error.__cause__ = raised([SDK, DAG], KeyError("inner"))
    assert files_in(error_text(error, "traceback", file=DAG)) == [DAG, DAG, DRIVER]


def test_a_group_names_its_members():
    """Its message only counts them; nested groups stand in their place, ten members are named."""
    group = ExceptionGroup(
        "two shops", [ValueError("no\nprices"), ExceptionGroup("more", [KeyError("berlin"), OSError()])]
    )
    assert error_text(group, "message").splitlines() == [
        "two shops (2 sub-exceptions)",
        "- ValueError: no prices",
        "- KeyError: 'berlin'",
        "- OSError",
    ]
    many = ExceptionGroup("many", [ValueError(str(number)) for number in range(25)])
    assert error_text(many, "message").splitlines()[-2:] == ["- ValueError: 9", "- and 15 more"]
    assert "and 10 more exceptions" in error_text(many, "traceback")
    assert error_text(group, "type") is None


def test_what_another_process_has_left_comes_first():
    """A deferred task's exception only says that its trigger failed; what failed there is told instead."""
    left = 'Traceback (most recent call last):\n  File "/opt/triggers.py", line 1, in run\nRuntimeError: gone\n'
    error = raised([SDK, SDK], ValueError("Trigger failure"))
    assert error_text(error, "message", cause=left) == "gone"
    assert error_text(error, "traceback", cause=left) == left
    assert error_text(error, "type", cause=left) is None
    assert type_in(left) == "RuntimeError"
    assert type_in("") is None


def test_how_libraries_call_one_another_is_left_out():
    """Between the DAG's own frame and the one that raised; arrows too, but not those of a database's message."""
    library = "".join(f'  File "/venv/site-packages/db/{name}.py", line 1, in f\n    x()\n    ^^^\n' for name in "abc")
    message = "SyntaxError: LINE 1: selct\n                     ^\n"
    text = f'Traceback (most recent call last):\n  File "{DAG}", line 3, in load\n    run()\n{library}{message}'
    exception = raised([DAG], ValueError())
    shown = error_text(exception, "traceback", cause=text)
    assert shown.splitlines() == [
        "Traceback (most recent call last):",
        f'  File "{DAG}", line 3, in load',
        "    run()",
        "  … 2 more in libraries",
        '  File "/venv/site-packages/db/c.py", line 1, in f',
        "    x()",
        *message.splitlines(),
    ]


def test_a_deep_group_ends():
    """However deep groups stand in one another."""
    group = ExceptionGroup("0", [ValueError("deep")])
    for number in range(sys.getrecursionlimit() * 2):
        group = ExceptionGroup(str(number), [group])
    assert error_text(group, "message").endswith("- ValueError: deep")
    assert error_text(group, "traceback")


@pytest.mark.parametrize(
    ("exception", "name"), [(None, None), ("text", None), (ValueError(), "ValueError"), (sys, "module")]
)
def test_a_type_has_its_module_unless_it_is_python_s(exception, name):
    assert type_name(exception) == name


@pytest.mark.parametrize(
    ("files", "file", "place"),
    [
        ([SDK, DAG, DRIVER], DAG, DAG),
        ([SDK, DAG, LIB, DRIVER], DAG, LIB),
        ([SDK, DAG, DAG], DAG, DAG),
        ([SDK, "/usr/lib/python3.12/json/decoder.py"], DAG, None),
        ([SDK, "/opt/dags/.venv/lib/python3.12/site-packages/driver.py"], DAG, None),
        ([SDK, PROVIDER], DAG, None),
        ([SDK, DAG], None, None),
        ([SDK, DAG], "orders.py", None),
    ],
)
def test_the_place_is_the_last_one_in_the_dags_own_folder(files, file, place):
    """Where somebody of the team can look, whatever library raised it; without a name of the DAG's file there is none."""
    assert raised_at(raised(files, ValueError("x")), file) == (place and f"{place}:2")
    assert raised_at("no exception", file) is None
