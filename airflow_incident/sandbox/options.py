"""How a sandbox can be configured, and the values that are allowed.

The command line reads it: no FastAPI here.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Literal, get_args

from .catalogue import fixed_id

Repeat = Literal["existing", "conflict", "rejected", "expires"]
REPEATS: tuple[Repeat, ...] = get_args(Repeat)

# The roles of a key that the sandbox's endpoints ask for; incident.io knows more.
ROLES = ("viewer", "incident_creator", "incident_editor", "post_incident_flow_opt_out")
DEFAULT_ROLES = ("viewer", "incident_creator", "incident_editor")

DEFAULT_KEY = "sandbox-key"
DEFAULT_PORT = 8910
ALERT_SOURCE_ID = fixed_id("ASR", 1)
ALERT_SOURCE_TOKEN = "sandbox-alert-token"  # noqa: S105 - opens nothing but the sandbox


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How one sandbox behaves."""

    api_key: str = DEFAULT_KEY
    roles: tuple[str, ...] = DEFAULT_ROLES
    # What a create with a used idempotency key answers; incident.io does not document it.
    repeat: Repeat = "existing"
    # Seconds after which a key is forgotten, with `repeat="expires"`.
    expires_after: float = 60.0
    # Requests a minute: https://docs.incident.io/api-reference/introduction
    rate_limit: int = 1200
    # Whether v1 and v2 know one another's idempotency keys; nobody documents it.
    shared_keys: bool = False
    # Whether every /v1/incidents answers 404, as it will once v1 is gone.
    v1_removed: bool = False
    # Whether a create needs a severity, as some accounts demand.
    demand_severity: bool = False
    # Whether closing an incident that was accepted skips a post-incident flow, which takes a role of its own.
    post_incident_flow: bool = False
    alert_source_id: str = ALERT_SOURCE_ID
    alert_source_token: str = ALERT_SOURCE_TOKEN
    # Events a minute of one alert source: https://docs.incident.io/api-reference/introduction
    alert_rate_limit: int = 120
    max_body_bytes: int = 1024 * 1024
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        """Refuse values that would silently mean something else."""
        if self.repeat not in REPEATS:
            raise ValueError(f"repeat must be one of {', '.join(REPEATS)}, not {self.repeat!r}")
        unknown = sorted(set(self.roles) - set(ROLES))
        if unknown:
            raise ValueError(f"unknown roles {', '.join(unknown)}; known: {', '.join(ROLES)}")
        if min(self.rate_limit, self.alert_rate_limit) < 1:
            raise ValueError("rate_limit and alert_rate_limit must be at least 1 a minute")
        if not self.api_key or not self.alert_source_token:
            raise ValueError("api_key and alert_source_token must not be empty")
