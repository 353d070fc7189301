"""The test cases of an attempt, from all its JUnit files. Never decides what they mean.

A large file is read beside the loop, up to the words the log uses for it: a parser that holds the
loop up would stop the heartbeats.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Self, cast

from adapters.junit import CUT_MARK, InvalidReport, Report, parse_report, read_opened
from events.shared import Case, Totals
from processors.artifacts.store import Source
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits

INLINE_BYTES_MAX = 128 * 1024
"""A smaller file is read at once: it takes less than a beat, and a simulation has no threads."""
LARGE_BYTES_MIN = 8 << 20
"""From this on reports are read in turns, two at a time: readers beside each other read no faster,
and each of them holds up the loop."""
TURN_POLL_S = 0.2
_TURNS = threading.BoundedSemaphore(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCases:
    """What was read of one report; with a fault, what stood before it."""

    report: Report
    cases: tuple[Case, ...]
    fault: InvalidReport | None = None


class Cases:
    """The cases of an attempt: kept up to a limit, counted in full, secrets masked.

    Over the limit, cases that failed go before those that passed, in whichever file they stand.
    """

    def __init__(self, limits: EvidenceLimits, masker: Masker) -> None:
        self._cases_max = limits.cases_max
        self._reports: list[Report] = []
        self._first: list[tuple[int, Case]] = []
        """Cases that failed, at least once, with their place among all."""
        self._rest: list[tuple[int, Case]] = []
        self._read = 0
        self.mask = masker

    @property
    def kept(self) -> list[Case]:
        """Those there is room for, in the order of the files."""
        room = self._cases_max - len(self._first)
        return [case for _, case in sorted((*self._first, *self._rest[:room]), key=_place)]

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(sum(report.totals.values()) for report in self._reports)

    @property
    def flaky(self) -> int:
        """How many passed after they had failed."""
        return sum(report.flaky for report in self._reports)

    @property
    def risky(self) -> int:
        """How many passed though PHPUnit finds fault with them."""
        return sum(report.risky for report in self._reports)

    @property
    def totals(self) -> Totals:
        """How they ended."""
        reports = self._reports
        return Totals(
            passed=sum(report.count("passed") for report in reports),
            failed=sum(report.count("failed") for report in reports),
            errors=sum(report.count("error") for report in reports),
            skipped=sum(report.count("skipped") for report in reports),
        )

    def add(self, read: ReadCases) -> None:
        """Count every case that was read, and keep those there is room for."""
        for number, case in enumerate(read.cases, self._read):
            has_failed = case.status in ("failed", "error")
            is_flaky = case.status == "passed" and case.message != ""
            kept = self._first if has_failed or is_flaky else self._rest
            if len(kept) < self._cases_max:
                kept.append((number, case))
        self._read += len(read.cases)
        # Only the numbers of a report are held: its cases are held above.
        report = read.report
        self._reports.append(Report(totals=report.totals, flaky=report.flaky, risky=report.risky))


class _GivenUp(Exception):
    """Raised in the thread that reads, once nobody waits for what it reads."""


class _Watched:
    """A file that is read on only as long as somebody waits for it."""

    def __init__(self, file: BinaryIO, given_up: threading.Event) -> None:
        self._file = file
        self._given_up = given_up

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def fileno(self) -> int:
        return self._file.fileno()

    def read(self, size: int = -1) -> bytes:
        if self._given_up.is_set():
            raise _GivenUp
        return self._file.read(size)


async def read_cases(source: Source, mask: Masker, *, name: str, size_bytes: int = 0) -> ReadCases:
    """Return what is in a report, as far as it can be read; secrets are masked.

    Cancelled, it leaves no thread behind that reads on for long.
    """
    if _is_small(source):
        return _read(source, mask, name)
    given_up = threading.Event()
    read = partial(_read_in_turn, source, mask, name, size_bytes, given_up)
    try:
        return await asyncio.to_thread(read)
    except asyncio.CancelledError:
        given_up.set()
        raise


def _read_in_turn(
    source: Source, mask: Masker, name: str, size_bytes: int, given_up: threading.Event
) -> ReadCases:
    with _turn(size_bytes, given_up):
        if isinstance(source, bytes):
            return _read(source, mask, name)
        opener = _opener(source) if isinstance(source, Path) else source
        return _read(lambda: cast("BinaryIO", _Watched(opener(), given_up)), mask, name)


def _opener(path: Path) -> Callable[[], BinaryIO]:
    return lambda: path.open("rb")


@contextmanager
def _turn(size_bytes: int, given_up: threading.Event) -> Iterator[None]:
    if size_bytes < LARGE_BYTES_MIN:
        yield
        return
    while not _TURNS.acquire(timeout=TURN_POLL_S):
        if given_up.is_set():
            raise _GivenUp
    try:
        yield
    finally:
        _TURNS.release()


def _read(source: Source, mask: Masker, name: str) -> ReadCases:
    fault = None
    try:
        if isinstance(source, bytes):
            report = parse_report(source, name=name)
        elif isinstance(source, Path):
            report = read_opened(_opener(source), name=name)
        else:
            report = read_opened(source, name=name)
    except InvalidReport as error:
        report, fault = error.read, error
    cases = tuple(
        Case(
            suite=mask.cut(case.suite, CUT_MARK),
            classname=mask.cut(case.classname, CUT_MARK),
            name=mask.cut(case.name, CUT_MARK),
            status=case.status,
            duration_s=case.duration_s,
            message=mask.cut(case.message, CUT_MARK),
            details=mask.cut(case.details, CUT_MARK),
        )
        for case in report.cases
    )
    return ReadCases(report=report, cases=cases, fault=fault)


def _is_small(source: Source) -> bool:
    """Return whether it is read at once; so is a file that is gone, as its reader will say."""
    if isinstance(source, bytes):
        return len(source) <= INLINE_BYTES_MAX
    if isinstance(source, Path):
        return not source.exists() or source.stat().st_size <= INLINE_BYTES_MAX
    return False  # How long it takes to open is not known either.


def _place(numbered: tuple[int, Case]) -> int:
    return numbered[0]
