"""What a report holds, and how much of one is read. Data only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FILE_BYTES_MAX = 512 << 20
ELEMENTS_MAX = 10_000_000
"""With the file's size, what bounds the time: the same on every machine, unlike seconds."""
DEPTH_MAX = 100
TAG_BYTES_MAX = 4 << 20
TAG_ATTRIBUTES_MAX = 50_000
"""The parser holds one tag with its attributes whole, and lets nobody else work over it."""
CASES_MAX = 50_000
"""How many cases are kept; all are counted."""
TEXTS_CHARS_MAX = 32 << 20
"""What messages and details take in all; those of later cases are cut to a line."""
NAME_CHARS_MAX = 512
MESSAGE_CHARS_MAX = 1024
DETAILS_CHARS_MAX = 8192
CUT_MARK = " … [cut]"
"""Stands where a text was cut."""

CaseStatus = Literal["passed", "failed", "error", "skipped"]
BAD: frozenset[CaseStatus] = frozenset({"failed", "error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCase:
    """One case of a report."""

    __test__ = False

    suite: str
    classname: str
    name: str
    status: CaseStatus
    duration_s: float
    message: str = ""
    details: str = ""
    is_flaky: bool = False
    """True if it passed after it had failed; the message then says how it failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The cases of a report in their order, and how many there were.

    Totals are counted, not taken from the file. Over the limit, cases that failed are kept before
    those that passed.
    """

    cases: tuple[TestCase, ...] = ()
    totals: Mapping[CaseStatus, int] = field(default_factory=dict)
    flaky: int = 0
    risky: int = 0
    """Cases that passed though PHPUnit finds fault with them."""

    def count(self, status: CaseStatus) -> int:
        """Return how many cases ended so."""
        return self.totals.get(status, 0)


class InvalidReport(Exception):
    """Raised when a file is not a JUnit report this system reads; `code` is a stable word.

    `read` holds the cases that stood before the fault, as in a report that was cut off.
    """

    retriable = False

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code
        self.read = Report()


def too_big(name: str, size: int) -> InvalidReport:
    """Return the error that says that a report is over `FILE_BYTES_MAX`."""
    return InvalidReport(
        f"{name} is {size} bytes, over {FILE_BYTES_MAX}: write less output into the report",
        code="too_big",
    )
