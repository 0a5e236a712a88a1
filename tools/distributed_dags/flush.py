"""Delivers every two minutes what could not be delivered at once; the default is five."""

from airflow_incident import journal_flush_dag

dag = journal_flush_dag(schedule="*/2 * * * *")
