"""The callbacks' doors: an incident opens on failure and closes on recovery, and Airflow is never harmed."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.notifier import BaseNotifier

from airflow_incident.core.settings import DEFAULT_CONN_ID
from airflow_incident.errors import IncidentIoError, MissingConnectionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from airflow_incident.core.failure import Failure
    from airflow_incident.core.key import Scope
    from airflow_incident.core.settings import Settings
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.budget import Meter
    from airflow_incident.delivery.recovery import Recovery
    from airflow_incident.delivery.report import Report
    from airflow_incident.delivery.steps import StoreFailed
    from airflow_incident.installation import Installation
    from airflow_incident.metrics import Told
    from airflow_incident.profile import Profile

log = logging.getLogger(__name__)


class QuietNotifier(BaseNotifier):
    """A callback that never raises: whatever goes wrong is one line in the log.

    What it is to do is read from the context, once the connection is; then it is carried out within its time.
    """

    # Airflow renders template fields in place, on an object that all runs share. We render on a copy.
    template_fields = ()

    off = ""
    """What does not happen where incidents are turned off."""
    undone: Mapping[str, str] = MappingProxyType({})
    """What did not happen when something goes wrong, by channel."""
    place = ""
    """Where it belongs in a DAG file."""
    lost = ""
    """What it counts as, when something goes wrong before incident.io or the journal is asked."""

    def __init__(self, *, conn_id: str, options: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.conn_id = conn_id
        self.options = options

    def render_template_fields(self, *_: Any, **__: Any) -> None:
        """Do nothing: there are no template fields, and Airflow's way asks the DAG for an environment first."""

    def _update_context(self, context: Any) -> Any:
        """Leave the context, which other callbacks share, as it is."""
        return context

    def notify(self, context: Any) -> None:
        """Do what this callback is for, or say in one line why not. Never raises."""
        from airflow_incident.profile import prepare_any_client, read_profile  # noqa: PLC0415 -- law 5

        began = time.monotonic()
        try:
            if (installation := self._installation(context)) is None or not self._has_work(context, installation):
                return
            prepare_any_client(installation)
            profile = read_profile(self.conn_id, installation, **self.options)
            profile.prepare_client()
            if (job := self._job(context, profile)) is not None:
                self._do(job, profile, began)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: a callback never harms Airflow
            _tell_trouble(error, context, self._undone, self.lost)

    async def async_notify(self, context: Any) -> None:
        """Do as `notify` does, in the triggerer's event loop."""
        from airflow_incident.profile import aread_profile, prepare_any_client  # noqa: PLC0415 -- law 5

        began = time.monotonic()
        try:
            if (installation := self._installation(context)) is None or not await self._ahas_work(
                context, installation
            ):
                return
            prepare_any_client(installation)
            profile = await aread_profile(self.conn_id, installation, **self.options)
            profile.prepare_client()
            if (job := self._job(context, profile)) is not None:
                await self._ado(job, profile, began)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: a callback never harms Airflow
            _tell_trouble(error, context, self._undone, self.lost)

    @property
    def _undone(self) -> str:
        channel = self.options.get("channel")
        return self.undone["alert" if channel == "alert" else "incident"]

    def _installation(self, context: Any) -> Installation | None:
        """Read airflow.cfg; None if it turns incidents off, or there is nothing to do."""
        from airflow_incident.installation import read_installation  # noqa: PLC0415 -- law 5

        if _is_sla_miss(context):
            _tell_misplaced(self._undone, self.place, context)
            return None
        installation = read_installation()
        if not self._is_needed(context, installation):
            return None
        if installation.enabled:
            return installation
        _tell_short("suppressed", logging.INFO, f"{self.off}, [incident_io] enabled is false", context)
        return None

    def _is_needed(self, context: Any, installation: Installation) -> bool:  # noqa: ARG002 -- for those that can tell
        """Tell whether there can be anything to do, before the connection is read."""
        return True

    def _has_work(self, context: Any, installation: Installation) -> bool:  # noqa: ARG002 -- as above
        """Tell whether there is anything to do, where that is cheaper to find out than to read the connection."""
        return True

    async def _ahas_work(self, context: Any, installation: Installation) -> bool:  # noqa: ARG002 -- as above
        """Do as `_has_work` does, from a coroutine."""
        return True

    def _job(self, context: Any, profile: Profile) -> Any:
        """Read what is to be done; None for nothing."""
        raise NotImplementedError

    def _do(self, job: Any, profile: Profile, began: float) -> None:
        """Do it within its time, and say what came of it."""
        raise NotImplementedError

    async def _ado(self, job: Any, profile: Profile, began: float) -> None:
        """Do as `_do` does, from a coroutine."""
        raise NotImplementedError


class IncidentNotifier(QuietNotifier):
    """Open an incident at incident.io for the failure that a context describes.

    Use it as `on_failure_callback` of a DAG, of a task or in `default_args`, alone or in a list, and in deadline
    alerts. One run has one incident, however often and from wherever this is called.

    What is not given here is taken from the connection, then from `[incident_io]` in airflow.cfg.

    :param name: Title of the incident, a Jinja template. Default: which DAG or task failed.
    :param summary: Text of the incident, a Jinja template of markdown. Default: all that Airflow tells.
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
    off = "nothing is opened"
    undone = MappingProxyType({"incident": "NO incident was opened", "alert": "NO alert was sent"})
    lost = "dropped"

    def __init__(
        self,
        *,
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
        options = {
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
        }
        super().__init__(conn_id=conn_id, options=options, **kwargs)
        self.templates = {"name": name, "summary": summary}

    def _do(self, job: Report, profile: Profile, began: float) -> None:
        with _turn(profile, began, in_processor=job.failure.in_processor) as seconds:
            outcome = _dispatch().dispatch(job, profile, seconds=seconds)
        _tell_all(outcome.told(profile.redact, time.monotonic() - began))

    async def _ado(self, job: Report, profile: Profile, began: float) -> None:
        seconds = _seconds_left(profile.installation.report_seconds, began)
        outcome = await _dispatch().adispatch(job, profile, seconds=seconds)
        _tell_all(outcome.told(profile.redact, time.monotonic() - began))

    def _job(self, context: Any, profile: Profile) -> Report | None:
        """Read the failure and write its incident; None if another attempt is coming."""
        from airflow_incident.context import read_failure  # noqa: PLC0415 -- law 5
        from airflow_incident.delivery.report import Wish, prepare  # noqa: PLC0415 -- law 5

        failure = read_failure(context, exception_detail=profile.settings.exception_detail)
        if failure.retry_coming:
            words = f"nothing is opened for task {failure.task_label}, another attempt is coming"
            _tell_short("suppressed", logging.INFO, words, context, task=failure.task_label)
            return None
        texts, notes = self._rendered(context, profile.redact)
        wish = Wish(name=texts["name"], summary=texts["summary"], notes=(*profile.notes, *notes))
        for note in profile.notes:
            log.warning("incident.io: %s", note)
        return prepare(
            profile.with_pages(failure),
            profile.settings,
            wish,
            deployment=profile.deployment,
            redact=profile.redact,
        )

    def _rendered(self, context: Any, redact: Redact) -> tuple[dict[str, str | None], list[str]]:
        """Render the templates; one that is broken gives way to the default text, which says so."""
        from airflow_incident.context import readable, render  # noqa: PLC0415 -- law 5
        from airflow_incident.core.text import MESSAGE_LENGTH, log_line, shorten  # noqa: PLC0415 -- law 5

        texts: dict[str, str | None] = {}
        notes: list[str] = []
        for field, template in self.templates.items():
            try:
                texts[field] = None if template is None else render(str(template), context)
            except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 2: a broken template still opens an incident
                texts[field] = None
                why = shorten(log_line(redact(f"{type(error).__name__}: {readable(error)}")), MESSAGE_LENGTH)
                notes.append(f"The template of {field} could not be rendered ({why}).")
                log.warning("incident.io: %s The default text stands in.", notes[-1])
        return texts, notes


class RecoveryNotifier(QuietNotifier):
    """Close at incident.io what callbacks of a run have opened, now that the run has succeeded.

    Use it as `on_success_callback` of a DAG; of a task only together with `scope` `task` or `task_instance`. A run
    that succeeds at once costs one look in the journal. What earlier attempts of the run have opened is closed, and
    what this one has, if it got over a failure; not what a step of it opened on purpose. An incident that a person has
    taken stays open and gets a link to the run.

    What is not given here is taken from the connection, then from `[incident_io]` in airflow.cfg.

    :param channel: `incident` (default), or `alert`: resolve the alerts that the run has sent.
    :param scope: What one incident stands for, as in `IncidentNotifier`.
    :param deployment: Name of this Airflow installation in the idempotency key.
    :param resolve: `hands_off` (default) or `always`: whether to close also what a person has taken.
    :param resolved_status: Name or ID of the status to move to. Default: the account's first closed status.
    :param conn_id: Connection of type `incident_io`.
    """

    place = "on_success_callback"
    off = "nothing is closed"
    undone = MappingProxyType({"incident": "NO incident was closed", "alert": "NO alert was resolved"})
    lost = "left_open"

    def __init__(
        self,
        *,
        channel: str | None = None,
        scope: str | None = None,
        deployment: str | None = None,
        resolve: str | None = None,
        resolved_status: str | None = None,
        conn_id: str = DEFAULT_CONN_ID,
        **kwargs: Any,
    ) -> None:
        options = {
            "channel": channel,
            "scope": scope,
            "deployment": deployment,
            "resolve": resolve,
            "resolved_status": resolved_status,
        }
        super().__init__(conn_id=conn_id, options=options, **kwargs)

    def _is_needed(self, context: Any, installation: Installation) -> bool:
        """Tell whether this run may have opened something that this level closes."""
        from airflow_incident.core.key import TASK_SCOPES  # noqa: PLC0415 -- law 5

        success, settings, scope = self._read(context, installation)
        if success.level == "task" and scope not in TASK_SCOPES:
            return False
        return _may_be_earlier(success, scope) or (settings.journal and installation.enabled)

    def _has_work(self, context: Any, installation: Installation) -> bool:
        success, settings, scope = self._read(context, installation)
        if _may_be_earlier(success, scope):
            return True
        from airflow_incident.looking import look  # noqa: PLC0415 -- law 5

        named = settings.deployment or self._deployment(installation)
        return _found(context, answer=look(success, settings, named))

    async def _ahas_work(self, context: Any, installation: Installation) -> bool:
        success, settings, scope = self._read(context, installation)
        if _may_be_earlier(success, scope):
            return True
        from airflow_incident.looking import alook  # noqa: PLC0415 -- law 5

        named = settings.deployment or await self._adeployment(installation)
        return _found(context, answer=await alook(success, settings, named))

    def _read(self, context: Any, installation: Installation) -> tuple[Failure, Settings, Scope]:
        """Read what succeeded, and what is known of the settings without the connection."""
        from airflow_incident.context import read_success  # noqa: PLC0415 -- law 5
        from airflow_incident.core.key import scope_of  # noqa: PLC0415 -- law 5
        from airflow_incident.core.settings import merge  # noqa: PLC0415 -- law 5

        settings, _ = merge(arguments=self.options, connection={}, config=installation.config)
        success = read_success(context, scope=settings.scope)
        return success, settings, scope_of(success, settings.scope)

    def _deployment(self, installation: Installation) -> str:
        """Read the name that is part of each key from where only the connection may have it."""
        from airflow_incident.profile import read_profile  # noqa: PLC0415 -- law 5

        try:
            return read_profile(self.conn_id, installation, **self.options).deployment
        except IncidentIoError:  # told when there is something to close
            return installation.named

    async def _adeployment(self, installation: Installation) -> str:
        """Do as `_deployment` does, from a coroutine."""
        from airflow_incident.profile import aread_profile  # noqa: PLC0415 -- law 5

        try:
            return (await aread_profile(self.conn_id, installation, **self.options)).deployment
        except IncidentIoError:  # as above
            return installation.named

    def _job(self, context: Any, profile: Profile) -> Recovery | None:
        from airflow_incident.context import read_success  # noqa: PLC0415 -- law 5

        if not profile.settings.journal:
            words = "nothing is closed, [incident_io] journal is false, which says what was opened"
            _tell_short("suppressed", logging.INFO, words, context)
            return None
        for warning in profile.warnings:
            log.warning("incident.io: %s", warning)
        success = read_success(context, scope=profile.settings.scope)
        recovery: Recovery = _resolving().recovery_of(success, profile)
        return recovery

    def _do(self, job: Recovery, profile: Profile, began: float) -> None:
        with _turn(profile, began, in_processor=job.success.in_processor) as seconds:
            recovered = _resolving().recover_run(job, profile, seconds=seconds)
        _tell_all(recovered.told(profile.redact, job.success))

    async def _ado(self, job: Recovery, profile: Profile, began: float) -> None:
        seconds = _seconds_left(profile.installation.report_seconds, began)
        recovered = await _resolving().arecover_run(job, profile, seconds=seconds)
        _tell_all(recovered.told(profile.redact, job.success))


def _may_be_earlier(success: Failure, scope: Scope) -> bool:
    """Tell whether something may be open that this attempt of the run has not opened."""
    return scope == "dag" or success.clear_count > 0


def _found(context: Any, *, answer: bool | StoreFailed) -> bool:
    """Tell what a look in the journal has found; that nobody can tell is a line."""
    if isinstance(answer, bool):
        return answer
    _tell_short("left_open", logging.WARNING, f"the journal cannot be used: {answer.why}", context)
    return False


def open_incident(**options: Any) -> IncidentNotifier:
    """Return the callback that opens an incident; takes what `IncidentNotifier` takes.

    Parsing a DAG file with it costs next to nothing, and nothing is checked before the first failure.
    """
    return IncidentNotifier(**options)


def resolve_incident(**options: Any) -> RecoveryNotifier:
    """Return the callback that closes what a run's callbacks have opened; takes what `RecoveryNotifier` takes.

    It costs as little as `open_incident` in a DAG file, and one look in the journal when a run succeeds at once.
    """
    return RecoveryNotifier(**options)


@lru_cache(maxsize=1)
def _meter() -> Meter:
    from airflow_incident.delivery.budget import Meter  # noqa: PLC0415 -- law 5

    return Meter(time.monotonic)


@contextmanager
def _turn(profile: Profile, began: float, *, in_processor: bool) -> Iterator[float]:
    """Say how many seconds the requests have, and write down what the whole callback took."""
    longest, batch = profile.installation.report_seconds, profile.installation.batch_seconds
    if not in_processor:
        yield _seconds_left(longest, began)
        return
    share = _meter().share(longest=longest, batch=batch, written=profile.settings.journal)
    try:
        yield _seconds_left(share, began)
    finally:
        _meter().spend(time.monotonic() - began)


def _seconds_left(seconds: float, began: float) -> float:
    """Take off what reading the connection took; a request always gets its try."""
    from airflow_incident.installation import SHORTEST_REPORT  # noqa: PLC0415 -- law 5

    return max(min(seconds, SHORTEST_REPORT), seconds - (time.monotonic() - began))


def _dispatch() -> ModuleType:
    from airflow_incident import dispatch  # noqa: PLC0415 -- law 5

    return dispatch


def _resolving() -> ModuleType:
    from airflow_incident import resolving  # noqa: PLC0415 -- law 5

    return resolving


def _tell_all(lines: Iterable[Told]) -> None:
    from airflow_incident.metrics import tell  # noqa: PLC0415 -- law 5

    tell(log, lines)


def _is_sla_miss(context: Any) -> bool:
    """Tell what Airflow 2.11 says of a missed SLA, which names no run, only lines of text and rows of its database."""
    return isinstance(context, dict) and {"task_list", "blocking_task_list"} <= context.keys()


def _tell_misplaced(undone: str, place: str, context: Any) -> None:
    from airflow_incident.context import ids  # noqa: PLC0415 -- law 5

    dag_id, _ = ids(context)
    subject = f"DAG {dag_id or '(unknown)'}"
    words = f"{undone} for {subject}: it stands as sla_miss_callback, which names no run. Use it as {place}"
    _tell_short("suppressed", logging.ERROR, words, context)


def _tell_trouble(error: BaseException, context: Any, undone: str, lost: str) -> None:
    """Say in one line what kept incident.io from being asked at all."""
    try:
        _tell_why(error, context, undone, lost)
    except (Exception, SystemExit) as broken:  # noqa: BLE001 -- law 3: what says so may be what is broken
        # Nothing can be redacted now, so no error's text is shown.
        log.error("incident.io: %s: %s, then %s", undone, type(error).__name__, type(broken).__name__)  # noqa: TRY400


def _tell_why(error: BaseException, context: Any, undone: str, lost: str) -> None:
    from airflow_incident.context import ids, readable  # noqa: PLC0415 -- law 5

    dag_id, run_id = ids(context)
    subject = f"DAG {dag_id or '(unknown)'}, run {run_id or '(unknown)'}"
    why = f"{type(error).__name__}: {readable(error)}"
    if isinstance(error, IncidentIoError):
        why = f"{error}. {error.advice}"
    missing = isinstance(error, MissingConnectionError)
    outcome, level = ("suppressed", logging.WARNING) if missing else (lost, logging.ERROR)
    _tell_short(outcome, level, f"{undone} for {subject}: {why}", context, error=type(error).__name__)


def _tell_short(outcome: str, level: int, words: str, context: Any, **facts: Any) -> None:
    """Tell an outcome that incident.io had no part in."""
    from airflow.providers.common.compat.sdk import redact  # noqa: PLC0415 -- law 5

    from airflow_incident.context import ids  # noqa: PLC0415 -- law 5
    from airflow_incident.core.text import redact_secrets  # noqa: PLC0415 -- law 5
    from airflow_incident.metrics import told  # noqa: PLC0415 -- law 5

    dag_id, run_id = ids(context)

    def clean(text: str) -> str:
        return redact_secrets(str(redact(text)))

    _tell_all([told(outcome, level, words, clean, dag_id=dag_id, run_id=run_id, **facts)])
