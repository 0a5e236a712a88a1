"""What an editor and mypy know of the callbacks; nothing here runs."""

from functools import partial
from typing import assert_type

from airflow.sdk import DAG
from airflow.sdk.definitions.callback import AsyncCallback

from airflow_incident import IncidentNotifier, RecoveryNotifier, open_incident, resolve_incident

assert_type(open_incident(), IncidentNotifier)
assert_type(open_incident(severity="Major", custom_fields={"Affected team": ["Product", 3]}), IncidentNotifier)
assert_type(open_incident({"dag": None}, severity="Major"), IncidentNotifier)
assert_type(partial(open_incident, severity="Major")(), IncidentNotifier)
assert_type(resolve_incident(), RecoveryNotifier)
assert_type(resolve_incident(resolve="always", scope="task"), RecoveryNotifier)
assert_type(IncidentNotifier(name="{{ run_id }}"), IncidentNotifier)
assert_type(RecoveryNotifier(channel="alert"), RecoveryNotifier)

open_incident(severty="Major")  # type: ignore[arg-type]  # a name that does not exist
open_incident(severity=3)  # type: ignore[arg-type]
open_incident("Major")  # type: ignore[arg-type]  # only Airflow gives it something without a name
open_incident(roles="bob@example.com")  # type: ignore[arg-type]
resolve_incident(severity="Major")  # type: ignore[arg-type]  # what opening takes
IncidentNotifier(custom_fields="Affected team")  # type: ignore[arg-type]
RecoveryNotifier(resolve=True)  # type: ignore[arg-type]

# Airflow's own types take them, alone and in a list.
DAG("orders", schedule=None, on_failure_callback=open_incident(), on_success_callback=resolve_incident())
DAG("orders", schedule=None, on_failure_callback=[open_incident(), open_incident(channel="alert")])
AsyncCallback(IncidentNotifier, {"severity": "Major"})

# Airflow calls these all the same; its types ask for a function that returns nothing.
DAG("orders", schedule=None, on_failure_callback=open_incident)  # type: ignore[arg-type]
DAG("orders", schedule=None, on_failure_callback=partial(open_incident, severity="Major"))  # type: ignore[arg-type]
