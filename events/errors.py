"""The errors of the log and of its messages; each says whether trying again may help."""

from typing import ClassVar


class TeoError(Exception):
    """Base of every error this project raises for the world's faults."""

    code: ClassVar[str] = "error"
    retriable: ClassVar[bool] = False


class LogUnavailable(TeoError):
    """Raised when the log gave no definite answer in time: the caller must recover, then retry."""

    code = "log_unavailable"
    retriable = True


class RecordTooBig(TeoError):
    """Raised when a record is bigger than its topic takes: nothing of its commit is ever seen."""

    code = "record_too_big"


class InputsShort(LogUnavailable):
    """Raised when inputs end before what was decided of them, and another copy may have the rest.

    A broker that does not know yet that it leads no more tells an old end: so it is asked again,
    until an operator says that no copy has them.
    """

    code = "inputs_short"


class JournalBehind(LogUnavailable):
    """Raised when something that follows from facts is there, and the facts are not.

    Either the journal lost them, or a broker tells an old end of it: so it is asked again, and
    nothing is decided meanwhile.
    """

    code = "journal_behind"


class OffsetGone(LogUnavailable):
    """Raised when a topic ends before, or begins after, the offset that is to be read next."""

    code = "offset_gone"


class Fenced(TeoError):
    """Raised when a newer owner of the same transactional id has taken over."""

    code = "fenced"


class TopicMissing(LogUnavailable):
    """Raised when a topic cannot be seen: there is none, or the broker that answers knows of none.

    A broker that has just started or lost a leader answers so for a moment about topics that are
    there: so whoever lives on retries, and says what is missing.
    """

    code = "topic_missing"


class TopicRefused(TeoError):
    """Raised when a topic is such that facts or their order would be lost: see `topic_rules`."""

    code = "topic_refused"


class Undecodable(TeoError):
    """Raised when bytes are not a message this version can read."""

    code = "undecodable"


class UnknownSchema(Undecodable):
    """Raised when a record names a schema id that is not known here."""

    code = "unknown_schema"


class TooLate(TeoError):
    """Raised when a command is so old that it may have been decided and forgotten."""

    code = "too_late"


class Misplaced(TeoError):
    """Raised when an input stands in a partition that its pool does not belong to."""

    code = "misplaced"


class JournalBroken(TeoError):
    """Raised when the journal breaks its own rules (a hole in `seq`, half a decision)."""

    code = "journal_broken"


class InvalidSelector(TeoError):
    """Raised when the text of a selector cannot be parsed; it says both, and each alone."""

    code = "invalid_selector"

    def __init__(self, what: str, *, next_step: str = "") -> None:
        super().__init__(f"{what}; {next_step}" if next_step else what)
        self.what = what
        self.next_step = next_step
