"""A report of any size is read within its bounds: all cases counted, those that failed kept."""

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.junit import InvalidReport, Report, parse_report, read_report
from adapters.junit import report as limits


def suite(*parts: str) -> bytes:
    return f"<testsuite name='s'>{''.join(parts)}</testsuite>".encode()


def case(name: object, inner: str = "") -> str:
    return f'<testcase name="{name}">{inner}</testcase>'


def names(report: Report) -> list[str]:
    return [each.name for each in report.cases]


@pytest.fixture
def few_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CASES_MAX", 3)


@pytest.mark.usefixtures("few_cases")
def test_all_cases_are_counted_and_those_that_failed_are_kept_first() -> None:
    good = [case(number) for number in range(10)]
    bad = [case("bad", "<failure/>"), case("late", "<error/>")]
    report = parse_report(suite(*good[:5], bad[0], *good[5:], bad[1]), name="r.xml")
    assert report.totals == {"passed": 10, "failed": 1, "error": 1}
    assert names(report) == ["0", "bad", "late"], "in their order"
    report = parse_report(suite(*good[:2], *(bad * 4)), name="r.xml")
    assert report.totals == {"passed": 2, "failed": 4, "error": 4}
    assert names(report) == ["bad", "late", "bad"]


@pytest.mark.usefixtures("few_cases")
def test_a_flaky_case_is_kept_before_those_that_passed() -> None:
    good = [case(number) for number in range(10)]
    report = parse_report(suite(*good, case("flaky", "<flakyFailure/>")), name="r.xml")
    assert names(report) == ["0", "1", "flaky"]


def test_more_cases_than_are_kept() -> None:
    good = [case(number) for number in range(limits.CASES_MAX + 1)]
    report = parse_report(suite(*good, case("last", "<failure message='m'/>")), name="r.xml")
    assert report.totals == {"passed": limits.CASES_MAX + 1, "failed": 1}
    assert len(report.cases) == limits.CASES_MAX
    assert (report.cases[-1].name, report.cases[-1].status) == ("last", "failed")


def test_texts_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.junit.kept.TEXTS_CHARS_MAX", 5_000)
    bad = [case(n, f"<failure message='{'m' * 500}'>{'d' * 3000}</failure>") for n in range(3)]
    first, second, third = parse_report(suite(*bad), name="r.xml").cases
    assert len(first.details) == 3000
    assert (second.details, third.details) == ("", "")
    assert second.message.endswith("[cut]")
    assert len(second.message) == 200


def test_output_between_the_cases_is_passed_over() -> None:
    output = f"<system-out>{'y' * (40 << 20)}</system-out>"
    report = parse_report(suite(case("a", "<failure message='m'>x</failure>"), output), name="r")
    assert report.totals == {"failed": 1}


def test_a_report_that_is_cut_off_says_what_it_said_before() -> None:
    data = suite(case("a", "<failure/>"), case("b"), case("c"))[:-30]
    with pytest.raises(InvalidReport, match=r"r\.xml is broken: .*line 1") as caught:
        parse_report(data, name="r.xml")
    assert caught.value.code == "not_xml"
    assert caught.value.read.totals == {"failed": 1, "passed": 1}
    assert names(caught.value.read) == ["a", "b"]


@pytest.mark.parametrize(
    ("limit", "value", "data", "code"),
    [
        ("FILE_BYTES_MAX", 99, suite(case("a" * 99)), "too_big"),
        ("ELEMENTS_MAX", 3, suite(case("a"), case("b"), case("c")), "too_many_elements"),
        ("ELEMENTS_MAX", 3, suite("<a/>" * 3), "too_many_elements"),
        ("TAG_BYTES_MAX", 99, b"<testsuite><testcase name='" + b"a" * 200_000, "too_big"),
        ("TAG_ATTRIBUTES_MAX", 9, b"<testsuite><testcase " + b"a='' " * 50_000, "too_big"),
        ("DEPTH_MAX", 3, b"<testsuite>" * 5, "too_deep"),
        ("DEPTH_MAX", 3, suite(case("a", "<failure><a><b><c><d>")), "too_deep"),
    ],
)
def test_over_a_limit_a_report_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, value: int, data: bytes, code: str
) -> None:
    monkeypatch.setattr(limits, limit, value)
    with pytest.raises(InvalidReport) as caught:
        parse_report(data, name="r.xml")
    assert caught.value.code == code


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "big.xml"
    with file.open("wb") as sparse:
        sparse.truncate(limits.FILE_BYTES_MAX + 1)
    with pytest.raises(InvalidReport, match=r"big\.xml is \d+ bytes") as caught:
        read_report(file)
    assert caught.value.code == "too_big"


def test_names_do_not_grow_with_the_depth_of_suites() -> None:
    deep = f"<testsuite name='{'n' * 3000}'>" * 90 + case("a") + "</testsuite>" * 90
    (only,) = parse_report(deep.encode(), name="r.xml").cases
    assert only.suite.endswith("[cut]")
    assert len(only.suite) == limits.NAME_CHARS_MAX


def test_a_long_message_in_an_attribute_is_no_flood_of_attributes() -> None:
    message = "a == 'b'; x=&quot;y&quot; &#10;" * 40_000
    for bad in (case("a", f'<failure message="{message}"/>'), case("b", "<failure x='1'/>" * 99)):
        assert parse_report(suite(bad), name="r.xml").totals == {"failed": 1}


@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    *(b"<testsuite name='s'>", b"</testsuite>", b"<testcase name='a'>", b"<a/>"),
                    *(
                        b"</testcase>",
                        b"<failure message='m'>",
                        b"</failure>",
                        b"<![CDATA[",
                        b"]]>",
                    ),
                    *(b"<!--", b"-->", b"&#0;", b"&#x1B;", b"&#99999999999;", b"&nbsp;", b"\0"),
                    *(b"\xff\xfe", b"\xfe\xff", b"<\0t\0", b"<?xml version='1.0' encoding='gbk'?>"),
                    *(b"<message>", b"</message>", b"<system-out>", b"</system-out>", b"<?pi?>"),
                    *(b"<properties><property name='go.version'/></properties>", b"<!DOCTYPE a>"),
                ]
            ),
        ),
        max_size=30,
    )
)
def test_any_bytes_are_a_report_or_refused(pieces: list[bytes]) -> None:
    for data in (b"".join(pieces), b"<testsuite>" + b"".join(pieces) + b"</testsuite>"):
        try:
            report = parse_report(data, name="r.xml")
        except InvalidReport as error:
            report = error.read
        assert sum(report.totals.values()) >= len(report.cases)
        assert all(number > 0 for number in report.totals.values())


GROWTH = """
import resource
from pathlib import Path
from sys import argv

from adapters.junit import InvalidReport, read_report

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_report(Path(argv[1]))
except InvalidReport:
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(
    "inner",
    [
        "<a/>" * (1 << 20),
        f"<system-out>{'y' * (32 << 20)}</system-out>",
        '<testcase name="a"><failure>' + "x\n" * (8 << 20) + "</failure></testcase>",
        "<testcase name='a' " + " ".join(f"a{n}='1'" for n in range(2_000_000)) + "/>",
    ],
    ids=["elements", "output", "details", "attributes"],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, inner: str) -> None:
    """A reader that built a tree took 90 to 300 MB for each of these."""
    pytest.importorskip("resource")
    file = tmp_path / "r.xml"
    file.write_bytes(suite(inner))
    command = [sys.executable, "-c", GROWTH, str(file)]
    grown_kb = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kb < 40_000
