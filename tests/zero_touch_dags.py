"""DAGs that nobody edited, and what zero touch makes of their failures; on every Airflow."""

HEAD = """
from pathlib import Path
try:
    from airflow.providers.standard.operators.python import PythonOperator
except ImportError:
    from airflow.operators.python import PythonOperator
from airflow.providers.common.compat.sdk import DAG, task
from airflow_incident import journal_flush_dag, open_incident, resolve_incident

heard = Path(__file__).parent.parent / "heard"

class Theirs:
    def __init__(self, word):
        self.word = word
    def __call__(self, context):
        with heard.open("a") as file:
            print(context["dag"].dag_id, self.word, file=file)

def raises(context):
    raise RuntimeError("the neighbour is broken")

@task
def boom():
    raise ValueError("no such table: orders")

@task
def check(number):
    raise ValueError(number)

@task
def fine():
    return 1
"""

# Name: its arguments, its body, how severe its incident is (None: there is none), what its own callbacks have told.
MINOR, MAJOR, CRITICAL = "Minor", "Major", "Critical"
MANY = "check.expand(number=[1, 2, 3])"
CLASSIC = "PythonOperator.partial(task_id='check', python_callable=check.function)"
TOLD = "on_failure_callback=Theirs('run'), default_args={'on_failure_callback': Theirs('task')}"
DAGS: dict[str, tuple[str, str, str | None, list[str]]] = {
    "plain": ("", "boom()", MINOR, []),
    "two_tasks": ("", "boom(), boom()", MINOR, []),
    "in_a_row": ("", "fine() >> boom() >> fine()", MINOR, []),
    "mapped": ("", MANY, MINOR, []),
    "partly_mapped": ("", "fine() >> check.expand(number=[1]) >> boom()", MINOR, []),
    "described": ("description='of no interest', tags=['night', 'incident.io']", "boom()", MINOR, []),
    "dag_callback": ("on_failure_callback=Theirs('run')", "boom()", MINOR, ["run"]),
    "dag_list": ("on_failure_callback=[Theirs('a'), Theirs('b')]", "boom()", MINOR, ["a", "b"]),
    "task_callback": ("", "task(on_failure_callback=Theirs('task'))(boom.function)()", MINOR, ["task"]),
    "task_list": ("", "boom.override(on_failure_callback=[Theirs('a'), Theirs('b')])()", MINOR, ["a", "b"]),
    "default_callback": ("default_args={'on_failure_callback': Theirs('task')}", "boom()", MINOR, ["task"]),
    "default_list": (
        "default_args={'on_failure_callback': [Theirs('a'), Theirs('b')]}", "boom(), boom()", MINOR, ["a", "a", "b", "b"],
    ),
    "both_levels": (TOLD, "boom()", MINOR, ["run", "task"]),
    "mapped_callback": (TOLD, MANY, MINOR, ["run", "task", "task", "task"]),
    "broken_neighbour": ("on_failure_callback=[raises, Theirs('run')]", "boom()", MINOR, ["run"]),
    "broken_in_task": ("default_args={'on_failure_callback': [raises, Theirs('task')]}", "boom()", MINOR, ["task"]),
    "mapped_operator": (TOLD, f"{CLASSIC}.expand(op_args=[[1], [2]])", MINOR, ["run", "task", "task"]),
    "success_callback": ("on_success_callback=Theirs('good')", "boom()", MINOR, []),
    "retry_callback": ("default_args={'on_retry_callback': Theirs('again')}", "boom()", MINOR, []),
    "good": ("on_success_callback=Theirs('good')", "fine()", None, ["good"]),
    "sandbox_one": ("", "boom()", None, []),
    "sandbox_two": (TOLD, MANY, None, ["run", "task", "task", "task"]),
    "tagged_off": ("tags=['incident:off'], on_failure_callback=Theirs('run')", "boom()", None, ["run"]),
    "tagged_severity": ("tags=['night', 'incident:severity=Major']", "boom()", MAJOR, []),
    "tagged_callback": (f"tags=['incident:severity=Major'], {TOLD}", "boom()", MAJOR, ["run", "task"]),
    "tagged_mapped": ("tags=['incident:severity=Critical']", MANY, CRITICAL, []),
    "tagged_wrong": ("tags=['incident:severity', 'incident:on', 'incident:severity=Minor', 'incident:severity=Major']", "boom()", MAJOR, []),
    "has_ours": ("on_failure_callback=open_incident(severity='Critical')", "boom()", CRITICAL, []),
    "has_ours_in_task": ("", "boom() >> boom.override(on_failure_callback=open_incident())()", None, []),
    "tagged_conn": ("tags=['incident:conn=elsewhere']", "boom()", None, []),
}  # fmt: skip


def source(*names: str) -> str:
    """Write a DAG file; what its callbacks tell is a line in the file `heard`, beside the folder of the DAGs."""
    dags = (f"with DAG({name!r}, schedule=None, {DAGS[name][0]}):\n    {DAGS[name][1]}\n" for name in names)
    return "\n".join([HEAD, *dags])
