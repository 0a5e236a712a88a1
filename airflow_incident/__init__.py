"""Open an incident at incident.io when an Airflow DAG or task fails: at once, once, with the facts."""

__version__ = "0.1.0"
