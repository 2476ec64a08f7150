"""What an agent's own Deployment tells it, from its environment and its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from reembed.core import names
from reembed.core.quorum.membership import Role

_NEEDED = ("REEMBED_NAMESPACE", "REEMBED_AGENT", "REEMBED_PANEL", "REEMBED_NAMESPACES")
_STORES = "/etc/reembed/stores"

# By the names that people use: embedding-specialist for EmbeddingSpecialist.
ROLES: dict[str, Role] = {
    "".join(f"-{one.lower()}" if one.isupper() else one for one in role.value).lstrip("-"): role for role in Role
}


class SettingsError(Exception):
    """The environment does not say what an agent has to know."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`namespace` is the panel's own; `namespaces` are those whose indexes it may be asked about."""

    role: Role
    agent: str
    panel: str
    namespace: str
    namespaces: tuple[str, ...]
    pod: str = ""
    stores: Path = Path(_STORES)  # a file for each index's store: NAMESPACE.INDEX
    port: int = names.PORT

    @property
    def account(self) -> str:
        """Return the name of the agent's account, Secret, Lease and Deployment."""
        return account(self.agent)


def account(agent: str) -> str:
    return f"{names.AGENT_PREFIX}{agent}"


def from_environment(role: str, environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: one is missing, or is none.

    """
    if missing := [name for name in _NEEDED if not environment.get(name)]:
        raise SettingsError(f"{', '.join(missing)} not set: the chart sets them on the agent's Deployment")
    if role not in ROLES:
        raise SettingsError(f"no role is called {role!r}; there are {', '.join(ROLES)}")
    port = environment.get("REEMBED_PORT") or str(names.PORT)
    if not port.isdecimal():
        raise SettingsError(f"REEMBED_PORT is {port!r}, expected a number")
    return Settings(
        role=ROLES[role],
        agent=environment["REEMBED_AGENT"],
        panel=environment["REEMBED_PANEL"],
        namespace=environment["REEMBED_NAMESPACE"],
        namespaces=tuple(one for one in environment["REEMBED_NAMESPACES"].replace(",", " ").split() if one),
        pod=environment.get("REEMBED_POD", ""),
        stores=Path(environment.get("REEMBED_STORES") or _STORES),
        port=int(port),
    )
