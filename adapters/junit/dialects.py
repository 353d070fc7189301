"""How each tool says what became of a case. Pure; `docs/reports.md` has the same in words."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from adapters.junit.report import (
    BAD,
    CUT_MARK,
    DETAILS_CHARS_MAX,
    MESSAGE_CHARS_MAX,
    NAME_CHARS_MAX,
    CaseStatus,
    TestCase,
)

DURATION_S_MAX = 1e9
OUTCOMES_MAX = 50
"""Failures of one case whose texts are kept."""
_PATH_CHARS_MAX = NAME_CHARS_MAX + 1
"""A path that is longer is cut where it is shown, and does not grow with the depth of suites."""
SUITE_CASE = "(suite)"
"""Name of the case that stands for a suite which says itself that it broke."""
OutcomeKind = Literal["error", "failure", "skipped", "flaky", "rerun"]
Rerunner = Literal["", "go", "pytest"]
"""Whose suites list a case once for each time it was run."""

_STATUS_OF: Mapping[OutcomeKind, CaseStatus] = {
    "error": "error",
    "failure": "failed",
    "skipped": "skipped",
}
_WORDS: Mapping[str, CaseStatus] = {
    **dict.fromkeys(("error", "errored", "broken", "crashed", "aborted", "blocked"), "error"),
    **dict.fromkeys(("fail", "failed", "failure", "timeout", "timedout"), "failed"),
    **dict.fromkeys(("notrun", "notexecuted", "disabled", "suppressed", "skip"), "skipped"),
    **dict.fromkeys(("skipped", "pending", "ignored", "todo", "inconclusive"), "skipped"),
}
"""Values of `status` and `result`, in small letters alone; any other word says nothing."""
_FLAGS: Mapping[tuple[str, str], CaseStatus] = {
    ("executed", "false"): "skipped",
    ("ignored", "true"): "skipped",
    ("skipped", "true"): "skipped",
    ("disabled", "true"): "skipped",
    ("success", "false"): "failed",
}
_TELLING = frozenset({"status", "result", *(name for name, _ in _FLAGS)})
_READ = _TELLING | {
    "name",
    "classname",
    "class",
    "package",
    "time",
    "duration",
    "errors",
    "failures",
}
_WORST_FIRST: Sequence[CaseStatus] = ("error", "failed", "skipped")
_CTEST_BROKEN = frozenset(
    (
        *("Unable to find executable", "Missing Configuration", "Required Files Missing"),
        "Fixture dependency failed",
    )
)
"""Why CTest could not run a test that it counts as failed and writes as skipped."""
_CATCH2_MAY_FAIL = "TEST_CASE tagged with !"
_PHPUNIT_RISKY = re.compile(
    r"PHPUnit\\Framework\\(?:\w*Risky\w*|OutputError|CoveredCodeNotExecutedException"
    r"|MissingCoversAnnotationException|UnintentionallyCoveredCodeError)"
)
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_NO_MESSAGES = frozenset({"---", "...", "FAILED:"})
"""First lines that say nothing: of TAP's YAML and of Catch2."""


@dataclass(slots=True)
class Outcome:
    """One `<failure>`, `<error>`, `<skipped>` or rerun of a case."""

    kind: OutcomeKind
    message: str = ""
    type: str = ""
    text: str = ""


@dataclass(slots=True)
class Said:
    """All that a report says of one case, or of a suite itself."""

    suite: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    output: str = ""
    word: CaseStatus | None = None
    """The status that attributes alone tell."""

    @property
    def name(self) -> str:
        """Its name, which some leave out."""
        return self.attributes.get("name") or "(no name)"

    @property
    def classname(self) -> str:
        """Its class, by the two names of the attribute."""
        return self.attributes.get("classname") or self.attributes.get("class") or ""

    def add(self, found: Outcome) -> None:
        """Take one more outcome; of very many, at least one of each kind."""
        kinds = {each.kind for each in self.outcomes[OUTCOMES_MAX:]} if self.outcomes else set()
        if len(self.outcomes) < OUTCOMES_MAX or found.kind not in kinds:
            self.outcomes.append(found)

    @property
    def is_bad(self) -> bool:
        """True if anything in it failed, whatever that leads to: suites count these."""
        return self.word in BAD or any(each.kind != "skipped" for each in self.outcomes)

    @property
    def is_risky(self) -> bool:
        """True if all that PHPUnit says against it is that it is risky: it passes then."""
        bad = [each for each in self.outcomes if each.kind in ("error", "failure")]
        return bool(bad) and all(_PHPUNIT_RISKY.fullmatch(each.type) for each in bad)


def said_of(suite: str, attributes: Mapping[str, str]) -> Said:
    """Return what the tag of a case says, by itself."""
    return Said(suite=suite, attributes=attributes, word=_word(attributes))


def trimmed(attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the attributes without what nobody reads: for a tag that stays open for long."""
    return {name: value[:MESSAGE_CHARS_MAX] for name, value in attributes.items() if name in _READ}


def _word(attributes: Mapping[str, str]) -> CaseStatus | None:
    """Return the worst status that attributes tell; most tools write none of them."""
    if _TELLING.isdisjoint(attributes):
        return None
    said = {name: attributes.get(name, "").strip().lower() for name in _TELLING}
    found = {_WORDS.get(re.sub(r"[^a-z]", "", said[name])) for name in ("status", "result")}
    found |= {status for (name, value), status in _FLAGS.items() if said[name] == value}
    return next((status for status in _WORST_FIRST if status in found), None)


def case_of(said: Said) -> TestCase:
    """Return the case; the worst that is said of it is its status."""
    status, is_flaky = _status(said)
    message = details = ""
    if status != "passed" or is_flaky:
        blocks = _blocks(said, status, is_flaky=is_flaky)
        details = _share(blocks) or (said.output.strip() if status in BAD else "")
        message = _message(said, status, is_flaky=is_flaky) or _first_line(details, said)
    if is_flaky:
        message = f"failed before it passed: {message}".removesuffix(": ")
    return TestCase(
        suite=cut(said.suite, NAME_CHARS_MAX),
        classname=cut(said.classname, NAME_CHARS_MAX),
        name=cut(said.name, NAME_CHARS_MAX),
        status=status,
        duration_s=seconds(said.attributes.get("time") or said.attributes.get("duration")),
        message=cut(message, MESSAGE_CHARS_MAX),
        details=details,
        is_flaky=is_flaky,
    )


def _status(said: Said) -> tuple[CaseStatus, bool]:
    """Return how a case ended, and whether it failed before it passed."""
    if not said.outcomes:
        return said.word or "passed", False
    skips = [each.message for each in said.outcomes if each.kind == "skipped"]
    if any(message.startswith(_CATCH2_MAY_FAIL) for message in skips):
        return "skipped", False
    if said.is_risky:
        return "passed", False
    found = {*(_STATUS_OF.get(each.kind) for each in said.outcomes), said.word}
    if said.attributes.get("status") == "notrun" and not _CTEST_BROKEN.isdisjoint(skips):
        return "error", False
    worst = next((status for status in _WORST_FIRST if status in found), None)
    if worst is not None:
        return worst, False
    return "passed", any(each.kind == "flaky" for each in said.outcomes)


def _blocks(said: Said, status: CaseStatus, *, is_flaky: bool) -> list[str]:
    """Return the texts of all that went wrong, what made the status first, none twice."""
    first = "flaky" if is_flaky else next((k for k, s in _STATUS_OF.items() if s == status), "")
    ordered = sorted(said.outcomes, key=lambda each: each.kind != first)
    texts = (each.text.strip() or _only(each, len(said.outcomes)) for each in ordered)
    return list(dict.fromkeys(filter(None, texts)))


def _only(outcome: Outcome, count: int) -> str:
    """Return the message as text of one of several failures: the others' stand elsewhere."""
    return outcome.message if count > 1 else ""


def _message(said: Said, status: CaseStatus, *, is_flaky: bool) -> str:
    for each in said.outcomes:
        if (each.kind == "flaky") if is_flaky else (_STATUS_OF.get(each.kind) == status):
            line = _first_line(each.text, said)
            return each.message.strip() or line or each.type
    return next((each.message for each in said.outcomes if each.message), "")


def _first_line(text: str, said: Said) -> str:
    """Return the first line that says something; PHPUnit begins with the name of the test."""
    own_name = f"{said.classname}::{said.name}"
    lines = (line.strip() for line in text[:DETAILS_CHARS_MAX].splitlines())
    return next((ln for ln in lines if ln and ln != own_name and ln not in _NO_MESSAGES), "")


def _share(blocks: Sequence[str]) -> str:
    """Return all texts as one that is not too long: each gets the same room."""
    if len(blocks) <= 1:
        return cut("".join(blocks), DETAILS_CHARS_MAX)
    room = DETAILS_CHARS_MAX // len(blocks) - len("\n\n")
    whole = "\n\n".join(blocks)
    if len(whole) > DETAILS_CHARS_MAX:
        whole = "\n\n".join(cut(block, max(room, len(CUT_MARK))) for block in blocks)
    return cut(whole, DETAILS_CHARS_MAX)


def rerun(rerunner: Rerunner, before: TestCase, now: TestCase) -> TestCase | None:
    """Return the one case that two entries of one name are; None if they are two.

    gotestsum lists each run of a test, and those that failed first. pytest-rerunfailures leaves an
    entry without a word for each run that was followed by another. Elsewhere two of a name may be
    two tests (TestNG's data providers), and a failure would be hidden.
    """
    if rerunner == "go" and before.status in BAD:
        if now.status in BAD:
            return replace(now, details=_share(list(dict.fromkeys((before.details, now.details)))))
        if now.status == "passed":
            message = cut(f"failed before it passed: {before.message}", MESSAGE_CHARS_MAX)
            return replace(now, is_flaky=True, message=message, details=before.details)
    if rerunner == "pytest" and before.status == "passed":
        if now.status != "passed":
            return now
        return replace(now, is_flaky=True, message="failed before it passed: it was run again")
    return None


def suite_path(path: str, parent: str, attributes: Mapping[str, str]) -> str:
    """Return the name of a suite by which it stands apart from others of its name."""
    name = (attributes.get("name") or "")[:NAME_CHARS_MAX]
    package = (attributes.get("package") or "")[:NAME_CHARS_MAX]
    if package and name and not name.startswith(package):
        name = f"{package}.{name}"
    if not name or not path:
        return name or path
    rest = name[len(parent) :]
    if parent and name.startswith(parent) and rest and not rest[0].isalnum():
        return f"{path.removesuffix(parent)}{name}"[:_PATH_CHARS_MAX]
    return f"{path}.{name}"[:_PATH_CHARS_MAX]


def broken_suite(suite: str, attributes: Mapping[str, str]) -> TestCase | None:
    """Return the case of a suite that counts failures while none of its cases shows one."""
    counts = {name: attributes.get(name, "") for name in ("errors", "failures")}
    if not any(text.isdecimal() and text.strip("0") for text in counts.values()):
        return None
    numbers = ", ".join(f"{name}={text[:20]}" for name, text in counts.items() if text)
    return TestCase(
        suite=cut(suite, NAME_CHARS_MAX),
        classname="",
        name=SUITE_CASE,
        status="error",
        duration_s=0.0,
        message=f"the suite says {numbers}, and none of its cases shows why",
    )


def seconds(text: str | None) -> float:
    """Return a duration; 0 for what is none.

    A comma or point is a decimal sign unless it groups thousands: the last of two kinds is, and a
    comma alone is unless exactly three digits follow each and a digit other than 0 stands before.
    """
    if text and text.replace(".", "", 1).isdecimal():
        return min(float(text[:64]), DURATION_S_MAX)
    number = re.sub(r"[\s'_\N{RIGHT SINGLE QUOTATION MARK}]", "", text or "")[:64].lower()
    scale = 1e-3 if number.endswith("ms") else 1.0
    number = number.removesuffix("ms").removesuffix("sec").removesuffix("s")
    if "," in number and "." in number:
        groups, decimal = (",", ".") if number.rindex(".") > number.rindex(",") else (".", ",")
        number = number.replace(groups, "").replace(decimal, ".")
    elif re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+", number):
        number = number.replace(",", "")
    elif number.count(".") > 1:
        number = number.replace(".", "")
    number = number.replace(",", ".")
    try:
        value = float(number or "0") * scale
    except ValueError:
        return 0.0
    return value if math.isfinite(value) and 0 <= value <= DURATION_S_MAX else 0.0


def cut(text: str, chars_max: int) -> str:
    """Return `text` without what no terminal should see, and not longer."""
    clean = _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text[: chars_max + 1])
    return clean if len(clean) <= chars_max else clean[: chars_max - len(CUT_MARK)] + CUT_MARK


def outcome(kind: OutcomeKind, attributes: Mapping[str, str]) -> Outcome:
    """Return an outcome by its tag; its texts come later."""
    return Outcome(
        kind=kind,
        message=attributes.get("message", "")[: MESSAGE_CHARS_MAX + 1],
        type=attributes.get("type", "")[:MESSAGE_CHARS_MAX],
    )
