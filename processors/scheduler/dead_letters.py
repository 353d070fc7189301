"""Decides what operators do with dead letters. Pure.

The letters themselves are not state: who replays one puts back what it holds, under the id it had,
so a second time changes nothing. The facts keep who did it.
"""

from collections.abc import Sequence

from events.commands import DiscardDeadLetter, ReplayDeadLetter
from events.facts import DeadLetterDiscarded, DeadLetterReplayed, Event
from events.shared import CommandMeta


def settle_dead_letter(
    command: ReplayDeadLetter | DiscardDeadLetter, meta: CommandMeta
) -> Sequence[Event]:
    """Note that a dead letter is dealt with, by whom and why."""
    reason = command.reason or f"by {meta.actor}"
    if isinstance(command, ReplayDeadLetter):
        return [DeadLetterReplayed(letter_id=command.letter_id, reason=reason)]
    return [DeadLetterDiscarded(letter_id=command.letter_id, reason=reason)]
