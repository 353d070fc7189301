"""Reads JUnit XML as a stream: nothing is held but the case at hand and the cases that are kept.

DTDs are refused, and with them entities; so is a file over a limit. What tools get wrong in the
text is put right before the parser sees it (`text.py`), what their elements mean is in
`dialects.py`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NoReturn
from xml.parsers import expat

from adapters.junit import report as limits
from adapters.junit.dialects import (
    Outcome,
    OutcomeKind,
    Said,
    broken_suite,
    case_of,
    outcome,
    said_of,
    suite_path,
    trimmed,
)
from adapters.junit.kept import Kept, Runs
from adapters.junit.report import DETAILS_CHARS_MAX, MESSAGE_CHARS_MAX, InvalidReport, Report
from adapters.junit.text import utf8_chunks

CHUNK_BYTES = 64 * 1024
_ROOTS = frozenset({"testsuites", "testsuite", "testrun"})
_OUTCOMES: Mapping[str, OutcomeKind] = {
    "error": "error",
    "failure": "failure",
    "skipped": "skipped",
    "flakyError": "flaky",
    "flakyFailure": "flaky",
    "rerunError": "rerun",
    "rerunFailure": "rerun",
}
_OUTPUTS = frozenset({"system-out", "system-err"})
_MEANT = frozenset({"testcase", "properties", *_ROOTS, *_OUTCOMES})
"""What may stand in a suite and means something there."""
_BLANK = " \t\r\n\ufeff\N{REPLACEMENT CHARACTER}"
"""What may follow the document: the text's cleaner makes replacement characters of NULs."""


def read_report(path: Path) -> Report:
    """Return the report in a file. Raises `InvalidReport`, naming the file."""
    return read_opened(lambda: path.open("rb"), name=path.name)


def read_opened(opener: Callable[[], BinaryIO], *, name: str) -> Report:
    """Return the report in the file that `opener` opens; `name` is for the errors.

    Raises `InvalidReport`.
    """
    try:
        with opener() as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.FILE_BYTES_MAX:
                raise limits.too_big(name, size)
            return _read(iter(lambda: file.read(CHUNK_BYTES), b""), name)
    except OSError as error:
        reason = f"{name} cannot be read: {error.strerror or error}"
        raise InvalidReport(reason, code="unreadable") from error


def parse_report(data: bytes, *, name: str) -> Report:
    """Return the report in `data`; `name` is for the errors. Raises `InvalidReport`."""
    if len(data) > limits.FILE_BYTES_MAX:
        raise limits.too_big(name, len(data))
    starts = range(0, len(data), CHUNK_BYTES)
    return _read((data[start : start + CHUNK_BYTES] for start in starts), name)


def _read(chunks: Iterable[bytes], name: str) -> Report:
    kept = Kept(limits.CASES_MAX)
    reader = _Reader(name, kept)
    try:
        for chunk in utf8_chunks(_bounded(chunks, name)):
            reader.feed(chunk)
        reader.close()
    except InvalidReport as error:
        error.read = kept.report()
        raise
    return kept.report()


def _bounded(chunks: Iterable[bytes], name: str) -> Iterator[bytes]:
    """Yield the chunks of a file that may grow while it is read."""
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > limits.FILE_BYTES_MAX:
            raise limits.too_big(name, size)
        yield chunk


class _Text:
    """Text of an element and of those in it, up to a limit."""

    __slots__ = ("_parts", "_room")

    def __init__(self, chars_max: int) -> None:
        self._parts: list[str] = []
        self._room = chars_max

    def add(self, text: str) -> None:
        if self._room > 0:
            self._parts.append(text[: self._room])
            self._room -= len(text)

    def __str__(self) -> str:
        return "".join(self._parts)


class _Suite:
    """A suite, or the document, that is being read; `said` is what it says of itself."""

    def __init__(
        self, attributes: Mapping[str, str], *, path: str = "", parent: str = "", named: bool
    ) -> None:
        self.name: str = trimmed(attributes).get("name", "") if named else parent
        self.said = Said(suite=suite_path(path, parent, attributes) if named else path)
        self.attributes = trimmed(attributes)
        self.runs = Runs()
        self.has_bad = False
        """True if anything in it failed, whatever that led to."""


class _Reader:
    """What the parser calls. Each open element that means something is a frame on a stack.

    A frame is a suite, what is said of a case, an outcome of it, or a text in one of these. An
    element that means nothing where it stands is passed over with all that is in it.
    """

    def __init__(self, name: str, kept: Kept) -> None:
        self._name = name
        self._kept = kept
        self._frames: list[_Suite | Said | Outcome | _Text | None] = []
        self._texts: list[_Text | None] = []
        """Beside each frame: where text in it belongs."""
        self._listener: _Text | None = None
        self._passed_over = 0
        self._elements = 0
        self._fed_bytes = 0
        self._tag_attributes = 0
        self._is_in_suite = False
        """True if the innermost frame is a suite, where a flood of elements is passed over fast."""
        self._is_pytest = False
        self._is_over = False
        """True once the document is closed."""
        self._is_past_end = False
        """True once something follows it that is no XML: nothing more is parsed then."""
        self._parser = parser = expat.ParserCreate("utf-8")
        parser.buffer_text = True
        parser.buffer_size = CHUNK_BYTES
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.ExternalEntityRefHandler = self._refuse

    def feed(self, chunk: bytes) -> None:
        """Read on. Raises `InvalidReport`."""
        if self._is_past_end:
            self._check_blank(chunk)
            return
        try:
            self._parser.Parse(chunk, False)
        except expat.ExpatError as error:
            if not self._is_over:
                raise self._not_xml(error) from error
            self._is_past_end = True
            self._check_blank(chunk[self._parser.ErrorByteIndex - self._fed_bytes :])
        self._fed_bytes += len(chunk)
        if self._elements > limits.ELEMENTS_MAX:
            reason = f"{self._name} has over {limits.ELEMENTS_MAX} elements: split the run"
            raise InvalidReport(reason, code="too_many_elements")
        self._check_tag(chunk)

    def _check_tag(self, chunk: bytes) -> None:
        """Refuse a tag while it is incomplete: the parser holds all of it until it ends.

        Its length bounds the memory, and the number of its attributes how long nobody else works
        while the parser makes something of them. That number is not known yet, so what looks like
        the begin of one is counted.
        """
        held_bytes = self._fed_bytes - self._parser.CurrentByteIndex
        if held_bytes <= len(chunk):
            self._tag_attributes = 0
            return
        self._tag_attributes += chunk.count(b'="') + chunk.count(b"='")
        if held_bytes > limits.TAG_BYTES_MAX:
            reason = f"{self._name} has a tag of over {limits.TAG_BYTES_MAX} bytes"
        elif self._tag_attributes > limits.TAG_ATTRIBUTES_MAX:
            reason = f"{self._name} has a tag of over {limits.TAG_ATTRIBUTES_MAX} attributes"
        else:
            return
        raise InvalidReport(f"{reason}: write less into attributes", code="too_big")

    def close(self) -> None:
        """Make sure that the document is whole. Raises `InvalidReport`."""
        if not self._is_past_end:
            try:
                self._parser.Parse(b"", True)
            except expat.ExpatError as error:
                raise self._not_xml(error) from error

    def _not_xml(self, error: expat.ExpatError) -> InvalidReport:
        reason = f"{self._name} is not XML: {error}"
        if self._frames:
            reason = f"{self._name} is broken: {error}"
        return InvalidReport(reason, code="not_xml")

    def _check_blank(self, rest: bytes) -> None:
        if rest.decode(errors="replace").strip(_BLANK):
            reason = f"{self._name} is not XML: something follows the end of the document"
            raise InvalidReport(reason, code="not_xml")

    def _refuse(self, *_: object) -> NoReturn:
        raise InvalidReport(
            f"{self._name} declares a DTD or entities, which a JUnit report never needs: refused",
            code="forbidden_xml",
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._passed_over:
            self._passed_over += 1
            if self._passed_over + len(self._frames) > limits.DEPTH_MAX:
                self._too_deep()
            return
        if tag not in _MEANT and self._is_in_suite and ":" not in tag:
            self._passed_over = 1
            return
        if ":" in tag:
            tag = tag.rpartition(":")[2]
        if not self._frames:
            self._begin(tag, attributes)
            return
        if len(self._frames) > limits.DEPTH_MAX:
            self._too_deep()
        match self._frames[-1]:
            case _Suite() as suite:
                self._in_suite(suite, tag, attributes)
            case Said() as case:
                self._in_case(case, tag, attributes)
            case Outcome():
                self._in_outcome(tag)
            case _:
                self._in_text(tag, attributes)

    def _begin(self, tag: str, attributes: dict[str, str]) -> None:
        if tag not in _ROOTS:
            raise InvalidReport(
                f"{self._name} is not a JUnit report: its root is <{tag[:100]}>, not <testsuites> "
                "or <testsuite>; let the tool write JUnit XML",
                code="not_junit",
            )
        self._is_pytest = attributes.get("name") == "pytest tests"
        self._push_suite(None, tag, attributes)

    def _push_suite(self, parent: _Suite | None, tag: str, attributes: dict[str, str]) -> None:
        named = tag == "testsuite"
        if parent is None:
            suite = _Suite(attributes, named=named)
        else:
            path = parent.said.suite
            suite = _Suite(attributes, path=path, parent=parent.name, named=named)
        if self._is_pytest or suite.name == "pytest":
            suite.runs.rerunner = "pytest"
        self._push(suite)

    def _in_suite(self, suite: _Suite, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testcase":
            self._push(said_of(suite.said.suite, attributes))
        elif tag in _ROOTS:
            self._push_suite(suite, tag, attributes)
        elif tag in _OUTCOMES:
            self._push_outcome(suite.said, tag, attributes)
        elif tag == "properties":
            self._push(None)
        else:
            self._pass_over()

    def _in_case(self, case: Said, tag: str, attributes: dict[str, str]) -> None:
        if tag in _OUTCOMES:
            self._push_outcome(case, tag, attributes)
        elif tag in _OUTPUTS and not case.output:
            text = _Text(DETAILS_CHARS_MAX + 1)
            self._push(text, text)
        elif tag == "testcase":
            # The outer case stays open, so it must not hold what its tag held.
            case.attributes = trimmed(case.attributes)
            self._push(said_of(case.suite, attributes))
        else:
            self._pass_over()

    def _push_outcome(self, case: Said, tag: str, attributes: dict[str, str]) -> None:
        found = outcome(_OUTCOMES[tag], attributes)
        case.add(found)
        self._push(found, _Text(DETAILS_CHARS_MAX + 1))

    def _in_outcome(self, tag: str) -> None:
        """Enter what is in a failure: its message as an element, its stack, whatever else.

        The output is passed over: nextest writes there what is in the failure too.
        """
        if tag in _OUTPUTS:
            self._pass_over()
        elif tag == "message":
            text = _Text(MESSAGE_CHARS_MAX + 1)
            self._push(text, text)
        else:
            text_ = self._texts[-1]
            self._push(text_, text_)

    def _in_text(self, tag: str, attributes: dict[str, str]) -> None:
        """Enter what is in a text or in properties; of these only Go's version says something."""
        if self._frames[-1] is not None:
            self._push(self._texts[-1], self._texts[-1])
            return
        suite = self._frames[-2]
        if tag == "property" and attributes.get("name") == "go.version":
            assert isinstance(suite, _Suite), "only a suite's properties are entered"
            suite.runs.rerunner = "go"
        self._pass_over()

    def _push(
        self, frame: _Suite | Said | Outcome | _Text | None, text: _Text | None = None
    ) -> None:
        self._frames.append(frame)
        self._texts.append(text)
        self._is_in_suite = isinstance(frame, _Suite)
        self._listen(text)

    def _pass_over(self) -> None:
        self._passed_over = 1
        self._listen(None)

    def _listen(self, text: _Text | None) -> None:
        """Give `text` what comes now; the parser hands over first what it holds for another."""
        if text is not self._listener:
            self._listener = text
            self._parser.CharacterDataHandler = None if text is None else text.add

    def _end(self, tag: str) -> None:
        if self._passed_over:
            self._passed_over -= 1
            if not self._passed_over and not self._is_in_suite:
                self._listen(self._texts[-1])
            return
        frame, text = self._frames.pop(), self._texts.pop()
        self._is_in_suite = bool(self._frames) and isinstance(self._frames[-1], _Suite)
        self._listen(self._texts[-1] if self._texts else None)
        self._is_over = not self._frames
        match frame:
            case Outcome():
                frame.text = str(text)
            case Said():
                self._end_case(frame)
            case _Suite():
                self._end_suite(frame)
            case _Text():
                self._end_text(tag.rpartition(":")[2], frame)

    def _end_text(self, tag: str, text: _Text) -> None:
        match self._frames[-1]:
            case Said() as case:
                case.output = str(text)
            case Outcome() as found if tag == "message" and not found.message:
                found.message = str(text).strip()

    def _end_case(self, said: Said) -> None:
        suite = next(each for each in reversed(self._frames) if isinstance(each, _Suite))
        if said.outcomes or said.word:
            suite.has_bad |= said.is_bad
            self._kept.risky += said.is_risky
        self._kept.add(case_of(said), suite.runs)

    def _end_suite(self, suite: _Suite) -> None:
        """Add the case that stands for a suite which says of itself that it broke."""
        case = None
        if suite.said.outcomes:
            suite.said.attributes = {"name": "(suite)"}
            suite.has_bad |= suite.said.is_bad
            case = case_of(suite.said)
        elif not suite.has_bad:
            case = broken_suite(suite.said.suite, suite.attributes)
        if case is not None:
            suite.has_bad = True
            self._kept.add(case)
        if self._frames and isinstance(parent := self._frames[-1], _Suite):
            parent.has_bad |= suite.has_bad

    def _too_deep(self) -> NoReturn:
        reason = f"{self._name} has elements nested over {limits.DEPTH_MAX} deep"
        raise InvalidReport(reason, code="too_deep")
