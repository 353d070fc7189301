"""Reads JUnit XML as pytest, GoogleTest, CTest and their kin write it; never trusts it.

Entities, DTDs and files over a limit are refused before anything of them is expanded.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

FILE_BYTES_MAX = 32 << 20
CASES_MAX = 100_000
NAME_CHARS_MAX = 512
MESSAGE_CHARS_MAX = 1024
DETAILS_CHARS_MAX = 8192
DURATION_S_MAX = 1e9
DEPTH_MAX = 64

CaseStatus = Literal["passed", "failed", "error", "skipped"]
_CUT = " … [cut]"
_STATUSES: dict[str, CaseStatus] = {"error": "error", "failure": "failed", "skipped": "skipped"}
_NOT_RUN = frozenset({"notrun", "disabled", "skipped", "suppressed"})
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")


class InvalidReport(Exception):
    """Raised when a file is not a JUnit report this system reads; `code` is a stable word."""

    retriable = False

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The cases of a report in their order. Totals are counted, not taken from the file."""

    cases: tuple[TestCase, ...]

    def count(self, status: CaseStatus) -> int:
        """Return how many cases ended so."""
        return sum(case.status == status for case in self.cases)


def read_report(path: Path) -> Report:
    """Return the report in a file. Raises `InvalidReport`, naming the file."""
    try:
        size = path.stat().st_size
        if size > FILE_BYTES_MAX:
            raise _too_big(path.name, size)
        data = path.read_bytes()
    except OSError as error:
        raise InvalidReport(f"{path.name} cannot be read: {error}", code="unreadable") from error
    return parse_report(data, name=path.name)


def parse_report(data: bytes, *, name: str) -> Report:
    """Return the report in `data`; `name` is for the errors. Raises `InvalidReport`."""
    if len(data) > FILE_BYTES_MAX:
        raise _too_big(name, len(data))
    try:
        root = fromstring(data, forbid_dtd=True)
    except DefusedXmlException as error:
        raise InvalidReport(
            f"{name} declares a DTD or entities, which a JUnit report never needs: refused",
            code="forbidden_xml",
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        raise InvalidReport(f"{name} is not XML: {error}", code="not_xml") from error
    if _tag(root) not in {"testsuites", "testsuite"}:
        raise InvalidReport(
            f"{name} is not a JUnit report: its root is <{root.tag[:100]}>, not <testsuites> or "
            "<testsuite>",
            code="not_junit",
        )
    cases: list[TestCase] = []
    for case in _cases(root, suite="", depth=0):
        if len(cases) >= CASES_MAX:
            raise InvalidReport(
                f"{name} has over {CASES_MAX} cases: split the run", code="too_many_cases"
            )
        cases.append(case)
    return Report(cases=tuple(cases))


def _cases(element: Element, *, suite: str, depth: int) -> Iterator[TestCase]:
    if depth > DEPTH_MAX:
        raise InvalidReport(f"suites are nested over {DEPTH_MAX} deep", code="too_deep")
    tag = _tag(element)
    if tag == "testcase":
        yield _case(element, suite)
        return
    if tag == "testsuite":
        suite = element.get("name") or suite
    for child in element:
        if _tag(child) in {"testcase", "testsuite", "testsuites"}:
            yield from _cases(child, suite=suite, depth=depth + 1)


def _case(element: Element, suite: str) -> TestCase:
    status, outcome = _outcome(element)
    message = details = ""
    if outcome is not None:
        text = (outcome.text or "").strip()
        message = outcome.get("message") or outcome.get("type") or text.partition("\n")[0]
        # CTest says why in system-out only.
        details = text or _text(element, "system-out") or _text(element, "system-err")
    return TestCase(
        suite=_cut(suite, NAME_CHARS_MAX),
        classname=_cut(element.get("classname") or "", NAME_CHARS_MAX),
        name=_cut(element.get("name") or "(no name)", NAME_CHARS_MAX),
        status=status,
        duration_s=_seconds(element.get("time")),
        message=_cut(message, MESSAGE_CHARS_MAX),
        details=_cut(details, DETAILS_CHARS_MAX),
    )


def _outcome(element: Element) -> tuple[CaseStatus, Element | None]:
    """Return the worst that is said of a case, and where: an error goes before a failure.

    pytest writes a failure and an error into one case when the teardown breaks too.
    """
    children = {_tag(child): child for child in reversed(element)}
    for tag, status in _STATUSES.items():
        if (child := children.get(tag)) is not None:
            return status, child
    # GoogleTest and CTest tell by an attribute only that a case did not run.
    words = {(element.get("status") or "").lower(), (element.get("result") or "").lower()}
    if words & _NOT_RUN:
        return "skipped", None
    if "fail" in words:
        return "failed", None
    return "passed", None


def _text(element: Element, tag: str) -> str:
    found = next((child for child in element if _tag(child) == tag), None)
    return "" if found is None else (found.text or "").strip()


def _tag(element: Element) -> str:
    """Return the name without its namespace."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _seconds(text: str | None) -> float:
    """Return a duration; 0 for what is none. Some write thousands as 1,234.5."""
    try:
        seconds = float((text or "0").replace(",", ""))
    except ValueError:
        return 0.0
    return seconds if math.isfinite(seconds) and 0 <= seconds <= DURATION_S_MAX else 0.0


def _cut(text: str, chars_max: int) -> str:
    clean = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)
    return clean if len(clean) <= chars_max else clean[: chars_max - len(_CUT)] + _CUT


def _too_big(name: str, size: int) -> InvalidReport:
    return InvalidReport(
        f"{name} is {size} bytes, over {FILE_BYTES_MAX}: write less output into the report",
        code="too_big",
    )
