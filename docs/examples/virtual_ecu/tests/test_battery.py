"""The supply voltage that the ECU reports is the one that the power supply gives."""

import pytest
from ecu.diagnostics import BATTERY


@pytest.mark.parametrize(
    "volts",
    [
        pytest.param(7.5, id="cranking"),
        pytest.param(12.6, id="at-rest"),
        pytest.param(14.4, id="charging"),
        pytest.param(26.4, id="jump-start-from-a-truck"),
    ],
)
def test_battery_voltage(bench, volts):
    bench.supply(volts)
    reported = bench.read(BATTERY)
    assert reported == pytest.approx(volts, abs=0.15), f"supply {volts} V, ECU says {reported} V"
