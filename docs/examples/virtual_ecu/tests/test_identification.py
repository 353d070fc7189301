"""Who the ECU says it is."""

import pytest
from ecu.board import FACTORY_VIN
from ecu.diagnostics import SOFTWARE_VERSION, VIN
from udsoncan.exceptions import NegativeResponseException

UNKNOWN = 0x4242


def test_vin_is_the_one_from_the_factory(bench):
    assert bench.read(VIN) == FACTORY_VIN


def test_software_version_is_the_flashed_release(bench):
    assert bench.read(SOFTWARE_VERSION) == bench.firmware.VERSION


def test_unknown_identifier_is_out_of_range(bench):
    with pytest.raises(NegativeResponseException) as refused:
        bench.tester.read_data_by_identifier(UNKNOWN)
    assert refused.value.response.code_name == "RequestOutOfRange"
