"""Diagnostic sessions: entered on request, left by themselves when the tester is silent."""

import pytest
from ecu.diagnostics import ACTIVE_SESSION, DEFAULT, EXTENDED, S3_S
from udsoncan import services
from udsoncan.exceptions import NegativeResponseException

ExtendedSession = services.DiagnosticSessionControl.Session.extendedDiagnosticSession
ProgrammingSession = services.DiagnosticSessionControl.Session.programmingSession


def test_session_ends_when_the_tester_is_silent(bench):
    bench.tester.change_session(ExtendedSession)
    assert bench.read(ACTIVE_SESSION) == EXTENDED
    bench.wait(S3_S)
    assert bench.read(ACTIVE_SESSION) == DEFAULT


def test_tester_present_keeps_the_session(bench):
    bench.tester.change_session(ExtendedSession)
    for _ in range(3):
        bench.wait(S3_S - 0.5)
        bench.tester.tester_present()
    assert bench.read(ACTIVE_SESSION) == EXTENDED


def test_programming_session_is_not_offered(bench):
    with pytest.raises(NegativeResponseException) as refused:
        bench.tester.change_session(ProgrammingSession)
    assert refused.value.response.code_name == "SubFunctionNotSupported"
