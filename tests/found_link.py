"""The link that Airflow itself finds for every task instance."""

from typing import Any

from airflow import plugins_manager


def found_link() -> Any:
    """Return the one that plugins bring; Airflow before 3.2 keeps them in a global."""
    if hasattr(plugins_manager, "get_global_operator_extra_links"):
        (link,) = plugins_manager.get_global_operator_extra_links()
    else:
        plugins_manager.initialize_extra_operators_links_plugins()
        (link,) = plugins_manager.global_operator_extra_links
    return link
