"""JUnit XML reports, as the tools write them: read as a stream, bounded, never trusted."""

from adapters.junit.reader import parse_report, read_opened, read_report
from adapters.junit.report import CUT_MARK, CaseStatus, InvalidReport, Report, TestCase

__all__ = [
    "CUT_MARK",
    "CaseStatus",
    "InvalidReport",
    "Report",
    "TestCase",
    "parse_report",
    "read_opened",
    "read_report",
]
