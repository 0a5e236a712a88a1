"""A pipeline that loads a CSV into SQLite, checks it, and fails because the data are bad."""

import csv
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from airflow.sdk import DAG, task

from airflow_incident import open_incident

ORDERS = Path(__file__).with_name("orders.csv")
TABLE = "CREATE TABLE orders (number, ordered_on TEXT, product TEXT, quantity INTEGER, price REAL)"
PROBLEMS = """
SELECT number, CASE WHEN date(ordered_on) IS NULL THEN 'unreadable date: ' || ordered_on
                    WHEN quantity <= 0 THEN 'quantity is ' || quantity
                    WHEN price = '' THEN 'price is missing' END AS problem
FROM orders WHERE problem IS NOT NULL"""
on_failure = {"on_failure_callback": open_incident()}  # for each task and for the run

with DAG("bad_csv", schedule=None, default_args=on_failure, **on_failure):

    @task
    def load() -> str:
        database = tempfile.mkdtemp(prefix="orders-") + "/orders.db"
        with closing(sqlite3.connect(database)) as db, db, ORDERS.open(newline="") as file:
            db.execute(TABLE)
            db.executemany("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", list(csv.reader(file))[1:])
        return database

    @task
    def check(database: str) -> None:
        with closing(sqlite3.connect(database)) as db:
            problems = [f"{number}: {problem}" for number, problem in db.execute(PROBLEMS)]
        if problems:
            raise ValueError(f"{len(problems)} bad rows in {ORDERS.name}:\n" + "\n".join(problems))

    check(load())
