"""The command `airflow-incident`."""
