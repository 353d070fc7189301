"""How a command is refused: a fact like any other, with a stable code. Pure."""

from events.commands import Command
from events.facts import CommandRejected
from events.shared import CommandMeta

OPERATOR_ROLES = frozenset({"operator", "admin"})


def reject(command: Command, code: str, reason: str, subject_id: str = "") -> CommandRejected:
    """Return the refusal of `command`; `reason` names the thing and what to do next."""
    return CommandRejected(
        command=type(command).__name__, code=code, reason=reason, subject_id=subject_id
    )


def may_change(meta: CommandMeta, owner: str) -> bool:
    """Return True if the actor owns the thing, or may act on what others own."""
    return meta.actor == owner or not OPERATOR_ROLES.isdisjoint(meta.roles)
