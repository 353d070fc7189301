"""JUnit reports as the tools write them, and files that only pretend."""

from pathlib import Path

import pytest

from adapters.junit import InvalidReport, parse_report, read_report

PYTEST = b"""<?xml version="1.0" encoding="utf-8"?><testsuites name="pytest tests">
<testsuite name="pytest" errors="1" failures="1" skipped="1" tests="5" time="0.123">
<testcase classname="tests.test_uds.TestDtc" name="test_read[0x19]" time="0.012"/>
<testcase classname="tests.test_uds" name="test_bad" time="0.001">
  <failure message="AssertionError: assert 1 == 2">def test_bad():
&gt;       assert 1 == 2</failure></testcase>
<testcase classname="tests.test_uds" name="test_skip" time="0.000">
  <skipped type="pytest.skip" message="no bus">test_uds.py:9: no bus</skipped></testcase>
<testcase classname="tests.test_uds" name="test_setup" time="0.000">
  <error message="failed on setup with &quot;boom&quot;">stack</error></testcase>
<testcase classname="tests.test_uds" name="test_both" time="0.000">
  <failure message="f">1</failure><error message="e">2</error></testcase>
</testsuite></testsuites>"""

GTEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="3" failures="1" disabled="1" errors="0" time="0.002" name="AllTests">
  <testsuite name="CanBus" tests="3" failures="1" disabled="1" skipped="0" errors="0" time="0.001">
    <testcase name="Sends" file="a.cc" line="3" status="run" result="completed" time="0.001"
      timestamp="2026-01-01T00:00:00.000" classname="CanBus" />
    <testcase name="DISABLED_Slow" status="notrun" result="suppressed" time="0" classname="CanBus"/>
    <testcase name="Arbitrates" status="run" result="completed" time="0." classname="CanBus">
      <failure message="a.cc:10&#x0A;Expected equality" type=""><![CDATA[a.cc:10
Expected equality]]></failure>
    </testcase>
  </testsuite>
</testsuites>"""

CTEST = b"""<?xml version="1.0" encoding="UTF-8"?>
<testsuite name="Linux-c++" tests="3" failures="1" disabled="1" skipped="0" hostname="" time="1">
  <testcase name="unit" classname="unit" time="1,234.5" status="run"><system-out>ok</system-out>
  </testcase>
  <testcase name="flash" classname="flash" time="0.1" status="fail">
    <failure message="Exit code 8"/><system-out>flash: no device</system-out></testcase>
  <testcase name="later" classname="later" time="0" status="notrun"><skipped message="Disabled"/>
  </testcase>
</testsuite>"""

BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">
<!ENTITY lol2 "&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;&lol;">]>
<testsuite><testcase name="&lol2;"/></testsuite>"""

EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>
<testsuite><testcase name="&f;"/></testsuite>"""


def rows(data: bytes) -> list[tuple[str, str, str, str]]:
    cases = parse_report(data, name="r.xml").cases
    return [(case.suite, case.name, case.status, case.message) for case in cases]


def test_pytest() -> None:
    assert rows(PYTEST) == [
        ("pytest", "test_read[0x19]", "passed", ""),
        ("pytest", "test_bad", "failed", "AssertionError: assert 1 == 2"),
        ("pytest", "test_skip", "skipped", "no bus"),
        ("pytest", "test_setup", "error", 'failed on setup with "boom"'),
        ("pytest", "test_both", "error", "e"),
    ]
    report = parse_report(PYTEST, name="r.xml")
    counts = [report.count(status) for status in ("passed", "failed", "error", "skipped")]
    assert counts == [1, 1, 2, 1]
    bad = report.cases[1]
    assert bad.details == "def test_bad():\n>       assert 1 == 2"
    assert (bad.classname, bad.duration_s) == ("tests.test_uds", 0.001)


def test_gtest() -> None:
    assert rows(GTEST) == [
        ("CanBus", "Sends", "passed", ""),
        ("CanBus", "DISABLED_Slow", "skipped", ""),
        ("CanBus", "Arbitrates", "failed", "a.cc:10\nExpected equality"),
    ]


def test_ctest() -> None:
    assert rows(CTEST) == [
        ("Linux-c++", "unit", "passed", ""),
        ("Linux-c++", "flash", "failed", "Exit code 8"),
        ("Linux-c++", "later", "skipped", "Disabled"),
    ]
    cases = parse_report(CTEST, name="r.xml").cases
    assert [case.duration_s for case in cases] == [1234.5, 0.1, 0.0]
    assert cases[1].details == "flash: no device"


def test_nested_suites_namespaces_and_strays() -> None:
    data = b"""<testsuites xmlns="urn:x"><testsuite name="outer"><properties/><!-- c -->
      <testsuite name="inner"><testcase name="a"/></testsuite><testcase name="b"/>
      <system-out>x</system-out></testsuite><testcase/></testsuites>"""
    assert rows(data) == [
        ("outer.inner", "a", "passed", ""),
        ("outer", "b", "passed", ""),
        ("", "(no name)", "passed", ""),
    ]


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e99", "soon", ""])
def test_a_duration_that_is_none_is_zero(text: str) -> None:
    data = f'<testsuite><testcase name="a" time="{text}"/></testsuite>'.encode()
    assert parse_report(data, name="r.xml").cases[0].duration_s == 0.0


def test_long_texts_are_cut_and_say_so() -> None:
    data = f"""<testsuite name="{"s" * 9999}"><testcase name="{"n" * 9999}">
      <failure message="{"m" * 9999}">{"d" * 99999}</failure></testcase></testsuite>"""
    case = parse_report(data.encode(), name="r.xml").cases[0]
    lengths = [len(text) for text in (case.suite, case.name, case.message, case.details)]
    assert lengths == [512, 512, 1024, 8192]
    assert case.details.endswith("[cut]")


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "not_xml"),
        (b"not xml", "not_xml"),
        (b"<testsuite><testcase>", "not_xml"),
        (b"\xff\xfe\x00", "not_xml"),
        (b"<testsuite/><testsuite/>", "not_xml"),
        (b"<testsuite/>" + b" " * 70_000 + b"x", "not_xml"),
        (b"<testsuite>&nbsp;</testsuite>", "not_xml"),
        (b"<html/>", "not_junit"),
        (BOMB, "forbidden_xml"),
        (EXTERNAL, "forbidden_xml"),
        (b"<testsuite>" * 200 + b"</testsuite>" * 200, "too_deep"),
        (b"<testsuite>" + b"<a>" * 200, "too_deep"),
    ],
)
def test_what_is_no_report_is_refused_with_a_word(data: bytes, code: str) -> None:
    with pytest.raises(InvalidReport) as caught:
        parse_report(data, name="r.xml")
    assert caught.value.code == code


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_bytes(PYTEST)
    assert len(read_report(tmp_path / "r.xml").cases) == 5
    with pytest.raises(InvalidReport, match=r"none\.xml") as caught:
        read_report(tmp_path / "none.xml")
    assert caught.value.code == "unreadable"
