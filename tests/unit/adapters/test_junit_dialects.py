"""What each tool's elements and attributes mean: one small report for each way of saying it."""

import pytest

from adapters.junit import Report, TestCase, parse_report
from adapters.junit.dialects import seconds


def report(inner: str, root: str = "testsuites") -> Report:
    return parse_report(f"<{root}>{inner}</{root.split()[0]}>".encode(), name="r.xml")


def of_case(inner: str, attributes: str = "") -> TestCase:
    found = report(
        f"<testsuite name='s'><testcase name='a' {attributes}>{inner}</testcase></testsuite>"
    )
    (case,) = found.cases
    return case


def statuses(inner: str) -> list[tuple[str, str]]:
    return [(each.name, each.status) for each in report(inner).cases]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0,160", 0.16), ("0,5", 0.5), ("12,5", 12.5), ("1,2345", 1.2345), ("00,125", 0.125),
        ("1,234", 1234.0), ("12,345", 12345.0), ("1,234,567", 1234567.0), ("1,234.5", 1234.5),
        ("1.234,5", 1234.5), ("1.234.567,8", 1234567.8), ("1.234.567", 1234567.0),
        ("1 234,5", 1234.5), ("1\u00a0234.5", 1234.5), ("1'234.5", 1234.5),
        ("1\u2019234.5", 1234.5),
        ("0.25", 0.25), (".5", 0.5), (",5", 0.5), ("5.", 5.0), ("1e-3", 0.001), ("1E3", 1000.0),
        ("0.5s", 0.5), ("12ms", 0.012), ("3 sec", 3.0), (" 0.5 ", 0.5),
        ("1,23,456", 0.0), ("1:30", 0.0), ("-0,5", 0.0), ("nan", 0.0), ("9" * 400, 1e9), ("", 0.0),
    ],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


def test_a_duration_by_its_other_name() -> None:
    assert of_case("", "duration='0.5'").duration_s == 0.5


@pytest.mark.parametrize(
    ("attributes", "status"),
    [
        ("status='failed'", "failed"), ("status='FAILED'", "failed"), ("status='fail'", "failed"),
        ("result='failure'", "failed"), ("result='Timed-Out'", "failed"),
        ("success='false'", "failed"),
        ("status='error'", "error"), ("status='broken'", "error"), ("result='aborted'", "error"),
        ("status='blocked'", "error"),
        ("status='notrun'", "skipped"), ("status='Not Run'", "skipped"),
        ("status='disabled'", "skipped"), ("status='pending'", "skipped"),
        ("status='ignored'", "skipped"), ("result='inconclusive'", "skipped"),
        ("status='run' result='suppressed'", "skipped"), ("executed='false'", "skipped"),
        ("executed='False'", "skipped"), ("ignored='true'", "skipped"),
        ("skipped='true'", "skipped"),
        ("status='passed'", "passed"), ("status='run' result='completed'", "passed"),
        ("success='true' executed='true'", "passed"), ("status='whatever'", "passed"),
        ("status='skipped' result='failed'", "failed"),
    ],
)  # fmt: skip
def test_attributes_that_tell(attributes: str, status: str) -> None:
    assert of_case("", attributes).status == status


@pytest.mark.parametrize(
    ("inner", "attributes", "status"),
    [
        ("<failure/>", "status='passed'", "failed"),
        ("<failure/><error/>", "", "error"),
        ("<skipped/><failure/>", "", "failed"),
        ("<skipped/>", "status='failed'", "failed"),
        ("<skipped message='TEST_CASE tagged with !mayfail'/><failure/>", "", "skipped"),
        ("<skipped message='SKIP_RETURN_CODE=77'/>", "status='notrun'", "skipped"),
        ("<skipped message='Unable to find executable'/>", "status='notrun'", "error"),
        ("<skipped message='Unable to find executable'/>", "", "skipped"),
        ("<error type='PHPUnit\\Framework\\RiskyTestError'/>", "", "passed"),
        ("<error type='PHPUnit\\Framework\\RiskyTestError'/><failure/>", "", "error"),
        ("<error type='RuntimeException'/>", "", "error"),
        ("<warning type='PHPUnit\\Framework\\Warning'/>", "", "passed"),
        ("<system-out>FAILED</system-out>", "", "passed"),
        ("<other><failure/></other>", "", "passed"),
    ],
)
def test_the_worst_that_is_said_counts(inner: str, attributes: str, status: str) -> None:
    assert of_case(inner, attributes).status == status


def test_risky_cases_are_counted() -> None:
    found = report(
        "<testsuite><testcase name='a'><error type='PHPUnit\\Framework\\RiskyTestError'>no"
        "</error></testcase><testcase name='b'/></testsuite>"
    )
    assert (found.totals, found.risky) == ({"passed": 2}, 1)


@pytest.mark.parametrize(
    ("inner", "message", "details"),
    [
        ("<failure message='m'>d</failure>", "m", "d"),
        ("<failure>first\nsecond</failure>", "first", "first\nsecond"),
        ("<failure type='T'/>", "T", ""),
        ("<failure type='T'>first</failure>", "first", "first"),
        ("<failure>\n ---\n at: x\n</failure>", "at: x", "---\n at: x"),
        ("<failure>C::a\nwrong\n</failure>", "wrong", "C::a\nwrong"),
        (
            "<failure><message><![CDATA[expected 1]]></message><stack-trace>at X</stack-trace>"
            "</failure>",
            "expected 1",
            "at X",
        ),
        ("<failure message='m'><message>n</message>d</failure>", "m", "d"),
        ("<failure message='m'>a<b>b<c>c</c></b>d</failure>", "m", "abcd"),
        ("<failure message=''/><system-out>no device\nat all</system-out>", "no device",
         "no device\nat all"),
        ("<failure message='m'/><system-err>e</system-err>", "m", "e"),
        ("<failure message='m'>d</failure><system-out>o</system-out>", "m", "d"),
        ("<failure message='m'>d<system-out>o</system-out></failure>", "m", "d"),
        ("<failure message='1'>one</failure><failure message='2'>two</failure>", "1", "one\n\ntwo"),
        ("<failure message='1'/><failure message='2'/>", "1", "1\n\n2"),
        ("<failure message='f'>one</failure><error message='e'>two</error>", "e", "two\n\none"),
        ("<failure message='m'>same</failure><rerunFailure message='m'>same</rerunFailure>", "m",
         "same"),
        ("<failure message='m'>1st</failure><rerunFailure><stackTrace>2nd</stackTrace>"
         "</rerunFailure>", "m", "1st\n\n2nd"),
        ("<skipped message='no bus'>a.py:9</skipped>", "no bus", "a.py:9"),
        ("<system-out>said</system-out>", "", ""),
    ],
)  # fmt: skip
def test_messages_and_details(inner: str, message: str, details: str) -> None:
    case = of_case(inner, "classname='C'")
    assert (case.message, case.details) == (message, details)


def test_a_failure_after_very_many_other_outcomes_counts() -> None:
    assert of_case("<skipped/>" * 200 + "<failure message='m'/>" * 200).status == "failed"
    assert of_case("<failure/>" * 200 + "<skipped/>" * 200 + "<error/>").status == "error"


def test_each_of_many_failures_gets_its_share_of_room() -> None:
    case = of_case("".join(f"<failure>{n}{'x' * 9_000}</failure>" for n in range(4)))
    assert len(case.details) <= 8192
    assert [block[0] for block in case.details.split("\n\n")] == ["0", "1", "2", "3"]
    assert case.details.count("[cut]") == 4


@pytest.mark.parametrize("tag", ["flakyFailure", "flakyError"])
def test_a_case_that_failed_and_passed_is_flaky(tag: str) -> None:
    """As Surefire, nextest and Playwright write it."""
    case = of_case(f"<{tag} message='late' type='T'><stackTrace>at X</stackTrace></{tag}>")
    assert (case.status, case.is_flaky) == ("passed", True)
    assert (case.message, case.details) == ("failed before it passed: late", "at X")


def test_a_case_that_failed_each_time_is_not_flaky() -> None:
    case = of_case("<flakyFailure message='1'/><failure message='2'/><rerunError message='3'/>")
    assert (case.status, case.is_flaky, case.message) == ("failed", False, "2")
    assert case.details == "2\n\n1\n\n3"


GO = "<properties><property name='go.version' value='go1.26'/></properties>"
FAILED = "<testcase classname='p' name='T'><failure message='Failed'>first</failure></testcase>"
AGAIN = "<testcase classname='p' name='T'><failure message='Failed'>second</failure></testcase>"
PASSED = "<testcase classname='p' name='T'/>"
SKIPPED = "<testcase classname='p' name='T'><skipped/></testcase>"


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (FAILED + PASSED, [("passed", True, "first")]),
        (FAILED + AGAIN + PASSED, [("passed", True, "first\n\nsecond")]),
        (FAILED + AGAIN, [("failed", False, "first\n\nsecond")]),
        (FAILED + SKIPPED + PASSED, [("failed", False, "first"), ("skipped", False, ""),
                                     ("passed", False, "")]),
        (PASSED + PASSED, [("passed", False, ""), ("passed", False, "")]),
        (PASSED + FAILED, [("passed", False, ""), ("failed", False, "first")]),
        (FAILED + PASSED.replace("'p'", "'q'"), [("failed", False, "first"),
                                                 ("passed", False, "")]),
    ],
)  # fmt: skip
def test_gotestsum_lists_each_run_of_a_test(
    inner: str, expected: list[tuple[str, bool, str]]
) -> None:
    found = report(f"<testsuite name='p'>{GO}{inner}</testsuite>")
    assert [(c.status, c.is_flaky, c.details) for c in found.cases] == expected
    assert sum(found.totals.values()) == len(expected)
    assert found.flaky == sum(is_flaky for _, is_flaky, _ in expected)


def test_runs_of_one_test_stand_in_one_suite() -> None:
    """A test that fails on one interpreter and passes on another is not flaky."""
    suite = "<testsuite name='p'>{}{}</testsuite>"
    found = report(suite.format(GO, FAILED) + suite.format(GO, PASSED))
    assert found.totals == {"failed": 1, "passed": 1}


def test_two_tests_of_one_name_are_two() -> None:
    """TestNG's data providers give their cases one name: a failure among them must show."""
    found = report(f"<testsuite name='p'>{FAILED}{PASSED}</testsuite>")
    assert (found.totals, found.flaky) == ({"failed": 1, "passed": 1}, 0)


@pytest.mark.parametrize("root", ["testsuites", "testsuites name='pytest tests'"])
@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        (PASSED + PASSED + FAILED, [("failed", False)]),
        (PASSED + PASSED + PASSED, [("passed", True)]),
        (PASSED + SKIPPED, [("skipped", False)]),
        (PASSED, [("passed", False)]),
        (FAILED + FAILED.replace("failure", "error"), [("failed", False), ("error", False)]),
        (FAILED + PASSED, [("failed", False), ("passed", False)]),
    ],
)
def test_pytest_rerunfailures_leaves_an_empty_case_for_each_run(
    root: str, inner: str, expected: list[tuple[str, bool]]
) -> None:
    name = "mine" if "pytest" in root else "pytest"
    found = report(f"<testsuite name='{name}'>{inner}</testsuite>", root)
    assert [(c.status, c.is_flaky) for c in found.cases] == expected
    assert sum(found.totals.values()) == len(expected)


@pytest.mark.parametrize(
    ("inner", "suites"),
    [
        ("<testsuite name='S'><testsuite name='Can'><testsuite name='Bus'>{0}</testsuite>"
         "</testsuite><testsuite name='Power'><testsuite name='Bus'>{0}</testsuite></testsuite>"
         "</testsuite>", ["S.Can.Bus", "S.Power.Bus"]),
        ("<testsuite name='a'><testsuite name='a'>{0}</testsuite>{0}</testsuite>", ["a.a", "a"]),
        ("<testsuite name='a'><testsuite>{0}</testsuite></testsuite>", ["a"]),
        ("<testsuite name='T'><testsuite name='T::data'>{0}</testsuite></testsuite>", ["T::data"]),
        ("<testsuite name='x'><testsuite name='T'><testsuite name='T::data'>{0}</testsuite>"
         "</testsuite></testsuite>", ["x.T::data"]),
        ("<testsuite name='a'><testsuite name='ab'>{0}</testsuite></testsuite>", ["a.ab"]),
        ("<testsuite name='T' package='can'>{0}</testsuite>"
         "<testsuite name='T' package='lin'>{0}</testsuite>", ["can.T", "lin.T"]),
        ("<testsuite name='can.T' package='can'>{0}</testsuite>", ["can.T"]),
        ("<testsuites name='n'><testsuite name='a'>{0}</testsuite></testsuites>", ["a"]),
    ],
)  # fmt: skip
def test_suites_of_one_name_stay_apart(inner: str, suites: list[str]) -> None:
    found = report(inner.format("<testcase name='c'/>"))
    assert [each.suite for each in found.cases] == suites


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<testsuite><error message='set-up failed'>trace</error><testcase name='a'/></testsuite>",
         [("a", "passed"), ("(suite)", "error")]),
        ("<testsuite><failure/><testcase name='a'/></testsuite>",
         [("a", "passed"), ("(suite)", "failed")]),
        ("<testsuite><skipped/></testsuite>", [("(suite)", "skipped")]),
        ("<error/>", [("(suite)", "error")]),
        ("<testsuite errors='1' tests='0'/>", [("(suite)", "error")]),
        ("<testsuite failures='2'><testcase name='a'/></testsuite>",
         [("a", "passed"), ("(suite)", "error")]),
        ("<testsuite errors='0' failures=''><testcase name='a'/></testsuite>", [("a", "passed")]),
        ("<testsuite errors='1'><testcase name='a'><failure/></testcase></testsuite>",
         [("a", "failed")]),
        ("<testsuite failures='1'><testcase name='a'><flakyFailure/></testcase></testsuite>",
         [("a", "passed")]),
        ("<testsuite failures='1'><testcase name='a' status='failed'/></testsuite>",
         [("a", "failed")]),
        ("<testsuite failures='1'><testsuite failures='1'><testcase name='a'><failure/></testcase>"
         "</testsuite></testsuite>", [("a", "failed")]),
        ("<testsuite errors='1'><testsuite errors='1'/></testsuite>", [("(suite)", "error")]),
        ("<testcase name='out'><testcase name='in'><failure/></testcase></testcase>",
         [("in", "failed"), ("out", "passed")]),
    ],
)  # fmt: skip
def test_a_suite_that_broke_is_a_case(inner: str, expected: list[tuple[str, str]]) -> None:
    assert statuses(inner) == expected


def test_what_a_broken_suite_says() -> None:
    error, counted = report(
        "<testsuite name='s'><error message='set-up failed'>trace</error></testsuite>"
        "<testsuite name='t' errors='1' failures='0'/>"
    ).cases
    assert (error.suite, error.message, error.details) == ("s", "set-up failed", "trace")
    assert counted.message == "the suite says errors=1, failures=0, and none of its cases shows why"


def test_a_prefix_is_no_other_element() -> None:
    found = report(
        "<j:testsuite xmlns:j='urn:j'><j:testcase name='a'><j:failure message='m'/></j:testcase>"
        "<j:other/></j:testsuite>"
    )
    assert [(c.name, c.status, c.message) for c in found.cases] == [("a", "failed", "m")]


def test_names_by_their_other_names() -> None:
    case = of_case("", "class='C'")
    assert case.classname == "C"
    (case,) = report("<testsuite><testcase name=''/></testsuite>", "testrun").cases
    assert case.name == "(no name)"
