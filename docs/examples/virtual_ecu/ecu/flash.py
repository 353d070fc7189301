"""Loads a firmware release from the `firmware` folder into a virtual ECU."""

import importlib.util
from pathlib import Path
from typing import Protocol, cast

RELEASES = Path(__file__).resolve().parent.parent / "firmware"


class Firmware(Protocol):
    """What an application release gives to the diagnostics of the platform."""

    VERSION: str

    def battery_millivolts(self, counts: int) -> int:
        """Return the supply voltage from a reading of the converter."""

    def self_test(self, counts: int) -> dict[str, bool]:
        """Return which parts of the ECU are well."""


def firmware(version: str) -> Firmware:
    """Return the release `version`; raises `LookupError` if there is none."""
    file = RELEASES / version / "application.py"
    if not file.is_file():
        known = ", ".join(sorted(path.name for path in RELEASES.iterdir() if path.is_dir()))
        raise LookupError(f"no firmware {version!r}: set ECU_FIRMWARE to one of {known}")
    spec = importlib.util.spec_from_file_location(f"firmware_{version.replace('.', '_')}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Firmware, module)
