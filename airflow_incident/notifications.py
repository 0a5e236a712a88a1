"""The callbacks' doors: an incident opens on failure and closes on recovery, and Airflow is never harmed."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from types import MappingProxyType, MethodType
from typing import TYPE_CHECKING, Any, Never, TypeVar

from airflow_incident.airflow_bridge.compat import BaseNotifier
from airflow_incident.constants import DEFAULT_CONN_ID, NEVER_WEAKER
from airflow_incident.core.arguments import kinds_of, usable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from airflow_incident.airflow_bridge.airflow_cfg import Installation
    from airflow_incident.airflow_bridge.config import Profile
    from airflow_incident.airflow_bridge.stats import Told
    from airflow_incident.constants import Scope
    from airflow_incident.core.failure import Failure
    from airflow_incident.core.settings import Settings
    from airflow_incident.core.text import Redact
    from airflow_incident.delivery.budget import Meter
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

    off = ""
    """What does not happen where incidents are turned off."""
    undone: Mapping[str, str] = MappingProxyType({})
    """What did not happen when something goes wrong, by channel."""
    place = ""
    """Where it belongs in a DAG file."""
    lost = ""
    """What it counts as, when something goes wrong before incident.io or the journal is asked."""

    def __init__(
        self, contexts: tuple[Any, ...], arguments: dict[str, Any], kinds: Mapping[str, str], more: dict[str, Any]
    ) -> None:
        """Check the arguments and keep them.

        Without a context a DAG file is being parsed, whose author can be told. With one something has failed: what
        cannot be used is left out then.

        :param more: What its caller gave beside the arguments: what Airflow gives, or a mistake.
        """
        door = more.pop("_door", type(self).__name__)
        context = more.pop("context", None)
        super().__init__()
        if context is not None:
            self.context = context  # Airflow's triggerer gives it, and awaits what it has made
        kept, problems = usable(door, arguments | more, kinds)
        texts = [each for each in contexts if isinstance(each, str)]
        at_failure = context is not None or len(texts) < len(contexts)
        if at_failure and not any(isinstance(each, Mapping) for each in contexts):
            texts = []  # what Airflow 2.11 says of a missed SLA holds some
        if problems or texts:
            _refuse(door, problems, texts, at_failure=at_failure)
        self.conn_id = kept.pop("conn_id", DEFAULT_CONN_ID)
        self.options = kept

    def _be_called(self, contexts: tuple[Any, ...]) -> None:
        """Be the callback at once, where Airflow was given a name without parentheses. Never raises."""
        if not contexts:
            return
        context = next((each for each in contexts if isinstance(each, Mapping)), None)
        try:
            self(*contexts) if context is None else self(context)
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: Airflow hands over what it likes
            _tell_trouble(error, context, self._undone, self.lost)

    def render_template_fields(self, *_: Any, **__: Any) -> None:
        """Do nothing: there are no template fields, and Airflow's way asks the DAG for an environment first."""

    def _update_context(self, context: Any) -> Any:
        """Leave the context, which other callbacks share, as it is."""
        return context

    def notify(self, context: Any) -> None:
        """Do what this callback is for, or say in one line why not. Never raises."""
        from airflow_incident.airflow_bridge.airflow_cfg import LONGEST_REPORT
        from airflow_incident.airflow_bridge.channel import callback

        try:
            with callback(LONGEST_REPORT):
                self._notify(context, time.monotonic())
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: a callback never harms Airflow
            _tell_trouble(error, context, self._undone, self.lost)

    async def async_notify(self, context: Any) -> None:
        """Do as `notify` does, in the triggerer's event loop."""
        import asyncio

        from airflow_incident.airflow_bridge.airflow_cfg import LONGEST_WAIT
        from airflow_incident.airflow_bridge.channel import callback

        try:
            with callback(LONGEST_WAIT):
                async with asyncio.timeout(LONGEST_WAIT):
                    await self._anotify(context, time.monotonic())
        except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 3: a callback never harms Airflow
            _tell_trouble(error, context, self._undone, self.lost)

    def _notify(self, context: Any, began: float) -> None:
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import prepare_any_client, read_lenient_profile

        if (installation := self._installation(context)) is None:
            return
        shorten(installation.report_seconds)
        if not self._has_work(context, installation):
            return
        prepare_any_client(installation)
        profile = read_lenient_profile(self.conn_id, installation, **self.options)
        _pass_if_set_up(profile)
        profile.prepare_client()
        if (job := self._job(context, profile)) is not None:
            self._do(job, profile, began)

    async def _anotify(self, context: Any, began: float) -> None:
        from airflow_incident.airflow_bridge.channel import shorten
        from airflow_incident.airflow_bridge.config import aread_lenient_profile, prepare_any_client

        installation = self._installation(context)
        if installation is None or not await self._ahas_work(context, installation):
            return
        prepare_any_client(installation)
        profile = await aread_lenient_profile(self.conn_id, installation, **self.options)
        # Without a connection there is nothing but to wait for it, and in the triggerer nobody waits for us.
        waited = time.monotonic() - began
        shorten(waited + installation.report_seconds)
        began += waited
        _pass_if_set_up(profile)
        profile.prepare_client()
        if (job := self._job(context, profile)) is not None:
            await self._ado(job, profile, began)

    @property
    def _undone(self) -> str:
        channel = self.options.get("channel")
        return self.undone["alert" if channel == "alert" else "incident"]

    def _installation(self, context: Any) -> Installation | None:
        """Read airflow.cfg; None if it turns incidents off, or there is nothing to do."""
        from airflow_incident.airflow_bridge.airflow_cfg import read_installation

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

    Called with a context it opens the incident at once: `on_failure_callback=IncidentNotifier`, without parentheses.

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

    def _do(self, job: Report, profile: Profile, began: float) -> None:
        with _turn(profile, began, in_processor=job.failure.in_processor) as seconds:
            outcome = _dispatch().dispatch(job, profile, seconds=seconds)
        _tell_all(outcome.told(profile.redact, time.monotonic() - began))

    async def _ado(self, job: Report, profile: Profile, began: float) -> None:
        outcome = await _dispatch().adispatch(job, profile, seconds=profile.installation.report_seconds)
        _tell_all(outcome.told(profile.redact, time.monotonic() - began))

    def _job(self, context: Any, profile: Profile) -> Report | None:
        """Read the failure and write its incident; None if another attempt is coming."""
        from airflow_incident.airflow_bridge.context import read_failure
        from airflow_incident.delivery.report import Wish, prepare

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
        from airflow_incident.airflow_bridge.context import render
        from airflow_incident.core.text import MESSAGE_LENGTH, log_line, safe_str, shorten

        texts: dict[str, str | None] = {}
        notes: list[str] = []
        for field, template in self.templates.items():
            try:
                texts[field] = None if template is None else render(str(template), context)
            except (Exception, SystemExit) as error:  # noqa: BLE001 -- law 2: a broken template still opens an incident
                texts[field] = None
                why = shorten(log_line(redact(f"{type(error).__name__}: {safe_str(error)}")), MESSAGE_LENGTH)
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

    def _is_needed(self, context: Any, installation: Installation) -> bool:
        """Tell whether this run may have opened something that this level closes."""
        from airflow_incident.constants import TASK_SCOPES

        success, settings, scope = self._read(context, installation)
        if success.level == "task" and scope not in TASK_SCOPES:
            return False
        return _may_be_earlier(success, scope) or (settings.journal and installation.enabled)

    def _has_work(self, context: Any, installation: Installation) -> bool:
        success, settings, scope = self._read(context, installation)
        if _may_be_earlier(success, scope):
            return True
        from airflow_incident.delivery.looking import look

        named = settings.deployment or self._deployment(installation)
        return _found(context, answer=look(success, settings, named))

    async def _ahas_work(self, context: Any, installation: Installation) -> bool:
        success, settings, scope = self._read(context, installation)
        if _may_be_earlier(success, scope):
            return True
        from airflow_incident.delivery.looking import alook

        named = settings.deployment or await self._adeployment(installation)
        return _found(context, answer=await alook(success, settings, named))

    def _read(self, context: Any, installation: Installation) -> tuple[Failure, Settings, Scope]:
        """Read what succeeded, and what is known of the settings without the connection."""
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.core.key import scope_of
        from airflow_incident.core.settings import merge

        settings, *_ = merge(arguments=self.options, connection={}, config=installation.config)
        success = read_success(context, scope=settings.scope)
        return success, settings, scope_of(success, settings.scope)

    def _deployment(self, installation: Installation) -> str:
        """Read the name that is part of each key from where only the connection may have it."""
        from airflow_incident.airflow_bridge.config import read_lenient_profile

        return read_lenient_profile(self.conn_id, installation, **self.options).deployment

    async def _adeployment(self, installation: Installation) -> str:
        """Async version of `_deployment`."""
        from airflow_incident.airflow_bridge.config import aread_lenient_profile

        return (await aread_lenient_profile(self.conn_id, installation, **self.options)).deployment

    def _job(self, context: Any, profile: Profile) -> Recovery | None:
        from airflow_incident.airflow_bridge.context import read_success
        from airflow_incident.core.text import log_line

        if not profile.settings.journal:
            words = "nothing is closed, [incident_io] journal is false, which says what was opened"
            _tell_short("suppressed", logging.INFO, words, context)
            return None
        why = (f"{profile.unusable}. {profile.unusable.advice}",) if profile.unusable else ()
        for warning in (*profile.warnings, *why):
            log.warning("incident.io: %s", log_line(profile.redact(warning)))
        success = read_success(context, scope=profile.settings.scope)
        recovery: Recovery = _resolving().recovery_of(success, profile)
        return recovery

    def _do(self, job: Recovery, profile: Profile, began: float) -> None:
        with _turn(profile, began, in_processor=job.success.in_processor) as seconds:
            recovered = _resolving().recover_run(job, profile, seconds=seconds)
        _tell_all(recovered.told(profile.redact, job.success))

    async def _ado(self, job: Recovery, profile: Profile, began: float) -> None:  # noqa: ARG002 -- as reports do
        recovered = await _resolving().arecover_run(job, profile, seconds=profile.installation.report_seconds)
        _tell_all(recovered.told(profile.redact, job.success))


_OPENS = kinds_of(IncidentNotifier.__init__)
_RESOLVES = kinds_of(RecoveryNotifier.__init__)


def _may_be_earlier(success: Failure, scope: Scope) -> bool:
    """Tell whether something may be open that this attempt of the run has not opened."""
    return scope == "dag" or success.clear_count > 0


def _found(context: Any, *, answer: bool | StoreFailed) -> bool:
    """Tell what a look in the journal has found; that nobody can tell is a line."""
    if isinstance(answer, bool):
        return answer
    _tell_short("left_open", logging.WARNING, f"the journal cannot be used: {answer.why}", context)
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


def _made(notifier: Callable[..., N], door: str, given: dict[str, Any]) -> N:
    """Make a notifier of what a function was called with, all of it."""
    contexts, unknown = given.pop("contexts"), given.pop("unknown")
    if "context" in unknown:
        contexts = (*contexts, unknown.pop("context"))
    return notifier(*contexts, **given, **unknown | {"_door": door})


def _refuse(door: str, problems: Mapping[str, Problem], positional: list[str], *, at_failure: bool) -> None:
    """Tell what cannot be used: whoever wrote it, or at a failure, which must not be lost, whoever reads the log.

    :raises ConfigurationError: while a DAG file is parsed.
    """
    from airflow_incident.core.text import log_line
    from airflow_incident.core.wrong_arguments import error, unnamed

    unnamed_ones = [unnamed(door, each) for each in positional]
    if not at_failure:
        raise error([*problems.values(), *unnamed_ones])
    instead = {name: f"taken as {value!r}" for name, value in NEVER_WEAKER.items()}
    told = [f"{problem}; {instead.get(name, 'left out')}" for name, problem in problems.items()]
    told += [f"{problem}; left out" for problem in unnamed_ones]
    log.warning("%s", log_line(f"incident.io: {_clean('. '.join(told))}"))


_DOORS: tuple[tuple[Any, type[QuietNotifier]], ...] = (
    (open_incident, IncidentNotifier),
    (resolve_incident, RecoveryNotifier),
)
for _door, _ in _DOORS:
    # dag-factory calls what has this when it builds a DAG; what has not, it binds to its arguments until the failure.
    setattr(_door, "notify", _door)  # noqa: B010 -- mypy knows no attributes of functions


def kind_of(callback: Any) -> type[QuietNotifier] | None:
    """Return which of our callbacks this is, in whatever form Airflow was given it; None if it is somebody else's."""
    while isinstance(callback, partial):
        callback = callback.func
    if isinstance(callback, MethodType):
        callback = callback.__self__
    notifier = next((notifier for door, notifier in _DOORS if callback is door), callback)
    kind = notifier if isinstance(notifier, type) else type(notifier)
    return kind if issubclass(kind, QuietNotifier) else None


@lru_cache(maxsize=1)
def _meter() -> Meter:
    from airflow_incident.delivery.budget import Meter

    return Meter(time.monotonic)


@contextmanager
def _turn(profile: Profile, began: float, *, in_processor: bool) -> Iterator[float]:
    """Say how many seconds the requests have, and write down what the whole callback took."""
    longest, batch = profile.installation.report_seconds, profile.installation.batch_seconds
    if not in_processor:
        yield _seconds_left(longest, began)
        return
    from airflow_incident.airflow_bridge.channel import LAST_WRITE, shorten

    share = _meter().share(longest=longest, batch=batch, written=profile.settings.journal)
    shorten(max(share, time.monotonic() - began + LAST_WRITE))
    try:
        yield _seconds_left(share, began)
    finally:
        _meter().spend(time.monotonic() - began)


def _seconds_left(seconds: float, began: float) -> float:
    """Take off what reading the connection took; a request gets its try, if the callback's time allows for one."""
    from airflow_incident.airflow_bridge.airflow_cfg import SHORTEST_REPORT
    from airflow_incident.airflow_bridge.channel import LAST_WORD, left

    seconds = max(min(seconds, SHORTEST_REPORT), seconds - (time.monotonic() - began))
    remains = left(LAST_WORD)
    return seconds if remains is None else max(0.0, min(seconds, remains))


def _dispatch() -> ModuleType:
    from airflow_incident.delivery import dispatch

    return dispatch


def _resolving() -> ModuleType:
    from airflow_incident.delivery import resolving

    return resolving


def _pass_if_set_up(profile: Profile) -> None:
    """Raise where there is no connection at all, as on a laptop, and nobody has named one."""
    if profile.is_absent and profile.unusable:
        raise profile.unusable


def _tell_all(lines: Iterable[Told]) -> None:
    from airflow_incident.airflow_bridge.stats import tell

    tell(log, lines)


def _is_sla_miss(context: Any) -> bool:
    """Tell what Airflow 2.11 says of a missed SLA, which names no run, only lines of text and rows of its database."""
    return isinstance(context, dict) and {"task_list", "blocking_task_list"} <= context.keys()


def _tell_misplaced(undone: str, place: str, context: Any) -> None:
    from airflow_incident.airflow_bridge.context import ids

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
    from airflow_incident.airflow_bridge.context import ids
    from airflow_incident.core.text import safe_str
    from airflow_incident.errors import IncidentIoError, MissingConnectionError

    dag_id, run_id = ids(context)
    subject = f"DAG {dag_id or '(unknown)'}, run {run_id or '(unknown)'}"
    why = f"{type(error).__name__}: {safe_str(error)}"
    if isinstance(error, IncidentIoError):
        why = f"{error}. {error.advice}"
    missing = isinstance(error, MissingConnectionError)
    outcome, level = ("suppressed", logging.WARNING) if missing else (lost, logging.ERROR)
    _tell_short(outcome, level, f"{undone} for {subject}: {why}", context, error=type(error).__name__)


def _tell_short(outcome: str, level: int, words: str, context: Any, **facts: Any) -> None:
    """Tell an outcome that incident.io had no part in."""
    from airflow_incident.airflow_bridge.context import ids
    from airflow_incident.airflow_bridge.stats import told

    dag_id, run_id = ids(context)
    _tell_all([told(outcome, level, words, _clean, dag_id=dag_id, run_id=run_id, **facts)])


def _clean(text: str) -> str:
    """Redact what Airflow knows as a secret, and what looks like one."""
    from airflow_incident.airflow_bridge.compat import redact
    from airflow_incident.core.redaction import redact_secrets

    return redact_secrets(str(redact(text)))
