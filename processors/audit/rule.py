"""What a rule over the journal of one partition is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from events.message import EventMessage


class Rule(ABC):
    """One rule over one partition."""

    name: ClassVar[str]

    @abstractmethod
    def see(self, message: EventMessage) -> Iterator[str]:
        """Yield what is wrong with the next event."""

    def end(self) -> Iterator[str]:
        """Yield what is wrong once there is no more."""
        yield from ()
