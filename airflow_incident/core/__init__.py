"""Pure facts and decisions: no clock, no files, no network, no Airflow."""
