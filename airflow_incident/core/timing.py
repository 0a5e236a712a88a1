"""Every duration of the package, in seconds unless its type says otherwise.

A callback has 12 s, or a task's overtime less 6 s, Airflow's own channel included:
├── up to the last 2 s      read the connection, the journal, the context: whatever Airflow is asked
├── up to the last 0.75 s   ask incident.io: 5 s per attempt, so that a second one fits
├── up to the last 0.25 s   write down what came of it
└── 0.25 s                  one line in the log
"""

from __future__ import annotations

from datetime import timedelta

# A callback

LONGEST_REPORT = 12.0
"""What one callback may take at most."""
SHORTEST_REPORT = 1.0
"""What its requests get at the least, however long Airflow took to say where to send them."""
LONGEST_WAIT = 60.0
"""What a coroutine has in all: a triggerer's first answers take long, and nobody waits for it."""
RESERVE = 6.0
"""What is left of a task's overtime to Airflow and to other callbacks."""
LAST_WRITE = 2.0
"""The end of a callback's time, which belongs to the one write that keeps the failure."""
LAST_ANSWER = 0.75
"""The end in which incident.io is not waited for any more, but its answer is written down."""
LAST_WORD = 0.25
"""The very end, to say what became of it."""
SHORT_CALLBACK = 8.0
"""A callback that has less has each of these last moments shorter, too."""
STORE_PATIENCE = 2.0
"""What a store may take before a failure is sent without it."""
DETAIL_PATIENCE = 3.0
"""What Airflow may take for what an incident can do without: to list failed tasks, to render a template."""
LOOK_AGAIN = 0.25
"""How long the sender waits once more while it is incident.io that takes long, and not the store."""
CATCH_UP_SECONDS = 6.0
"""What must be left of a report's time to deliver what waits as well."""
MIN_SECONDS = 0.5
"""What a report late in a batch gets: less is no try, for incident.io is not next door."""
MIN_REQUEST_SECONDS = 0.1
"""What a request gets at the least, however long those before it took."""

OVERTIME = 20.0
"""What Airflow lets the callbacks of a task take, `[core] task_success_overtime`, unless airflow.cfg has another."""
BATCH_SECONDS = 50.0
"""What it lets the callbacks of a DAG file take together, `dag_file_processor_timeout`, as above."""
BATCH_SHARE = 0.5
"""How much of that ours may take."""
LATE_PATIENCE = 6.0
"""What the callbacks of a batch, together, wait for one answer of Airflow's that an earlier callback gave up on."""

# The timer that ends what hangs

ALARM_AGAIN = 0.05
"""When it comes again, if it came in the middle of a message."""
ALARM_STUBBORN = 1.0
"""When it comes again, should somebody have swallowed what it raised."""

# incident.io

BUDGET = 60.0
"""What a call may take with all its retries and pages, unless the caller says otherwise."""
ATTEMPT_SECONDS = 5.0
"""The longest wait for one answer, so that a second attempt fits into a callback's time."""
BACKOFF_SECONDS = 0.5
BACKOFF_LIMIT = 8.0
"""The pause after the first failed attempt, doubled by each, and the longest; drawn between none and that."""
RETRY_AFTER_LIMIT = 3600.0
"""A server's wish to wait is believed up to this."""
BREAK_SECONDS = 60.0
"""How long a process that met an outage only writes failures down."""
STALE_SECONDS = 600.0
"""A list older than this is looked up once more for a name that it lacks."""
TEST_BUDGET = 10.0
"""What "Test connection" may take."""
CLOCK_WARNING = 30.0
CLOCK_ERROR = 300.0
"""How far this machine's clock and incident.io's may be apart before the doctor warns, and calls it an error."""

# The journal

SETTLE_SECONDS = 1.5
"""How long a record is left alone before it changes to v2: another process may be about to open it through v1."""
UNTOUCHED = timedelta(seconds=10)
"""No person changes an incident's text as soon after it was opened."""
YOUNG = timedelta(minutes=1)
"""How long others may be about to open a record through v1; a longer wait for each of many would last for hours."""
SUPPRESS_FOR = timedelta(hours=1)
"""How long an open record answers for its incident, without a request."""
WAIT_LIMIT = timedelta(seconds=RETRY_AFTER_LIMIT, minutes=5)
"""How far ahead a retry date may be, with some room for clocks that differ."""
KEEP_FOR = timedelta(days=30)
"""How long a delivered record is kept."""
STORM_WINDOW = timedelta(minutes=10)
"""How long an opening counts for the storm limits."""
STORM_AGAIN = timedelta(minutes=1)
"""How often it is noted that a storm goes on."""
EARLIER_FOR = timedelta(days=30)
"""How long an incident is told as an earlier one of its DAG."""
OVERDUE = timedelta(hours=1)
"""How long a failure may wait before somebody should look."""

# The watcher

ROUND_SECONDS = 30.0
"""From the beginning of one round to that of the next."""
LONGEST_ROUND = 60.0
"""After so long a round begins nothing more: the next one sees what is so by then."""
DEEP_SECONDS = 600.0
"""How often it looks at every failed run of the last day, not only at those that have changed since."""
CALLBACKS_FIRST = timedelta(minutes=2)
"""How long a run must have failed before it is looked for: callbacks come first."""
RECOVERIES_FIRST = timedelta(seconds=30)
"""The same for a run that has succeeded."""
LOOK_BACK = timedelta(hours=24)
"""How long ago a run may have failed: while the watcher was away, its failures waited for it."""
TRY_AGAIN = timedelta(minutes=10)
"""When it tries once more what had no effect."""
BACKOFF_AWAY = 1.0
BACKOFF_AWAY_LIMIT = 30.0
"""The pause after the first round that met no database, doubled by each, and the longest."""
STUCK_SECONDS = 900.0
LOOK_FOR_STUCK = 5.0
"""What a round takes at most before the watcher ends, for whoever runs it to start it again; how often that is seen."""
LAST_STEP_SECONDS = 0.5
"""What a round may take to end where it is, once the watcher is told to stop."""
