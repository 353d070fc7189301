"""The test cases of an attempt, from all its JUnit files. Never decides what they mean.

A large file is read beside the loop: a parser that holds it up would stop the heartbeats.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from adapters.junit import FILE_BYTES_MAX, InvalidReport, Report, parse_report, read_report
from events.shared import Case, Totals
from processors.artifacts.store import Source
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits

INLINE_BYTES_MAX = 128 * 1024
"""A smaller file is read at once: it takes less than a beat, and a simulation has no threads."""
_STATUSES = ("passed", "failed", "error", "skipped")


class Cases:
    """The cases of an attempt: kept up to a limit, counted in full, secrets masked."""

    def __init__(self, limits: EvidenceLimits, masker: Masker) -> None:
        self._cases_max = limits.cases_max
        self._masker = masker
        self._counts = dict.fromkeys(_STATUSES, 0)
        self.kept: list[Case] = []

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self._counts.values())

    @property
    def totals(self) -> Totals:
        """How they ended."""
        return Totals(
            passed=self._counts["passed"],
            failed=self._counts["failed"],
            errors=self._counts["error"],
            skipped=self._counts["skipped"],
        )

    def add(self, report: Report) -> None:
        """Count every case of `report`, and keep those there is room for."""
        mask = self._masker
        for case in report.cases:
            self._counts[case.status] += 1
            if len(self.kept) < self._cases_max:
                self.kept.append(
                    Case(
                        suite=mask(case.suite),
                        classname=mask(case.classname),
                        name=mask(case.name),
                        status=case.status,
                        duration_s=case.duration_s,
                        message=mask(case.message),
                        details=mask(case.details),
                    )
                )


async def read_cases(source: Source, *, name: str) -> Report:
    """Return the report in a file; raises `InvalidReport`, and then nothing of it counts."""
    if not isinstance(source, Path | bytes):
        return await asyncio.to_thread(_read_opened, source, name)
    if isinstance(source, bytes):
        if len(source) <= INLINE_BYTES_MAX:
            return parse_report(source, name=name)
        return await asyncio.to_thread(parse_report, source, name=name)
    if _size(source) <= INLINE_BYTES_MAX:
        return read_report(source)
    return await asyncio.to_thread(read_report, source)


def _read_opened(source: Callable[[], BinaryIO], name: str) -> Report:
    try:
        with source() as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = f"{name} cannot be read: {error.strerror}"
        raise InvalidReport(reason, code="unreadable") from error
    return parse_report(data, name=name)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise InvalidReport(f"{path.name} cannot be read: {error}", code="unreadable") from error
