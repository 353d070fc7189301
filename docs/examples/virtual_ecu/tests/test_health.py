"""The fault memory and the self-test."""

import pytest
from ecu.diagnostics import SELF_TEST
from ecu.faults import CONFIRMED, LOW_VOLTAGE
from udsoncan.exceptions import NegativeResponseException
from udsoncan.services import DiagnosticSessionControl

ExtendedSession = DiagnosticSessionControl.Session.extendedDiagnosticSession


def test_low_voltage_is_remembered_until_it_is_cleared(bench):
    bench.supply(6.0)
    bench.tester.tester_present()
    bench.supply(12.6)
    stored = bench.tester.get_dtc_by_status_mask(CONFIRMED).service_data.dtcs
    assert [dtc.id for dtc in stored] == [LOW_VOLTAGE]
    assert not stored[0].status.test_failed
    bench.tester.clear_dtc(0xFFFFFF)
    assert bench.tester.get_dtc_by_status_mask(CONFIRMED).service_data.dtcs == []


def test_self_test_finds_all_parts_well(bench):
    bench.tester.change_session(ExtendedSession)
    bench.tester.start_routine(SELF_TEST)
    answer = bench.tester.get_routine_result(SELF_TEST)
    assert answer.service_data.routine_status_record == b"\x00\x00\x00"


def test_self_test_is_refused_in_the_default_session(bench):
    with pytest.raises(NegativeResponseException) as refused:
        bench.tester.start_routine(SELF_TEST)
    assert refused.value.response.code_name == "ServiceNotSupportedInActiveSession"
