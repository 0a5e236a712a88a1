"""Everything that touches Airflow: its names, configuration, connections, contexts, Variables and metrics."""
