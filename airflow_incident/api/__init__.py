"""incident.io's language: models, calls and the one exchange that speaks them. Knows no Airflow."""
