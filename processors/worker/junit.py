"""JUnit XML to cases, piece by piece. Never expands an entity, never holds a whole file.

A file is read in chunks with a breath between them, so that a large report does not stop the
worker's heartbeats.
"""

import asyncio
import io
import math
from collections.abc import Mapping
from pathlib import Path

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from events.errors import TeoError
from events.shared import Case, Totals
from processors.artifacts.files import open_regular
from processors.artifacts.store import ArtifactRefused
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits

CHUNK_BYTES = 64 * 1024
_OUTCOMES = {"failure": "failed", "error": "error", "skipped": "skipped"}
_RANK = {"passed": 0, "skipped": 1, "failed": 2, "error": 3}


class JUnitUnreadable(TeoError):
    """Raised when a file is not a JUnit report, or one over the limits."""

    code = "junit_unreadable"


class Cases:
    """The cases of an attempt, from all its reports: kept up to a limit, counted in full."""

    def __init__(self, limits: EvidenceLimits, masker: Masker) -> None:
        self._limits = limits
        self._masker = masker
        self._counts = dict.fromkeys(_RANK, 0)
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

    def add(self, case: Case) -> None:
        """Count `case`, and keep it if there is room: texts masked and cut at their limits."""
        self._counts[case.status] += 1
        if len(self.kept) >= self._limits.cases_max:
            return
        names, mask = self._limits.name_chars_max, self._masker
        self.kept.append(
            Case(
                suite=mask(case.suite)[:names],
                classname=mask(case.classname)[:names],
                name=mask(case.name)[:names],
                status=case.status,
                duration_s=case.duration_s,
                message=mask(case.message)[: self._limits.message_chars_max],
                details=mask(case.details)[: self._limits.details_chars_max],
            )
        )


async def read_junit(source: Path | bytes, limits: EvidenceLimits) -> list[Case]:
    """Return the cases of a report; raises `JUnitUnreadable`, and then nothing of it counts."""
    builder = _Builder(limits)
    parser = DefusedXMLParser(target=builder, forbid_dtd=True, forbid_external=True)
    size_bytes = 0
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else open_regular(source) as file:
            while chunk := file.read(CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > limits.junit_bytes_max:
                    raise JUnitUnreadable(f"over {limits.junit_bytes_max} bytes")
                parser.feed(chunk)
                await asyncio.sleep(0)
        parser.close()
    except ParseError as error:
        raise JUnitUnreadable(f"not XML: {error}") from error
    except DefusedXmlException as error:
        raise JUnitUnreadable(f"has a DTD or entities: {type(error).__name__}") from error
    except (OSError, LookupError, ValueError, ArtifactRefused) as error:
        raise JUnitUnreadable(str(error)) from error
    return builder.cases


class _Builder:
    """Receives the parser's calls; keeps the case that is open and the suites around it."""

    def __init__(self, limits: EvidenceLimits) -> None:
        self._details_chars_max = limits.details_chars_max
        self._message_chars_max = limits.message_chars_max
        self._suites: list[str] = []
        self._path: list[str] = []
        self._case: Mapping[str, str] | None = None
        self._status = "passed"
        self._message = ""
        self._details: list[str] = []
        self._details_chars = 0
        self.cases: list[Case] = []

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        name = tag.rpartition("}")[2]
        if not self._path and name not in ("testsuites", "testsuite"):
            raise JUnitUnreadable(f"its root is <{name[:50]}>, not <testsuites> or <testsuite>")
        self._path.append(name)
        if name == "testsuite":
            self._suites.append(attributes.get("name", ""))
        elif name == "testcase":
            self._case, self._status, self._message = attributes, "passed", ""
            self._details, self._details_chars = [], 0
        elif self._case is not None and name in _OUTCOMES:
            status = _OUTCOMES[name]
            if _RANK[status] > _RANK[self._status]:
                self._status = status
                message = attributes.get("message") or attributes.get("type") or ""
                self._message = message[: self._message_chars_max]

    def data(self, text: str) -> None:
        if (
            self._case is not None
            and self._path[-1] in _OUTCOMES
            and self._details_chars < self._details_chars_max
        ):
            self._details.append(text)
            self._details_chars += len(text)

    def end(self, tag: str) -> None:  # noqa: ARG002 - the parser's own signature.
        name = self._path.pop()
        if name == "testsuite":
            self._suites.pop()
        elif name == "testcase" and self._case is not None:
            self.cases.append(self._finished(self._case))
            self._case = None

    def close(self) -> None:
        assert not self._path

    def _finished(self, attributes: Mapping[str, str]) -> Case:
        return Case(
            suite=self._suites[-1] if self._suites else "",
            classname=attributes.get("classname", ""),
            name=attributes.get("name", ""),
            status=self._status,
            duration_s=_seconds(attributes.get("time", "")),
            message=self._message,
            details="".join(self._details).strip()[: self._details_chars_max],
        )


def _seconds(text: str) -> float:
    """Return a duration as tools write it (`1,234.5` too); 0 for what is none."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and value >= 0 else 0.0
