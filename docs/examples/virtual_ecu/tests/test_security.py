"""Who may write: only an unlocked tester, and guessing keys is made slow."""

import pytest
from ecu.diagnostics import VIN
from ecu.security import DELAY_S, TRIES_MAX
from udsoncan import services
from udsoncan.exceptions import NegativeResponseException

LEVEL = 1
NEW_VIN = "WAUZZZ8K9DA000001"
ExtendedSession = services.DiagnosticSessionControl.Session.extendedDiagnosticSession


def refusal(call, *args) -> str:
    """Return the name of the negative response that `call` meets."""
    with pytest.raises(NegativeResponseException) as refused:
        call(*args)
    return refused.value.response.code_name


def test_a_locked_ecu_refuses_to_write_its_vin(bench):
    bench.tester.change_session(ExtendedSession)
    assert refusal(bench.tester.write_data_by_identifier, VIN, NEW_VIN) == "SecurityAccessDenied"


def test_an_unlocked_ecu_keeps_its_new_vin_over_a_reset(bench):
    bench.tester.change_session(ExtendedSession)
    bench.tester.unlock_security_access(LEVEL)
    bench.tester.write_data_by_identifier(VIN, NEW_VIN)
    bench.tester.ecu_reset(services.ECUReset.ResetType.hardReset)
    assert bench.read(VIN) == NEW_VIN


def test_leaving_the_session_locks_again(bench):
    bench.tester.change_session(ExtendedSession)
    bench.tester.unlock_security_access(LEVEL)
    bench.tester.change_session(ExtendedSession)
    assert refusal(bench.tester.write_data_by_identifier, VIN, NEW_VIN) == "SecurityAccessDenied"


def test_wrong_keys_bring_a_delay(bench):
    bench.tester.change_session(ExtendedSession)
    seen = []
    for _ in range(TRIES_MAX):
        bench.tester.request_seed(LEVEL)
        seen.append(refusal(bench.tester.send_key, LEVEL + 1, b"\x00\x00\x00\x00"))
    assert seen == ["InvalidKey"] * (TRIES_MAX - 1) + ["ExceedNumberOfAttempts"]
    assert refusal(bench.tester.request_seed, LEVEL) == "RequiredTimeDelayNotExpired"
    bench.wait(DELAY_S)
    bench.tester.change_session(ExtendedSession)
    bench.tester.unlock_security_access(LEVEL)
