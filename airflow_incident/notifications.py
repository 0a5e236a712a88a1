"""The callbacks: an incident opens on failure and closes on recovery, and Airflow is never harmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Never, TypeVar

from airflow_incident.airflow_bridge.compat import BaseNotifier
from airflow_incident.constants import DEFAULT_CONN_ID, NEVER_WEAKER
from airflow_incident.core.arguments import kinds_of, located_error, unnamed, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from airflow_incident.airflow_bridge.config import AirflowConfig, ConnectionConfig
    from airflow_incident.airflow_bridge.stats import LogEvent
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.effects import StoreFailed
    from airflow_incident.delivery.recovery import Recovery
    from airflow_incident.delivery.report import Report
    from airflow_incident.errors import Problem

log = logging.getLogger(__name__)

N = TypeVar("N")


class QuietNotifier(BaseNotifier):
    """A callback that never raises: whatever goes wrong is one line in the log.

    What it is to do is read from the context, once the connection is; then it is carried out within its time.
    """

    # Airflow renders template fields in place, on an object that all runs share. We render on a copy.
    template_fields = ()

    disabled_message = ""
    """What does not happen where incidents are turned off."""
    failure_message: Mapping[str, str] = MappingProxyType({})
    """What did not happen when something goes wrong, by channel."""
    place = ""
    """Where it belongs in a DAG file."""
    failure_outcome = ""
    """What it counts as, when something goes wrong before incident.io or the journal is asked."""

    def __init__(
        self, contexts: tuple[Any, ...], arguments: dict[str, Any], kinds: Mapping[str, str], more: dict[str, Any]
    ) -> None:
        """Check the arguments and keep them.

        Without a context a DAG file is being parsed, whose author can be told. With one something has failed: what
        cannot be used is left out then.

        :param more: What its caller gave beside the arguments: what Airflow gives, or a mistake.
        """
        entry_point = more.pop("_entry_point", type(self).__name__)
        context = more.pop("context", None)
        super().__init__()
        if context is not None:
            self.context = context  # Airflow's triggerer gives it, and awaits what it has made
        kept, problems = usable(entry_point, arguments | more, kinds)
        texts = [each for each in contexts if isinstance(each, str)]
        at_failure = context is not None or len(texts) < len(contexts)
        if at_failure and not any(isinstance(each, Mapping) for each in contexts):
            texts = []  # what Airflow 2.11 says of a missed SLA holds some
        if problems or texts:
            _refuse(entry_point, problems, texts, at_failure=at_failure)
        self.conn_id = kept.pop("conn_id", DEFAULT_CONN_ID)
        self.options = kept

    def _be_called(self, contexts: tuple[Any, ...]) -> None:
        """Be the callback at once, where Airflow was given a name without parentheses. Never raises."""
        if not contexts:
            return
        context = next((each for each in contexts if isinstance(each, Mapping)), None)
        try:
            self(*contexts) if context is None else self(context)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- Airflow hands over what it likes
            _log_failure(error, context, self._failure_message, self.failure_outcome)

    def render_template_fields(self, *_: Any, **__: Any) -> None:
        """Do nothing: there are no template fields, and Airflow's way asks the DAG for an environment first."""

    def _update_context(self, context: Any) -> Any:
        """Leave the context, which other callbacks share, as it is."""
        return context

    def notify(self, context: Any) -> None:
        """Do what this callback is for, or say in one line why not. Never raises."""
        from airflow_incident.airflow_bridge.channel import callback
        from airflow_incident.core.timing import LONGEST_REPORT

        try:
            with callback(LONGEST_REPORT):
                self._notify(context, time.monotonic())
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
            _log_failure(error, context, self._failure_message, self.failure_outcome)

    async def async_notify(self, context: Any) -> None:
        """Do as `notify` does, in the triggerer's event loop."""
        import asyncio

        from airflow_incident.airflow_bridge.channel import callback
        from airflow_incident.core.timing import LONGEST_WAIT

        try:
            with callback(LONGEST_WAIT):
                async with asyncio.timeout(LONGEST_WAIT):
                    await self._anotify(context, time.monotonic())
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- a callback never harms Airflow
            _log_failure(error, context, self._failure_message, self.failure_outcome)

    def _notify(self, context: Any, began: float) -> None:
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import read_lenient_config

        airflow_config, need = self._need(context)
        if airflow_config is None:
            return
        shorten(airflow_config.report_seconds)
        if not self._has_work(need, airflow_config, context):
            return
        config = read_lenient_config(self.conn_id, airflow_config, **self.options)
        _raise_if_absent(config)
        if (job := self._job(need, context, config)) is not None:
            self._do(job, config, began)

    async def _anotify(self, context: Any, began: float) -> None:
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import aread_lenient_config

        airflow_config, need = self._need(context)
        if airflow_config is None or not await self._ahas_work(need, airflow_config, context):
            return
        config = await aread_lenient_config(self.conn_id, airflow_config, **self.options)
        # Without a connection there is nothing but to wait for it, and in the triggerer nobody waits for us.
        waited = time.monotonic() - began
        shorten(waited + airflow_config.report_seconds)
        began += waited
        _raise_if_absent(config)
        if (job := self._job(need, context, config)) is not None:
            await self._ado(job, config, began)

    @property
    def _failure_message(self) -> str:
        channel = self.options.get("channel")
        return self.failure_message["alert" if channel == "alert" else "incident"]

    def _need(self, context: Any) -> tuple[AirflowConfig | None, Any]:
        """Read airflow.cfg, and what may have to be done; no configuration where there is nothing to do."""
        from airflow_incident.airflow_bridge.config import read_airflow_config

        if _is_sla_miss(context):
            _log_misplaced(self._failure_message, self.place, context)
            return None, None
        airflow_config = read_airflow_config()
        need = self._may_need(context, airflow_config)
        if not need:
            return None, None
        if airflow_config.enabled:
            return airflow_config, need
        _log_event("suppressed", logging.INFO, f"{self.disabled_message}, [incident_io] enabled is false", context)
        return None, None

    def _may_need(self, context: Any, airflow_config: AirflowConfig) -> Any:  # noqa: ARG002 -- for those that can tell
        """Return what may have to be done, before the connection is read; nothing true where nothing has."""
        return True

    def _has_work(self, need: Any, airflow_config: AirflowConfig, context: Any) -> bool:  # noqa: ARG002 -- as above
        """Return whether there is anything to do, where that is cheaper to find out than to read the connection."""
        return True

    async def _ahas_work(self, need: Any, airflow_config: AirflowConfig, context: Any) -> bool:  # noqa: ARG002 -- as above
        """Async version of `_has_work`."""
        return True

    def _job(self, need: Any, context: Any, config: ConnectionConfig) -> Any:
        """Read what is to be done; None for nothing."""
        raise NotImplementedError

    def _do(self, job: Any, config: ConnectionConfig, began: float) -> None:
        """Do it within its time, and say what came of it."""
        raise NotImplementedError

    async def _ado(self, job: Any, config: ConnectionConfig, began: float) -> None:
        """Async version of `_do`."""
        raise NotImplementedError


class IncidentNotifier(QuietNotifier):
    """Open an incident at incident.io for the failure that a context describes.

    Use it as `on_failure_callback` of a DAG, of a task or in `default_args`, alone or in a list, and in deadline
    alerts. One run has one incident, however often and from wherever this is called.

    Called with a context it opens the incident at once: `on_failure_callback=IncidentNotifier`, without parentheses.

    What is not given here is taken from the connection, then from `[incident_io]` in airflow.cfg.

    :param name: Title of the incident, a Jinja template. Default: which DAG or task failed.
    :param summary: Text of the incident, a Jinja template of markdown. Default: all that Airflow knows.
    :param channel: `incident` (default), or `alert`: an event to the connection's alert source, which pages people by
        incident.io's alert routes. An alert has no status, roles or custom fields.
    :param severity: Name or ID of the severity.
    :param incident_type: Name or ID of the incident type.
    :param mode: `real` or `test`.
    :param visibility: `public` or `private`.
    :param status: Name or ID of the status that the incident opens in. Default: triage.
    :param custom_fields: Names or IDs of custom fields to their values, like `{"Affected team": "Product"}`.
    :param roles: Names or IDs of incident roles to people: an email address, a Slack ID or an incident.io ID.
    :param slack_team_id: Slack workspace, with Enterprise Grid only.
    :param scope: What one incident stands for: `run` (default), `task` or `task_instance`.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param exception_detail: `type`, `message` (default) or `traceback`.
    :param conn_id: Connection of type `incident_io`.
    """

    place = "on_failure_callback"
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
        conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        arguments = {
            "name": name,
            "summary": summary,
            "channel": channel,
            "severity": severity,
            "incident_type": incident_type,
            "mode": mode,
            "visibility": visibility,
            "status": status,
            "custom_fields": custom_fields,
            "roles": roles,
            "slack_team_id": slack_team_id,
            "scope": scope,
            "deployment": deployment,
            "exception_detail": exception_detail,
            "conn_id": conn_id,
        }
        super().__init__(contexts, arguments, _OPENS, kwargs)
        self.templates = {field: self.options.pop(field, None) for field in ("name", "summary")}
        self._be_called(contexts)

    def _do(self, job: Report, config: ConnectionConfig, began: float) -> None:
        with _time_budget(config, began, in_processor=job.failure.in_processor) as seconds:
            outcome = _run().report(job, config, seconds=seconds)
        _emit(outcome.log_events(config.redact, time.monotonic() - began))

    async def _ado(self, job: Report, config: ConnectionConfig, began: float) -> None:
        outcome = await _run().areport(job, config, seconds=config.airflow_config.report_seconds)
        _emit(outcome.log_events(config.redact, time.monotonic() - began))

    def _job(self, need: Any, context: Any, config: ConnectionConfig) -> Report | None:  # noqa: ARG002 -- as above
        """Read the failure and write its incident; None if another attempt is coming."""
        from airflow_incident.airflow_bridge.context import read_failure
        from airflow_incident.delivery.report import IncidentContent, prepare

        failure = read_failure(context, exception_detail=config.settings.exception_detail)
        if failure.retry_coming:
            words = f"nothing is opened for task {failure.task_label}, another attempt is coming"
            _log_event("suppressed", logging.INFO, words, context, task=failure.task_label)
            return None
        texts, notes = self._rendered(context, config.redact)
        wish = IncidentContent(name=texts["name"], summary=texts["summary"], notes=(*config.notes, *notes))
        for note in config.notes:
            log.warning("incident.io: %s", note)
        return prepare(
            config.with_pages(failure),
            config.settings,
            wish,
            deployment=config.deployment,
            redact=config.redact,
        )

    def _rendered(self, context: Any, redact: Redact) -> tuple[dict[str, str | None], list[str]]:
        """Render the templates; one that is broken gives way to the default text, which says so."""
        from airflow_incident.airflow_bridge.context import render
        from airflow_incident.core.text import MESSAGE_LENGTH, log_line, safe_str, shorten

        texts: dict[str, str | None] = {}
        notes: list[str] = []
        for field, template in self.templates.items():
            try:
                texts[field] = None if template is None else render(str(template), context)
            except (Exception, SystemExit) as error:  # noqa: BLE001 -- a broken template still opens an incident
                texts[field] = None
                why = shorten(log_line(redact(f"{type(error).__name__}: {safe_str(error)}")), MESSAGE_LENGTH)
                notes.append(f"The template of {field} could not be rendered ({why}).")
                log.warning("incident.io: %s The default text stands in.", notes[-1])
        return texts, notes


class _Success(NamedTuple):
    """What succeeded, the settings as far as they are known without the connection, and whether more may be open."""

    success: Failure
    settings: Settings
    may_be_earlier: bool


class RecoveryNotifier(QuietNotifier):
    """Close at incident.io what callbacks of a run have opened, now that the run has succeeded.

    Use it as `on_success_callback` of a DAG; of a task only together with `scope` `task` or `task_instance`. A run
    that succeeds at once costs one look in the journal. What earlier attempts of the run have opened is closed, and
    what this one has, if it got over a failure; not what a step of it opened on purpose. An incident that a person has
    claimed stays open and gets a link to the run.

    What is not given here is taken from the connection, then from `[incident_io]` in airflow.cfg.

    :param channel: `incident` (default), or `alert`: resolve the alerts that the run has sent.
    :param scope: What one incident stands for, as in `IncidentNotifier`.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param resolve: `if_unclaimed` (default) or `always`: whether to close also what a person has claimed.
    :param resolved_status: Name or ID of the status to move to. Default: the account's first closed status.
    :param conn_id: Connection of type `incident_io`.
    """

    place = "on_success_callback"
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
        conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        arguments = {
            "channel": channel,
            "scope": scope,
            "deployment": deployment,
            "resolve": resolve,
            "resolved_status": resolved_status,
            "conn_id": conn_id,
        }
        super().__init__(contexts, arguments, _RESOLVES, kwargs)
        self._be_called(contexts)

    def _may_need(self, context: Any, airflow_config: AirflowConfig) -> _Success | None:
        """Return the success, if this run may have opened something that this level closes."""
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.constants import TASK_SCOPES
        from airflow_incident.core.key import scope_of
        from airflow_incident.core.settings import merge

        settings, *_ = merge(arguments=self.options, connection={}, config=airflow_config.config)
        success = read_success(context, scope=settings.scope)
        scope = scope_of(success, settings.scope)
        if success.level == "task" and scope not in TASK_SCOPES:
            return None
        is_earlier = scope == "dag" or success.clear_count > 0
        is_needed = is_earlier or (settings.journal and airflow_config.enabled)
        return _Success(success, settings, is_earlier) if is_needed else None

    def _has_work(self, need: _Success, airflow_config: AirflowConfig, context: Any) -> bool:
        if need.may_be_earlier:
            return True
        named = need.settings.deployment or self._deployment(airflow_config)
        return _found(context, answer=_run().has_open(need.success, need.settings, named))

    async def _ahas_work(self, need: _Success, airflow_config: AirflowConfig, context: Any) -> bool:
        if need.may_be_earlier:
            return True
        named = need.settings.deployment or await self._adeployment(airflow_config)
        return _found(context, answer=await _run().ahas_open(need.success, need.settings, named))

    def _deployment(self, airflow_config: AirflowConfig) -> str:
        """Read the name that is part of each key from where only the connection may have it."""
        from airflow_incident.airflow_bridge.config import read_lenient_config

        return read_lenient_config(self.conn_id, airflow_config, **self.options).deployment

    async def _adeployment(self, airflow_config: AirflowConfig) -> str:
        """Async version of `_deployment`."""
        from airflow_incident.airflow_bridge.config import aread_lenient_config

        return (await aread_lenient_config(self.conn_id, airflow_config, **self.options)).deployment

    def _job(self, need: _Success, context: Any, config: ConnectionConfig) -> Recovery | None:
        from airflow_incident.core.text import log_line
        from airflow_incident.delivery.recovery import recovery_of

        if not config.settings.journal:
            words = "nothing is closed, [incident_io] journal is false, which says what was opened"
            _log_event("suppressed", logging.INFO, words, context)
            return None
        why = (f"{config.unusable}. {config.unusable.advice}",) if config.unusable else ()
        for warning in (*config.warnings, *why):
            log.warning("incident.io: %s", log_line(config.redact(warning)))
        return recovery_of(need.success, config)

    def _do(self, job: Recovery, config: ConnectionConfig, began: float) -> None:
        with _time_budget(config, began, in_processor=job.success.in_processor) as seconds:
            recovered = _run().recover(job, config, seconds=seconds)
        _emit(recovered.log_events(config.redact, job.success))

    async def _ado(self, job: Recovery, config: ConnectionConfig, began: float) -> None:  # noqa: ARG002 -- as reports do
        recovered = await _run().arecover(job, config, seconds=config.airflow_config.report_seconds)
        _emit(recovered.log_events(config.redact, job.success))


_OPENS = kinds_of(IncidentNotifier.__init__)
_RESOLVES = kinds_of(RecoveryNotifier.__init__)


def _found(context: Any, *, answer: bool | StoreFailed) -> bool:
    """Return what a look in the journal has found; where it cannot be read, log that."""
    if isinstance(answer, bool):
        return answer
    _log_event("left_open", logging.WARNING, f"the journal cannot be used: {answer.why}", context)
    return False


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
    conn_id: str = DEFAULT_CONN_ID,
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
    conn_id: str = DEFAULT_CONN_ID,
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


def _refuse(entry_point: str, problems: Mapping[str, Problem], positional: list[str], *, at_failure: bool) -> None:
    """Tell what cannot be used: whoever wrote it, or at a failure, which must not be lost, whoever reads the log.

    :raises ConfigurationError: while a DAG file is parsed.
    """
    from airflow_incident.core.text import log_line

    unnamed_ones = [unnamed(entry_point, each) for each in positional]
    if not at_failure:
        raise located_error([*problems.values(), *unnamed_ones])
    instead = {name: f"taken as {value!r}" for name, value in NEVER_WEAKER.items()}
    messages = [f"{problem}; {instead.get(name, 'left out')}" for name, problem in problems.items()]
    messages += [f"{problem}; left out" for problem in unnamed_ones]
    log.warning("%s", log_line(f"incident.io: {_clean('. '.join(messages))}"))


_ENTRY_POINTS: tuple[tuple[Any, type[QuietNotifier]], ...] = (
    (open_incident, IncidentNotifier),
    (resolve_incident, RecoveryNotifier),
)
for _entry_point, _ in _ENTRY_POINTS:
    # dag-factory calls what has this when it builds a DAG; what has not, it binds to its arguments until the failure.
    setattr(_entry_point, "notify", _entry_point)  # noqa: B010 -- mypy knows no attributes of functions


def notifier_class(callback: Any) -> type[QuietNotifier] | None:
    """Return which of our callbacks this is, in whatever form Airflow was given it; None if it is somebody else's."""
    while isinstance(callback, partial):
        callback = callback.func
    if isinstance(callback, MethodType):
        callback = callback.__self__
    notifier = next((notifier for entry_point, notifier in _ENTRY_POINTS if callback is entry_point), callback)
    kind = notifier if isinstance(notifier, type) else type(notifier)
    return kind if issubclass(kind, QuietNotifier) else None


@contextmanager
def _time_budget(config: ConnectionConfig, began: float, *, in_processor: bool) -> Iterator[float]:
    """Say how many seconds the requests have, and write down what the whole callback took."""
    longest, batch = config.airflow_config.report_seconds, config.airflow_config.batch_seconds
    if not in_processor:
        yield _seconds_left(longest, began)
        return
    from airflow_incident.airflow_bridge.channel import shorten
    from airflow_incident.airflow_bridge.process import PROCESS
    from airflow_incident.core.timing import LAST_WRITE

    share = PROCESS.batch.allot(longest=longest, batch=batch, written=config.settings.journal)
    shorten(max(share, time.monotonic() - began + LAST_WRITE))
    try:
        yield _seconds_left(share, began)
    finally:
        PROCESS.batch.record(time.monotonic() - began)


def _seconds_left(seconds: float, began: float) -> float:
    """Take off what reading the connection took; a request gets its try, if the callback's time allows for one."""
    from airflow_incident.airflow_bridge.channel import left
    from airflow_incident.core.timing import LAST_WORD, SHORTEST_REPORT

    seconds = max(min(seconds, SHORTEST_REPORT), seconds - (time.monotonic() - began))
    remains = left(LAST_WORD)
    return seconds if remains is None else max(0.0, min(seconds, remains))


def _run() -> ModuleType:
    from airflow_incident.delivery import run

    return run


def _raise_if_absent(config: ConnectionConfig) -> None:
    """Raise where there is no connection at all, as on a laptop, and nobody has named one."""
    if config.is_absent and config.unusable:
        raise config.unusable


def _emit(lines: Iterable[LogEvent]) -> None:
    from airflow_incident.airflow_bridge.stats import emit

    emit(log, lines)


def _is_sla_miss(context: Any) -> bool:
    """Tell what Airflow 2.11 says of a missed SLA, which names no run, only lines of text and rows of its database."""
    return isinstance(context, dict) and {"task_list", "blocking_task_list"} <= context.keys()


def _log_misplaced(failure_message: str, place: str, context: Any) -> None:
    from airflow_incident.airflow_bridge.context import ids

    dag_id, _ = ids(context)
    subject = f"DAG {dag_id or '(unknown)'}"
    words = f"{failure_message} for {subject}: it stands as sla_miss_callback, which names no run. Use it as {place}"
    _log_event("suppressed", logging.ERROR, words, context)


def _log_failure(error: BaseException, context: Any, failure_message: str, failure_outcome: str) -> None:
    """Say in one line what kept incident.io from being asked at all."""
    try:
        _log_reason(error, context, failure_message, failure_outcome)
    except (Exception, SystemExit) as broken:  # noqa: BLE001 -- what says so may be what is broken
        # Nothing can be redacted now, so no error's text is shown.
        log.error("incident.io: %s: %s, then %s", failure_message, type(error).__name__, type(broken).__name__)  # noqa: TRY400


def _log_reason(error: BaseException, context: Any, failure_message: str, failure_outcome: str) -> None:
    from airflow_incident.airflow_bridge.context import ids
    from airflow_incident.core.text import safe_str
    from airflow_incident.errors import IncidentIoError, MissingConnectionError

    dag_id, run_id = ids(context)
    subject = f"DAG {dag_id or '(unknown)'}, run {run_id or '(unknown)'}"
    why = f"{type(error).__name__}: {safe_str(error)}"
    if isinstance(error, IncidentIoError):
        why = f"{error}. {error.advice}"
    missing = isinstance(error, MissingConnectionError)
    outcome, level = ("suppressed", logging.WARNING) if missing else (failure_outcome, logging.ERROR)
    _log_event(outcome, level, f"{failure_message} for {subject}: {why}", context, error=type(error).__name__)


def _log_event(outcome: str, level: int, words: str, context: Any, **facts: Any) -> None:
    """Tell an outcome that incident.io had no part in."""
    from airflow_incident.airflow_bridge.context import ids
    from airflow_incident.airflow_bridge.stats import log_event

    dag_id, run_id = ids(context)
    _emit([log_event(outcome, level, words, _clean, dag_id=dag_id, run_id=run_id, **facts)])


def _clean(text: str) -> str:
    """Redact what Airflow knows as a secret, and what looks like one."""
    from airflow_incident.airflow_bridge.compat import redact
    from airflow_incident.core.redaction import redact_secrets

    return redact_secrets(str(redact(text)))
