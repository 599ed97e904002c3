"""What a process is: a gateway, a manager of workflows, a rebalancer, or several of these."""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import SettingsError
from gateway.settings.model import Settings

KNOWN = ("gateway", "manager", "rebalancer")
_KEY = "serve.roles"


class Roles(NamedTuple):
    gateway: bool = True
    manager: bool = True
    rebalancer: bool = True

    @property
    def names(self) -> list[str]:
        """Those that it has."""
        return [name for name, has in zip(KNOWN, self, strict=True) if has]


def roles_of(settings: Settings) -> Roles:
    """Raises SettingsError for an unknown name, and for what cannot be."""
    names = {name.strip() for name in settings.serve.roles.split(",") if name.strip()}
    unknown = sorted(names.difference(KNOWN))
    if unknown or not names:
        problem = f"{unknown[0]!r} is no role" if unknown else "names no role"
        raise SettingsError(_KEY, f"{problem}; known are {', '.join(KNOWN)}")
    roles = Roles(*(name in names for name in KNOWN))
    if not roles.gateway and is_embedded(settings):
        has = " and ".join(roles.names)
        raise SettingsError(
            _KEY,
            f"{has} without gateway on SQLite: one process holds the file, so nobody could begin a run; set "
            "workflows.store_url to a PostgreSQL that all processes reach, or give this one all roles",
        )
    return roles


def is_embedded(settings: Settings) -> bool:
    """Whether one process holds the store of workflows."""
    return not settings.workflows.store_url.startswith("postgresql")
