"""What a sandbox can be told, and the values that are allowed.

Standard library only: the command line reads it.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Literal, get_args

Repeat = Literal["existing", "conflict", "rejected", "expires"]
REPEATS: tuple[Repeat, ...] = get_args(Repeat)

# The roles of a key that the sandbox's endpoints ask for; incident.io knows more.
ROLES = ("viewer", "incident_creator", "incident_editor", "post_incident_flow_opt_out")
DEFAULT_ROLES = ("viewer", "incident_creator", "incident_editor")

DEFAULT_KEY = "sandbox-key"
DEFAULT_PORT = 8910


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
    max_body_bytes: int = 1024 * 1024
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        """Refuse values that would silently mean something else."""
        if self.repeat not in REPEATS:
            raise ValueError(f"repeat must be one of {', '.join(REPEATS)}, not {self.repeat!r}")
        unknown = sorted(set(self.roles) - set(ROLES))
        if unknown:
            raise ValueError(f"unknown roles {', '.join(unknown)}; known: {', '.join(ROLES)}")
        if self.rate_limit < 1:
            raise ValueError("rate_limit must be at least 1 request a minute")
        if not self.api_key:
            raise ValueError("api_key must not be empty")
