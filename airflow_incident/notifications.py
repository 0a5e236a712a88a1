"""The callbacks: an incident opens on failure and closes on recovery, and Airflow is never harmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Never, TypeVar

from airflow_incident.airflow_bridge.compat import BaseNotifier
from airflow_incident.constants import NEVER_WEAKER, TASK_SCOPES
from airflow_incident.core.arguments import kinds_of, located_error, unnamed, usable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator, Iterator

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.routes import Routed
    from airflow_incident.core.settings import Settings
    from airflow_incident.errors import Problem

log = logging.getLogger(__name__)

N = TypeVar("N")


@dataclass
class _Step:
    """What takes its time, as a thread does it and as a coroutine does, and its answer."""

    do: Callable[[], Any]
    ado: Callable[[], Awaitable[Any]]
    answer: Any = None


def _ask(
    do: Callable[..., Any], ado: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
) -> Generator[_Step, None, Any]:
    """Leave a step to `notify` or `async_notify`, and return its answer."""
    step = _Step(partial(do, *args, **kwargs), partial(ado, *args, **kwargs))
    yield step
    return step.answer


class _NothingToDo(Exception):  # noqa: N818 -- no error: it leads out of a callback
    """Says why incident.io is not asked."""

    def __init__(
        self, words: str, level: int = logging.INFO, outcome: str = "suppressed", task: str | None = None
    ) -> None:
        super().__init__(words)
        self.words, self.level, self.outcome, self.task = words, level, outcome, task


class QuietNotifier(BaseNotifier):
    """A callback that never raises: whatever goes wrong is one line in the log."""

    # Airflow renders template fields in place, on an object that all runs share. We render on a copy.
    template_fields = ()

    disabled_message = ""
    """What does not happen where incidents are turned off."""
    failure_message: Mapping[str, str] = MappingProxyType({})
    """What did not happen when something goes wrong, by channel."""
    place = ""
    """Where it belongs in a DAG file."""
    occasion = ""
    """What Airflow calls it for in that place, `failure` or `success`."""
    failure_outcome = ""
    """What it counts as, when something goes wrong before incident.io or the journal is asked."""

    def __init__(self, entry_point: Any, given: dict[str, Any]) -> None:
        """Check the arguments and keep them; where there is a context, be its callback at once.

        Without one a DAG file is being parsed, whose author can be told. With one something has failed: what cannot be
        used is left out then.

        :param entry_point: The class that takes these arguments, which this one may extend.
        :param given: What its constructor has: contexts, arguments, and under `kwargs` what Airflow gave, or a mistake.
        """
        super().__init__()
        contexts, more = given["contexts"], given["kwargs"]
        name = more.pop("_entry_point", type(self).__name__)
        context = more.pop("context", None)
        if context is not None:
            self.context = context  # Airflow's triggerer gives it, and awaits what it has made
        kinds = kinds_of(entry_point.__init__)
        kept, problems = usable(name, {argument: given[argument] for argument in kinds} | more, kinds)
        strangers = [each for each in contexts if isinstance(each, str) or _are_options(each, kinds)]
        at_failure = context is not None or len(strangers) < len(contexts)
        if at_failure and not any(isinstance(each, Mapping) for each in contexts):
            strangers = []  # those of a missed SLA
        if problems or strangers:
            _refuse(name, problems, strangers, at_failure=at_failure)
        self.conn_id = kept.pop("conn_id", "")
        self.templates = {field: kept.pop(field, None) for field in ("name", "summary")}
        self.options = kept
        if contexts:
            self(*contexts)

    def __call__(self, *contexts: Any) -> None:
        """Be a context's callback, without what Airflow does first: it changes the context, which others share."""
        context = next((each for each in contexts if isinstance(each, Mapping)), contexts[0])
        if len(contexts) == 1 or isinstance(context, Mapping):
            self.notify(context)
            return
        # Airflow 2.11 tells of a missed SLA: a DAG, lines of text, and rows of its database.
        subject = f"DAG {getattr(context, 'dag_id', None) or '(unknown)'}"
        why = f"it stands as sla_miss_callback, which names no run. Use it as {self.place}"
        words = f"{self._failure_message} for {subject}: {why}"
        self._log_reason(_NothingToDo(words, logging.ERROR), {"dag": context})

    def __await__(self) -> Generator[Any, Any, None]:
        """Do the same in the triggerer, which gave the context before."""
        return self.async_notify(self.context).__await__()

    def notify(self, context: Any) -> None:
        """Do what this callback is for, or say in one line why not. Never raises."""
        self.notify_within(context)

    def notify_within(self, context: Any, *, patience: float = 0.0) -> bool:
        """Do the same for somebody who is no callback of Airflow's; return whether there was anything to do.

        :param patience: Seconds that it may wait for the connection, before those of a report.
        """
        try:
            from airflow_incident.airflow_bridge.channel import callback
            from airflow_incident.core.timing import LONGEST_REPORT

            steps = self._steps(context, patience)
            with callback(patience + LONGEST_REPORT), _spending(), closing(steps):
                for step in steps:
                    step.answer = step.do()
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
            self._log_reason(error, context)
            return not isinstance(error, _NothingToDo)
        return True

    async def async_notify(self, context: Any) -> None:
        """Async version of `notify`."""
        try:
            import asyncio

            from airflow_incident.airflow_bridge.channel import callback
            from airflow_incident.core.timing import LONGEST_REPORT, LONGEST_WAIT

            steps = self._steps(context, patience=LONGEST_WAIT - LONGEST_REPORT)
            with callback(LONGEST_WAIT), closing(steps):
                async with asyncio.timeout(LONGEST_WAIT):
                    for step in steps:
                        step.answer = await step.ado()
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
            self._log_reason(error, context)

    def _steps(self, context: Any, patience: float) -> Generator[_Step, None, None]:
        """Do it, step by step.

        :param patience: Seconds that it may wait for the connection, before those of a report; none in a batch.
        """
        raise NotImplementedError

    def _begin(self, context: Any, patience: float) -> AirflowConfig:
        """Read airflow.cfg, and how much time there is: the callbacks of a task share what Airflow gives to all.

        :raises _NothingToDo: if Airflow has called for the opposite; swapped, callbacks open and close the wrong runs.
        """
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import read_airflow_config
        from airflow_incident.airflow_bridge.context import called_for, ids, is_in_task
        from airflow_incident.airflow_bridge.process import PROCESS
        from airflow_incident.core.timing import SHORTEST_REPORT

        occasion = called_for(context)
        if occasion in {self.occasion, ""}:
            config = read_airflow_config()
            if not patience and is_in_task(context):
                left = max(SHORTEST_REPORT, PROCESS.budget.left(config.task_seconds))
                config = config._replace(report_seconds=min(config.report_seconds, left))
            shorten(patience + config.report_seconds)
            return config
        subject = "DAG {}, run {}".format(*(each or "(unknown)" for each in ids(context)))
        why = f"Airflow called it for a {occasion}, as on_{occasion}_callback. Use it as {self.place}"
        raise _NothingToDo(f"{self._failure_message} for {subject}: {why}", logging.ERROR, self.failure_outcome)

    def _connect(
        self, airflow_config: AirflowConfig, routed: Routed | None, began: float, patience: float
    ) -> Generator[_Step, None, tuple[ConnectionConfig, float]]:
        """Read the connection; return it, and when the time of a report began.

        :raises MissingConnectionError: if there is none at all, as on a laptop, and nobody has named one.
        """
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import aread_lenient_config, read_lenient_config, why_disabled

        if routed and routed.problems:
            from airflow_incident.core.text import log_line

            log.warning("incident.io: %s", log_line(_clean(routed.warning)))
        if why := why_disabled(airflow_config, routed):
            raise _NothingToDo(f"{self.disabled_message}, {why}")
        ways = read_lenient_config, aread_lenient_config
        config = yield from _ask(*ways, self.conn_id, airflow_config, routed, **self.options)
        if config.is_absent and config.unusable:
            raise config.unusable
        # Without a connection there is nothing but to wait for it, and in the triggerer nobody waits for us.
        waited = min(patience, time.monotonic() - began)
        shorten(waited + airflow_config.report_seconds)
        return config, began + waited

    @property
    def _failure_message(self) -> str:
        return self.failure_message["alert" if self.options.get("channel") == "alert" else "incident"]

    def _log_reason(self, error: BaseException, context: Any) -> None:
        """Say in one line why incident.io was not asked at all. Never raises."""
        try:
            from airflow_incident.airflow_bridge.context import ids
            from airflow_incident.airflow_bridge.stats import emit, log_event
            from airflow_incident.core.text import safe_str
            from airflow_incident.errors import IncidentIoError, MissingConnectionError

            dag_id, run_id = ids(context)
            facts: dict[str, Any] = {"dag_id": dag_id, "run_id": run_id}
            if isinstance(error, _NothingToDo):
                outcome, level, words = error.outcome, error.level, error.words
                facts["task"] = error.task
            else:
                absent = isinstance(error, MissingConnectionError)
                outcome, level = ("suppressed", logging.WARNING) if absent else (self.failure_outcome, logging.ERROR)
                facts["error"] = type(error).__name__
                why = f"{type(error).__name__}: {safe_str(error)}"
                if isinstance(error, IncidentIoError):
                    why = f"{error}. {error.advice}"
                subject = f"DAG {dag_id or '(unknown)'}, run {run_id or '(unknown)'}"
                words = f"{self._failure_message} for {subject}: {why}"
            emit(log, [log_event(outcome, level, words, _clean, **facts)])
        except (Exception, SystemExit) as broken:  # noqa: BLE001 -- what says so may be what is broken
            # Nothing can be redacted now, so no error's text is shown.
            kinds = type(error).__name__, type(broken).__name__
            log.error("incident.io: %s: %s, then %s", self._failure_message, *kinds)  # noqa: TRY400


class IncidentNotifier(QuietNotifier):
    """Open an incident at incident.io for the failure that a context describes.

    Use it as `on_failure_callback` of a DAG, of a task or in `default_args`, alone or in a list, and in deadline
    alerts. One run has one incident, however often and from wherever this is called.

    Called with a context it opens the incident at once: `on_failure_callback=IncidentNotifier`, without parentheses.

    What is not given here is taken from the rules of `routes_file`, the connection, or `[incident_io]` in airflow.cfg.

    :param name: Title of the incident, a Jinja template. Default: which DAG or task failed.
    :param summary: Text of the incident, a Jinja template of markdown. Default: all that Airflow knows.
    :param channel: `incident` (default), or `alert`: an event to the connection's alert source, which pages people by
        incident.io's alert routes. An alert has no status, roles or custom fields.
    :param severity: Name or ID of the severity.
    :param incident_type: Name or ID of the incident type.
    :param mode: `real` or `test`.
    :param visibility: `public` or `private`.
    :param status: Name or ID of the status that the incident opens in. Default: triage.
    :param custom_fields: Names or IDs of custom fields to their values, like `{"Affected team": "Product"}`. Values may
        be Jinja templates; one that is empty then is left out.
    :param roles: Names or IDs of incident roles to people: an email address, a Slack ID or an incident.io ID. People
        may be Jinja templates.
    :param slack_team_id: Slack workspace, with Enterprise Grid only.
    :param scope: What one incident stands for: `run` (default), `task`, `task_instance` or `dag`.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param exception_detail: `type`, `message` (default) or `traceback`.
    :param log_lines: How many last lines of the failed task's log the incident shows. Default: 0.
    :param runbook: URL of the page that says what to do, or a template of one. Default: a link named so in `doc_md`.
    :param refail: What a run does that was cleared and fails again: `join` (default) the incident that is open still,
        or open a `new` one.
    :param conn_id: Connection of type `incident_io`. Default: what a rule of `routes_file` says, else
        `incident_io_default`.
    """

    place = "on_failure_callback"
    occasion = "failure"
    disabled_message = "nothing is opened"
    failure_message = MappingProxyType({"incident": "NO incident was opened", "alert": "NO alert was sent"})
    failure_outcome = "dropped"

    def __init__(
        self,
        *contexts: Mapping[str, Any],
        name: str | None = None,
        summary: str | None = None,
        channel: str | None = None,
        severity: str | None = None,
        incident_type: str | None = None,
        mode: str | None = None,
        visibility: str | None = None,
        status: str | None = None,
        custom_fields: Mapping[str, Any] | None = None,
        roles: Mapping[str, Any] | None = None,
        slack_team_id: str | None = None,
        scope: str | None = None,
        deployment: str | None = None,
        exception_detail: str | None = None,
        log_lines: int | None = None,
        runbook: str | None = None,
        refail: str | None = None,
        conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(IncidentNotifier, locals())

    def _steps(self, context: Any, patience: float) -> Generator[_Step, None, None]:
        """Read the connection and the failure, write its incident, send it, and say what came of it."""
        from airflow_incident.airflow_bridge.config import read_routed

        began, airflow_config = time.monotonic(), self._begin(context, patience)
        routed = read_routed(context, airflow_config)
        config, began = yield from self._connect(airflow_config, routed, began, patience)

        from airflow_incident.airflow_bridge.context import read_failure
        from airflow_incident.airflow_bridge.stats import emit
        from airflow_incident.airflow_bridge.templates import Templates
        from airflow_incident.delivery import run
        from airflow_incident.delivery.report import IncidentContent, prepare

        detail, log_lines = config.settings.exception_detail, config.settings.log_lines
        failure = read_failure(context, exception_detail=detail, log_lines=log_lines, redact=config.redact)
        if failure.retry_coming:
            task = failure.task_label
            raise _NothingToDo(f"nothing is opened for task {task}, another attempt is coming", task=task)
        for note in config.notes:
            log.warning("incident.io: %s", note)
        templates = Templates(context, config.redact, log)
        wanted = config.templates(self.templates)
        name, summary = (templates.text(field, template) for field, template in wanted.items())
        config = templates.fields(config)
        failure = config.with_pages(templates.runbook(failure, config))
        content = IncidentContent(name, summary, notes=templates.notes, problems=config.problems)
        report = prepare(failure, config.settings, content, deployment=config.deployment, redact=config.redact)
        seconds = _seconds(config, began, in_batch=failure.in_processor and not patience)
        result = yield from _ask(run.report, run.areport, report, config, seconds=seconds)
        emit(log, result.log_events(config.redact, time.monotonic() - began))


class RecoveryNotifier(QuietNotifier):
    """Close at incident.io what callbacks of a run have opened, now that the run has succeeded.

    Use it as `on_success_callback` of a DAG; of a task only together with `scope` `task` or `task_instance`. A run
    that succeeds at once costs one look in the journal. What earlier attempts of the run have opened is closed, and
    what this one has, if it got over a failure; not what a step of it opened on purpose. An incident that a person has
    claimed stays open and gets a link to the run.

    What is not given here is taken from the rules of `routes_file`, the connection, or `[incident_io]` in airflow.cfg.

    :param channel: `incident` (default), or `alert`: resolve the alerts that the run has sent.
    :param scope: What one incident stands for, as in `IncidentNotifier`.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param resolve: `if_unclaimed` (default) or `always`: whether to close also what a person has claimed.
    :param resolved_status: Name or ID of the status to move to. Default: the account's first closed status.
    :param conn_id: Connection of type `incident_io`. Default: what a rule of `routes_file` says, else
        `incident_io_default`.
    """

    place = "on_success_callback"
    occasion = "success"
    disabled_message = "nothing is closed"
    failure_message = MappingProxyType({"incident": "NO incident was closed", "alert": "NO alert was resolved"})
    failure_outcome = "left_open"

    def __init__(
        self,
        *contexts: Mapping[str, Any],
        channel: str | None = None,
        scope: str | None = None,
        deployment: str | None = None,
        resolve: str | None = None,
        resolved_status: str | None = None,
        conn_id: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(RecoveryNotifier, locals())

    def _steps(self, context: Any, patience: float) -> Generator[_Step, None, None]:
        """See whether there is something to close, close it, and say what came of it."""
        from airflow_incident.airflow_bridge.config import read_routed, why_disabled
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.airflow_bridge.reading import are_others_well
        from airflow_incident.core.key import scope_of
        from airflow_incident.core.settings import merge

        began, airflow_config = time.monotonic(), self._begin(context, patience)
        routed = read_routed(context, airflow_config)
        routes = routed.options if routed else {}
        settings, *_ = merge(arguments=self.options, routes=routes, config=airflow_config.config)
        success = read_success(context, scope=settings.scope)
        scope = scope_of(success, settings.scope)
        if success.level == "task" and scope not in TASK_SCOPES:
            return
        is_first = scope != "dag" and not success.clear_count
        if is_first and (not settings.journal or why_disabled(airflow_config, routed)):
            return
        if is_first and not (yield from self._has_open(success, settings, airflow_config, routed)):
            return
        if not patience and success.map_index >= 0 and scope == "task" and not are_others_well(context, success):
            return  # the incident stands for all of them; the watcher has seen that they are
        config, began = yield from self._connect(airflow_config, routed, began, patience)

        from airflow_incident.airflow_bridge.stats import emit
        from airflow_incident.core.text import log_line
        from airflow_incident.delivery import run
        from airflow_incident.delivery.recovery import recovery_of

        if not config.settings.journal:
            raise _NothingToDo("nothing is closed, [incident_io] journal is false, which says what was opened")
        why = (f"{config.unusable}. {config.unusable.advice}",) if config.unusable else ()
        for warning in (*config.warnings, *why):
            log.warning("incident.io: %s", log_line(config.redact(warning)))
        recovery = recovery_of(success, config)
        seconds = _seconds(config, began, in_batch=success.in_processor and not patience)
        result = yield from _ask(run.recover, run.arecover, recovery, config, seconds=seconds)
        emit(log, result.log_events(config.redact, recovery.success))

    def _has_open(
        self, success: Failure, settings: Settings, airflow_config: AirflowConfig, routed: Routed | None
    ) -> Generator[_Step, None, bool]:
        """Return whether this very attempt has left something open, as the journal says."""
        from airflow_incident.airflow_bridge.config import aread_lenient_config, read_lenient_config
        from airflow_incident.delivery import run

        deployment = settings.deployment
        if not deployment:  # it is part of each key, and only the connection may have it
            ways = read_lenient_config, aread_lenient_config
            deployment = (yield from _ask(*ways, self.conn_id, airflow_config, routed, **self.options)).deployment
        found = yield from _ask(run.has_open, run.ahas_open, success, settings, deployment)
        if isinstance(found, bool):
            return found
        raise _NothingToDo(f"the journal cannot be used: {found.why}", logging.WARNING, "left_open")


def open_incident(
    *contexts: Mapping[str, Any],
    name: str | None = None,
    summary: str | None = None,
    channel: str | None = None,
    severity: str | None = None,
    incident_type: str | None = None,
    mode: str | None = None,
    visibility: str | None = None,
    status: str | None = None,
    custom_fields: Mapping[str, Any] | None = None,
    roles: Mapping[str, Any] | None = None,
    slack_team_id: str | None = None,
    scope: str | None = None,
    deployment: str | None = None,
    exception_detail: str | None = None,
    log_lines: int | None = None,
    runbook: str | None = None,
    refail: str | None = None,
    conn_id: str = "",
    **unknown: Never,
) -> IncidentNotifier:
    """Return the callback that opens an incident; takes what `IncidentNotifier` takes.

    Without parentheses it is that callback itself: called with a context, it opens the incident at once. It can be
    bound with `functools.partial`, and named in a YAML file: `airflow_incident.open_incident`.
    """
    return _made(IncidentNotifier, "open_incident", locals())


def resolve_incident(
    *contexts: Mapping[str, Any],
    channel: str | None = None,
    scope: str | None = None,
    deployment: str | None = None,
    resolve: str | None = None,
    resolved_status: str | None = None,
    conn_id: str = "",
    **unknown: Never,
) -> RecoveryNotifier:
    """Return the callback that closes what a run's callbacks have opened; takes what `RecoveryNotifier` takes.

    It costs as little as `open_incident` in a DAG file, and one look in the journal when a run succeeds at once. It
    can be written in the same forms.
    """
    return _made(RecoveryNotifier, "resolve_incident", locals())


def _made(notifier: Callable[..., N], entry_point: str, given: dict[str, Any]) -> N:
    """Make a notifier of what a function was called with, all of it."""
    contexts, unknown = given.pop("contexts"), given.pop("unknown")
    if "context" in unknown:
        contexts = (*contexts, unknown.pop("context"))
    return notifier(*contexts, **given, **unknown | {"_entry_point": entry_point})


# dag-factory calls what has this when it builds a DAG; what has not, it binds to its arguments until the failure.
open_incident.notify = open_incident  # type: ignore[attr-defined]  # no function has it
resolve_incident.notify = resolve_incident  # type: ignore[attr-defined]  # as above


def notifier_class(callback: Any) -> type[QuietNotifier] | None:
    """Return which of our callbacks this is, in whatever form Airflow was given it; None if it is somebody else's."""
    while isinstance(callback, partial):
        callback = callback.func
    if isinstance(callback, MethodType):
        callback = callback.__self__
    if callback is open_incident:
        return IncidentNotifier
    if callback is resolve_incident:
        return RecoveryNotifier
    kind = callback if isinstance(callback, type) else type(callback)
    return kind if issubclass(kind, QuietNotifier) else None


def _are_options(given: Any, names: Collection[str]) -> bool:
    """Return whether these are options whose asterisks were forgotten, and not what Airflow gives a callback."""
    return type(given) is dict and bool(given) and all(name in names for name in given)


def _refuse(entry_point: str, problems: Mapping[str, Problem], strangers: list[Any], *, at_failure: bool) -> None:
    """Tell what cannot be used: whoever wrote it, or at a failure, which must not be lost, whoever reads the log.

    :param strangers: What was given without a name.
    :raises ConfigurationError: while a DAG file is parsed.
    """
    from airflow_incident.core.text import log_line

    unnamed_ones = [unnamed(entry_point, each) for each in strangers]
    if not at_failure:
        raise located_error([*problems.values(), *unnamed_ones])
    instead = {name: f"taken as {value!r}" for name, value in NEVER_WEAKER.items()}
    messages = [f"{problem}; {instead.get(name, 'left out')}" for name, problem in problems.items()]
    messages += [f"{problem}; left out" for problem in unnamed_ones]
    log.warning("%s", log_line(f"incident.io: {_clean('. '.join(messages))}"))


@contextmanager
def _spending() -> Iterator[None]:
    """Write down what a callback takes of its process's time."""
    from airflow_incident.airflow_bridge.process import PROCESS

    began = time.monotonic()
    try:
        yield
    finally:
        PROCESS.budget.record(time.monotonic() - began)


def _seconds(config: ConnectionConfig, began: float, *, in_batch: bool) -> float:
    """Return how many seconds the requests have."""
    from airflow_incident.airflow_bridge.channel import left, shorten
    from airflow_incident.airflow_bridge.process import PROCESS
    from airflow_incident.core.timing import LAST_WORD, LAST_WRITE, SHORTEST_REPORT

    share = config.airflow_config.report_seconds
    if in_batch:
        batch, written = config.airflow_config.batch_seconds, config.settings.journal
        share = PROCESS.budget.allot(longest=share, batch=batch, written=written)
        shorten(max(share, time.monotonic() - began + LAST_WRITE))
    # To read the connection took some of it; a request gets its try, if the callback's time allows for one.
    seconds = max(min(share, SHORTEST_REPORT), share - (time.monotonic() - began))
    return max(0.0, min(seconds, left(LAST_WORD) or 0.0))


def _clean(text: str) -> str:
    """Redact what Airflow knows as a secret, and what looks like one."""
    from airflow_incident.airflow_bridge.compat import redact
    from airflow_incident.core.redaction import redact_secrets

    return redact_secrets(text, mask=redact)
