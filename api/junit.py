"""JUnit XML out of the cases of an attempt, piece by piece: no document is held whole. Pure."""

import io
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from projections.rows import AttemptRow, CaseRow, ExecutionRow, SuiteRow

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped."""
_ELEMENT_OF = {"failed": "failure", "error": "error", "skipped": "skipped"}


async def junit_xml(
    row: ExecutionRow,
    attempt: int | None,
    suites: Sequence[SuiteRow],
    cases_of: Callable[[SuiteRow], AsyncIterator[Sequence[CaseRow]]],
) -> AsyncGenerator[bytes, None]:
    """Yield the document; suites stand in the order their first case was recorded."""
    out = _Writer()
    made = next((each for each in row.attempts if each.number == attempt), None)
    out.begin("testsuites", {"name": row.id, **_sum(suites)})
    for suite in suites:
        described = {"name": suite.name, **_counts(suite), **_where(made)}
        out.begin("testsuite", described)
        if made is not None:
            out.properties({"teo.attempt": str(made.number), "teo.worker": made.worker})
        async for part in cases_of(suite):
            for case in part:
                out.case(case)
            yield out.taken()
        out.end("testsuite")
    out.end("testsuites")
    yield out.taken()


class _Writer:
    """Writes elements, and gives out what was written since it was asked last."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._xml = XMLGenerator(self._buffer, "utf-8", short_empty_elements=True)
        self._xml.startDocument()

    def begin(self, name: str, attributes: Mapping[str, str]) -> None:
        found = {key: _text(value) for key, value in attributes.items()}
        self._xml.startElement(name, AttributesImpl(found))

    def end(self, name: str) -> None:
        self._xml.endElement(name)

    def properties(self, values: Mapping[str, str]) -> None:
        self.begin("properties", {})
        for name, value in values.items():
            self.begin("property", {"name": name, "value": value})
            self.end("property")
        self.end("properties")

    def case(self, case: CaseRow) -> None:
        time = f"{case.duration_s:.3f}"
        self.begin("testcase", {"classname": case.classname, "name": case.name, "time": time})
        kind = _ELEMENT_OF.get(case.status)
        if kind is not None:
            self.begin(kind, {"message": case.message})
            self._xml.characters(_text(case.details))
            self.end(kind)
        elif case.message:
            # A case that passed has a message only if it failed before: as Surefire writes it.
            self.begin("flakyFailure", {"message": case.message})
            self.begin("stackTrace", {})
            self._xml.characters(_text(case.details))
            self.end("stackTrace")
            self.end("flakyFailure")
        self.end("testcase")

    def taken(self) -> bytes:
        found = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return found


def _where(attempt: AttemptRow | None) -> dict[str, str]:
    if attempt is None:
        return {}
    timestamp = attempt.started_at.strftime("%Y-%m-%dT%H:%M:%S")
    return {"timestamp": timestamp, "hostname": attempt.bench}


def _counts(suite: SuiteRow) -> dict[str, str]:
    return {
        "tests": str(suite.tests),
        "failures": str(suite.failed),
        "errors": str(suite.errors),
        "skipped": str(suite.skipped),
        "time": f"{suite.duration_s:.3f}",
    }


def _sum(suites: Sequence[SuiteRow]) -> dict[str, str]:
    total = SuiteRow(
        name="",
        first=0,
        tests=sum(each.tests for each in suites),
        failed=sum(each.failed for each in suites),
        errors=sum(each.errors for each in suites),
        skipped=sum(each.skipped for each in suites),
        duration_s=sum(each.duration_s for each in suites),
    )
    return _counts(total)


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
