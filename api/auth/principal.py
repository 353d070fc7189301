"""Who asks and what that allows. Data and rules only; never reads a token from anywhere."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol


class Role(IntEnum):
    """What a principal may do; each role may do all that the lower ones may."""

    viewer = 1
    """Reads everything."""
    user = 2
    """Has reservations and executions of its own."""
    operator = 3
    """Changes benches, and what others own."""
    admin = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """An authenticated actor."""

    actor: str
    roles: tuple[str, ...]

    def may(self, needed: Role) -> bool:
        """Return True if one of the roles is `needed` or a higher one."""
        return any(role in Role.__members__ and Role[role] >= needed for role in self.roles)


class Authenticator(Protocol):
    """Turns a bearer token into a principal."""

    async def authenticate(self, token: str) -> Principal | None:
        """Return who `token` stands for; None if it stands for nobody."""
        ...
