"""Rules about which inputs a partition was decided from, over its journal alone.

`inputs.py` compares the same with the topics of inputs.
"""

from collections.abc import Iterator

from events.message import EventMessage
from processors.audit.rule import Rule


class NoInputIsDecidedTwice(Rule):
    """One input at one place leads to one decision, also where inputs were read anew."""

    name = "no_input_is_decided_twice"

    def __init__(self) -> None:
        self._decided: set[int] = set()
        """A number for each: of millions, so that the ids themselves need not be kept."""

    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""
        meta = message.meta
        if not meta.input_topic or not meta.causation_id or meta.index:
            return
        key = hash((meta.input_topic, meta.input_offset, meta.causation_id))
        if key in self._decided:
            yield f"input {meta.causation_id} at offset {meta.input_offset} is decided twice"
        self._decided.add(key)
