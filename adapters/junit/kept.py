"""The cases of a report that are kept, within limits; all are counted.

A case that failed goes before one that passed, wherever it stands. Neither the number of cases
nor the length of their texts makes this grow beyond its limits.
"""

from collections.abc import Mapping
from dataclasses import replace

from adapters.junit.dialects import Rerunner, cut, rerun
from adapters.junit.report import (
    BAD,
    CASES_MAX,
    MESSAGE_CHARS_MAX,
    TEXTS_CHARS_MAX,
    CaseStatus,
    Report,
    TestCase,
)

_LINE_CHARS_MAX = 200


class Entry:
    """A case that is kept, and its place among all."""

    __slots__ = ("case", "number")

    def __init__(self, number: int, case: TestCase) -> None:
        self.number = number
        self.case: TestCase | None = case


class Runs:
    """The cases of one suite by name, for tools that list a case once for each run of it."""

    def __init__(self) -> None:
        self.rerunner: Rerunner = ""
        self.last: dict[tuple[str, str], Entry] = {}


class Kept:
    """Takes the cases one by one."""

    def __init__(self, cases_max: int = CASES_MAX) -> None:
        self._cases_max = cases_max
        self._totals: dict[CaseStatus, int] = {}
        self._flaky = 0
        self._number = 0
        self._texts_chars = 0
        self._first: list[Entry] = []
        """Cases that failed, at least once."""
        self._rest: list[Entry] = []
        self.risky = 0

    def add(self, case: TestCase, runs: Runs | None = None) -> None:
        """Count a case, and keep it if there is room."""
        key = (case.classname, case.name)
        before = runs.last.get(key) if runs is not None and runs.rerunner else None
        if before is not None and before.case is not None and runs is not None:
            merged = rerun(runs.rerunner, before.case, case)
            if merged is not None:
                self._count(before.case, -1)
                before.case, case = None, merged
        self._count(case, 1)
        entry = self._keep(case)
        if entry is not None and runs is not None and runs.rerunner:
            runs.last[key] = entry

    def report(self) -> Report:
        """Return what was kept, in its order."""
        first = [entry for entry in self._first if entry.case is not None]
        rest = [entry for entry in self._rest if entry.case is not None]
        first = first[: self._cases_max]
        kept = sorted(
            (*first, *rest[: self._cases_max - len(first)]), key=lambda entry: entry.number
        )
        return Report(
            cases=tuple(entry.case for entry in kept if entry.case is not None),
            totals=self.totals,
            flaky=self._flaky,
            risky=self.risky,
        )

    @property
    def totals(self) -> Mapping[CaseStatus, int]:
        """How many cases ended how."""
        return {status: number for status, number in self._totals.items() if number}

    def _count(self, case: TestCase, number: int) -> None:
        self._totals[case.status] = self._totals.get(case.status, 0) + number
        self._flaky += number if case.is_flaky else 0

    def _keep(self, case: TestCase) -> Entry | None:
        self._number += 1
        entries = self._first if case.status in BAD or case.is_flaky else self._rest
        if len(entries) >= self._cases_max:
            return None
        texts_chars = len(case.message) + len(case.details)
        if self._texts_chars + texts_chars > TEXTS_CHARS_MAX:
            case = replace(case, message=cut(case.message, _LINE_CHARS_MAX), details="")
            texts_chars = min(texts_chars, MESSAGE_CHARS_MAX)
        self._texts_chars += texts_chars
        entry = Entry(self._number, case)
        entries.append(entry)
        return entry
