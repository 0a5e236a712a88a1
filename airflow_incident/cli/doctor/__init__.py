"""`airflow-incident doctor`: checks of the set-up, each with what to do."""
