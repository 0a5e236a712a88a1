"""The watcher: compares Airflow's database with the journal, and acts on the difference. No callback enters."""
