"""Delivers every five minutes what could not be delivered at once."""

from airflow_incident import journal_flush_dag

dag = journal_flush_dag()
