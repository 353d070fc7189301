"""JUnit XML out of the cases of an attempt. Pure."""

import re
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

from projections.rows import AttemptRow, CaseRow, ExecutionRow

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""
_ELEMENT_OF = {"failed": "failure", "error": "error", "skipped": "skipped"}


def junit_xml(row: ExecutionRow, attempt: int | None, cases: Sequence[CaseRow]) -> bytes:
    """Return the document; suites stand in the order their first case was recorded."""
    root = Element("testsuites", {"name": row.id, **_counts(cases)})
    suites: dict[str, list[CaseRow]] = {}
    for case in cases:
        suites.setdefault(case.suite, []).append(case)
    made = next((each for each in row.attempts if each.number == attempt), None)
    for name, members in suites.items():
        suite = SubElement(root, "testsuite", {"name": _text(name), **_counts(members)})
        if made is not None:
            _describe(suite, made)
        for case in members:
            _add(suite, case)
    document: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _describe(suite: Element, attempt: AttemptRow) -> None:
    suite.set("timestamp", attempt.started_at.strftime("%Y-%m-%dT%H:%M:%S"))
    suite.set("hostname", _text(attempt.bench))
    properties = SubElement(suite, "properties")
    for name, value in (("teo.attempt", str(attempt.number)), ("teo.worker", attempt.worker)):
        SubElement(properties, "property", {"name": name, "value": _text(value)})


def _add(suite: Element, case: CaseRow) -> None:
    element = SubElement(
        suite,
        "testcase",
        {
            "classname": _text(case.classname),
            "name": _text(case.name),
            "time": f"{case.duration_s:.3f}",
        },
    )
    kind = _ELEMENT_OF.get(case.status)
    if kind is not None:
        outcome = SubElement(element, kind, {"message": _text(case.message)})
        outcome.text = _text(case.details) or None
    elif case.message:
        # A case that passed has a message only if it failed before: as Surefire writes it.
        flaky = SubElement(element, "flakyFailure", {"message": _text(case.message)})
        SubElement(flaky, "stackTrace").text = _text(case.details) or None


def _counts(cases: Sequence[CaseRow]) -> dict[str, str]:
    def count(status: str) -> str:
        return str(sum(case.status == status for case in cases))

    return {
        "tests": str(len(cases)),
        "failures": count("failed"),
        "errors": count("error"),
        "skipped": count("skipped"),
        "time": f"{sum(case.duration_s for case in cases):.3f}",
    }


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
