"""Zero touch: Airflow finds the policy by its entry point, and DAGs that nobody edited open incidents."""

import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import airflow_incident
from airflow_incident.core.settings import TagOptions, read_tags
from airflow_incident.sandbox.server import Sandbox
from tests.doors import dag_named
from tests.zero_touch_dags import DAGS, source

ROOT = Path(__file__).parents[2]
FOUND_BY_AIRFLOW = {"airflow_incident.plugin", "airflow_incident.policy"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(airflow_incident.__path__, "airflow_incident.")
    if module.name not in FOUND_BY_AIRFLOW
)

FLUSH = "journal_flush_dag('renewed_name', tags=['night'])\n"

SCRIPT = """
import json, sys
from tests.airflow_versions import dag_bag

def names(owner, kind):
    given = getattr(owner, kind) or []
    return [type(c).__name__ for c in (given if isinstance(given, (list, tuple)) else [given])]

bag = dag_bag(sys.argv[1])
kinds = ("on_failure_callback", "on_success_callback")
levels = {
    dag_id: {
        kind: [names(dag, kind), getattr(dag, "has_" + kind), [names(task, kind) for task in dag.tasks]]
        for kind in kinds
    }
    for dag_id, dag in bag.dags.items()
}
states = {dag_id: bag.dags[dag_id].test().state for dag_id in sys.argv[2:]}
print(json.dumps({"errors": bag.import_errors, "levels": levels, "states": states}))
"""


@pytest.fixture(scope="module")
def home(airflow_db, tmp_path_factory) -> Path:
    """Make an Airflow whose DAGs nobody edited."""
    home = tmp_path_factory.mktemp("home")
    (home / "airflow.db").write_bytes((airflow_db / "empty.db").read_bytes())
    (home / "dags").mkdir()
    for name in DAGS:
        (home / "dags" / f"{name}.py").write_text(source(name))  # `dag.test()` reads a whole file anew
    (home / "dags" / "flush.py").write_text(source() + FLUSH)
    return home


@pytest.fixture(scope="module")
def python(installed, home):
    """Run Python in an Airflow that finds our policy; return what it prints and says."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        options = {
            f"AIRFLOW__INCIDENT_IO__{name.upper()}": value for name, value in variables.items() if name.islower()
        }
        given = {name: value for name, value in variables.items() if not name.islower()}
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ
            | {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
                "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
                "PYTHONPATH": os.pathsep.join([str(installed), str(ROOT)]),
            }
            | options
            | given,
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def load(python, home):
    """Load the DAGs, and run those that are named."""

    def load(*dag_ids: str, **variables: str):
        done = python("-c", SCRIPT, str(home / "dags"), *dag_ids, **variables)
        seen = json.loads(done.stdout.splitlines()[-1])
        assert not seen["errors"]
        return seen | {"said": done.stdout + done.stderr}

    return load


@pytest.fixture(scope="module")
def world(load, home):
    """Run all DAGs once, with one line in airflow.cfg; tell what came in at two incident.ios."""
    with Sandbox(rate_limit=10_000) as here, Sandbox(rate_limit=10_000) as elsewhere:
        seen = load(
            *DAGS,
            auto_open="true",
            auto_exclude="sandbox_*, nothing_?",
            severity="Minor",
            AIRFLOW_CONN_INCIDENT_IO_DEFAULT=here.connection_json(),
            AIRFLOW_CONN_ELSEWHERE=elsewhere.connection_json(),
        )
        heard = [line.split() for line in (home / "heard").read_text().splitlines()]
        yield seen | {
            "heard": heard,
            "here": here.incidents,
            "elsewhere": elsewhere.incidents,
            "asked": here.requests,
        }


@pytest.mark.parametrize("dag_id", [name for name in DAGS if name not in {"has_ours_in_task", "tagged_conn"}])
def test_each_failed_run_has_what_its_settings_say(world, dag_id):
    """One incident, as severe as the tag or airflow.cfg says; none where it is off, excluded or succeeds."""
    *_, severity, told = DAGS[dag_id]
    assert world["states"][dag_id] == ("success" if dag_id == "good" else "failed")
    incidents = [row for row in world["here"] if dag_named(row["name"]) == dag_id]
    assert [row["severity"]["name"] for row in incidents] == ([severity] if severity else [])
    assert sorted(word for dag, word in world["heard"] if dag == dag_id) == told


def test_a_tag_names_another_connection(world):
    """What `incident:conn=` names is asked instead of the default."""
    assert [dag_named(row["name"]) for row in world["elsewhere"]] == ["tagged_conn"]
    assert not [row for row in world["here"] if "tagged_conn" in row["name"]]


def test_both_levels_have_ours_first(world):
    """The DAG tells what no task can, a task tells at once; ours goes before a neighbour, which stays."""
    levels = world["levels"]
    ours = ["IncidentNotifier"]
    assert levels["plain"]["on_failure_callback"] == [ours, True, [ours]]
    assert levels["mapped"]["on_failure_callback"] == [ours, True, [ours]]
    theirs = [*ours, "Theirs"]
    assert levels["both_levels"]["on_failure_callback"] == [theirs, True, [theirs]]
    assert levels["dag_list"]["on_failure_callback"] == [[*theirs, "Theirs"], True, [ours]]
    assert levels["default_list"]["on_failure_callback"] == [ours, True, [[*theirs, "Theirs"]] * 2]


def test_nothing_else_is_touched(world):
    """Left alone: what is excluded, tagged off or ours already, the flush DAG, and callbacks of another kind."""
    levels = world["levels"]
    for dag_id in ("sandbox_one", "tagged_off", "renewed_name"):
        assert "IncidentNotifier" not in str(levels[dag_id])
    assert levels["has_ours"]["on_failure_callback"] == [["IncidentNotifier"], True, [[]]]
    assert levels["has_ours_in_task"]["on_failure_callback"] == [[], False, [[], ["IncidentNotifier"]]]
    assert not [dag_id for dag_id in levels if "RecoveryNotifier" in str(levels[dag_id])]
    assert levels["success_callback"]["on_success_callback"] == [["Theirs"], True, [[]]]


def test_a_wrong_tag_is_one_line(world):
    """It names the DAG, the tags and what would be right; the other tags hold."""
    lines = {line.partition("incident.io: DAG")[2] for line in world["said"].splitlines() if "tags ignored" in line}
    assert len(lines) == 1
    assert (
        "tagged_wrong: tags ignored: incident:on, incident:severity, incident:severity=Minor. Known, each once:"
        in lines.pop()
    )


@pytest.mark.parametrize(
    ("tags", "wishes"),
    [
        ([], TagOptions()),
        (["incident.io", "incident", "off"], TagOptions()),
        (["incident:off"], TagOptions(off=True)),
        (["incident: severity = Sev 1 = bad"], TagOptions(severity="Sev 1 = bad")),
        (["incident:conn=b", "incident:conn=a"], TagOptions(conn_id="a", wrong=("incident:conn=b",))),
        (["incident:severity=Major", "incident:off"], TagOptions(off=True, severity="Major")),
        (
            ["incident:off=no", "incident:", "incident:=x"],
            TagOptions(wrong=("incident:", "incident:=x", "incident:off=no")),
        ),
        (["incident:conn=", "incident:severity"], TagOptions(wrong=("incident:conn=", "incident:severity"))),
    ],
)
def test_tags_are_read_as_written(tags, wishes):
    assert read_tags(tags) == wishes


def test_recoveries_are_closed_at_the_level_of_the_dag(load):
    """`auto_resolve` needs no task, unless an incident stands for one; either option works alone."""
    run = load(auto_resolve="on")["levels"]
    assert run["plain"]["on_success_callback"] == [["RecoveryNotifier"], True, [[]]]
    assert run["plain"]["on_failure_callback"] == [[], False, [[]]]
    assert run["success_callback"]["on_success_callback"] == [["RecoveryNotifier", "Theirs"], True, [[]]]
    assert "RecoveryNotifier" not in str(run["has_ours"])
    task = load(auto_open="true", auto_resolve="true", scope="task")["levels"]
    assert task["plain"]["on_success_callback"] == [["RecoveryNotifier"], True, [["RecoveryNotifier"]]]
    assert task["plain"]["on_failure_callback"] == [["IncidentNotifier"], True, [["IncidentNotifier"]]]


def test_globs_say_which(load):
    """Included is what one glob names, unless another excludes it; case counts."""
    levels = load(auto_open="true", auto_include=" mapped*,*_list,Plain ,", auto_exclude="task_*")["levels"]
    covered = {dag_id for dag_id in levels if "IncidentNotifier" in str(levels[dag_id])}
    mapped = {"mapped", "mapped_callback", "mapped_operator"}
    assert covered - {"has_ours", "has_ours_in_task"} == mapped | {"dag_list", "default_list"}


LOCAL_SETTINGS = """
def theirs(context):
    raise RuntimeError

def task_policy(task):
    from airflow_incident import open_incident
    if not task.on_failure_callback:
        task.on_failure_callback = [open_incident(severity="Critical") if task.task_id == "work" else theirs]
"""
DECIDED = """
import json, sys
from tests.airflow_versions import dag_bag
(dag,) = dag_bag(sys.argv[1]).dags.values()
print(json.dumps({
    task.task_id: [getattr(c, "__name__", getattr(c, "options", {}).get("severity")) for c in task.on_failure_callback]
    for task in dag.tasks
}))
"""


def test_the_installation_s_own_policy_is_asked_first(python, tmp_path):
    """What airflow_local_settings.py puts into a task stays, after ours; where that is ours, it stays alone."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "airflow_local_settings.py").write_text(LOCAL_SETTINGS)
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "two.py").write_text(
        "from airflow.providers.common.compat.sdk import DAG, BaseOperator\nwith DAG('two', tags=['incident:severity=Minor']):\n"
        "    BaseOperator(task_id='work') >> BaseOperator(task_id='rest')\n"
    )
    done = python("-c", DECIDED, str(tmp_path / "dags"), auto_open="true", AIRFLOW_HOME=str(tmp_path))
    assert json.loads(done.stdout.splitlines()[-1]) == {"work": ["Critical"], "rest": ["Minor", "theirs"]}


LOADED = "; import sys; print(*sorted(m for m in sys.modules if m.partition('.')[0] == 'airflow_incident'))"
EMPTY = "from tests.airflow_versions import dag_bag; bag = dag_bag({folder!r}); assert len(bag.dags) == {count}"


def write_untouched(folder):
    """Write DAGs that do not know us; return the code that loads them."""
    source = "from airflow.providers.common.compat.sdk import DAG\nfor number in range(5):\n    with DAG(f'dag_{number}'):\n        pass\n"
    (folder / "dags.py").write_text(source)
    return EMPTY.format(folder=str(folder), count=5)


@pytest.fixture
def untouched(tmp_path):
    return write_untouched(tmp_path)


@pytest.fixture(scope="module")
def asked_by_airflow(python, tmp_path_factory):
    """Return the modules of ours that loading DAGs brings where Airflow finds no policy."""
    done = python("-c", write_untouched(tmp_path_factory.mktemp("untouched")) + LOADED, PYTHONPATH=str(ROOT))
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("value", ["", "False", "no", " off "])
def test_off_it_imports_nothing(python, untouched, asked_by_airflow, value):
    """Off, loading DAGs brings the package itself and the policy, and what Airflow asks of every provider."""
    off = python("-c", untouched + LOADED, auto_open=value).stdout.splitlines()[-1].split()
    assert "airflow_incident.policy" in off
    assert set(off) - asked_by_airflow <= {"airflow_incident"} | FOUND_BY_AIRFLOW
    assert "airflow_incident.notifications" not in off


BREAK = """
import sys
class Break:
    def find_spec(self, name, path=None, target=None):
        if name in broken:
            raise {error}
sys.meta_path.insert(0, Break())
"""
VERSION = """
sys.argv = ["airflow", "version"]
from airflow.__main__ import main
main()
"""
ERRORS = ["ImportError('broken for this test')", "SystemExit(3)", "ZeroDivisionError"]


@pytest.mark.parametrize("error", ERRORS)
def test_an_airflow_command_needs_no_module_of_ours(python, error):
    """With all of them raising at import, policy and plugin aside, `airflow version` is as ever."""
    from airflow import __version__

    code = f"broken = {MODULES!r}\n" + BREAK.format(error=error) + VERSION
    assert python("-c", code, auto_open="true").stdout.splitlines()[-1] == __version__


IN_TURN = """
import os, sys
from airflow.__main__ import main
from tests.airflow_versions import dag_bag
from airflow.models.taskinstancekey import TaskInstanceKey
from tests.found_link import found_link
from tests.journal_records import INCIDENT, keep
keep("r1", "dag_0", "open")
link = found_link()
key = TaskInstanceKey("dag_0", "work", "r1", 1)
assert link.get_link(None, ti_key=key) == INCIDENT.permalink
for name in [name for name in sys.modules if name.startswith("airflow_incident.") and name not in {found!r}]:
    del sys.modules[name]
harmed = []
for name in {modules!r}:
    if not (child := os.fork()):
        ended = 1
        try:
            broken.append(name)
            sys.argv = ["airflow", "version"]
            main()
            bag = dag_bag({folder!r})
            ended = 0 if len(bag.dags) == 5 and not bag.import_errors else 2
            ended = ended or 3 * (link.get_link(None, ti_key=key) not in (INCIDENT.permalink, ""))
        finally:
            sys.stdout.flush()
            os._exit(ended)
    if os.waitpid(child, 0)[1]:
        harmed.append(name)
print("harmed:", *harmed)
"""


def test_any_broken_module_costs_our_callbacks_only(python, untouched, tmp_path):
    """Each module made to raise at import in turn: `airflow version` works, every DAG loads, a button is only missing."""
    in_turn = IN_TURN.format(modules=MODULES, folder=str(tmp_path), found=FOUND_BY_AIRFLOW)
    done = python("-c", "broken = []\n" + BREAK.format(error=ERRORS[0]) + in_turn, auto_open="true")
    said = done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "harmed:", said
    assert "zero touch leaves DAGs as they are: ImportError('broken for this test')" in said
    assert "no link from a task instance to its incident: ImportError('broken for this test')" in said


def test_every_module_is_among_them():
    """Also those in folders: what a walk does not find would never be broken."""
    files = (path.relative_to(ROOT).with_suffix("") for path in (ROOT / "airflow_incident").rglob("*.py"))
    names = {".".join(path.parts).removesuffix(".__init__") for path in files}
    assert names - {"airflow_incident"} - FOUND_BY_AIRFLOW == set(MODULES)


FAILS = """
import sys
from tests.airflow_versions import dag_bag
bag = dag_bag(sys.argv[1])
assert not bag.import_errors, bag.import_errors
print(bag.dags["both_levels"].test().state)
"""


@pytest.mark.parametrize(
    ("broken", "lines"),
    [
        ("policy.auto_callbacks", ["zero touch leaves DAGs as they are: ImportError('broken for this test')"]),
        ("airflow_bridge.context", ["NO incident was opened: ImportError, then ImportError"] * 2),
    ],
)
def test_a_dag_runs_as_ever_whatever_is_broken(python, home, tmp_path, broken, lines):
    """One line for the process, or for each callback; the DAG loads, and fails, and its own callbacks tell."""
    (tmp_path / "airflow.db").write_bytes((home / "airflow.db").read_bytes())
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "one.py").write_text(source("both_levels"))
    code = f"broken = ['airflow_incident.{broken}']\n" + BREAK.format(error=ERRORS[0]) + FAILS
    own = {"AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags")}
    done = python("-c", code, str(tmp_path / "dags"), auto_open="true", **own)
    assert done.stdout.splitlines()[-1] == "failed"
    assert sorted((tmp_path / "heard").read_text().split()) == ["both_levels", "both_levels", "run", "task"]
    told = [line for line in (done.stdout + done.stderr).splitlines() if "incident.io: " in line]
    assert [line.partition("incident.io: ")[2].partition(" [")[0].strip() for line in told] == lines


def test_a_configuration_that_cannot_be_read_is_one_line(python, untouched, tmp_path):
    """A value that Airflow cannot read, or we cannot: DAGs load, one warning for all of them."""
    done = python("-c", untouched, auto_open="ja")
    assert (done.stdout + done.stderr).count("must be true or false") == 1, done.stdout + done.stderr
    home = tmp_path.parent / f"{tmp_path.name}-home"
    home.mkdir()
    (home / "airflow.cfg").write_text("[incident_io]\nauto_open = %(nothing)s\n")
    done = python("-c", untouched, AIRFLOW_HOME=str(home))
    assert (done.stdout + done.stderr).count("zero touch leaves DAGs as they are") == 1, done.stdout + done.stderr


def test_a_dag_of_another_make_is_left_as_it_is(caplog):
    """A DAG that has not even an ID does not stop Airflow."""
    from types import SimpleNamespace

    from airflow_incident import policy
    from airflow_incident.core.settings import Settings
    from airflow_incident.policy.auto_callbacks import ZeroTouch

    zero_touch = ZeroTouch(Settings(auto_open=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy, "_zero_touch", lambda: zero_touch)
        policy.dag_policy(SimpleNamespace())
        policy.task_policy(SimpleNamespace())
    assert "no attribute 'dag_id'" in caplog.text
