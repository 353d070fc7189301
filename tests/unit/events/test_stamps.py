"""The stamps of records, whatever number a sender wrote."""

from datetime import UTC, datetime

import pytest

from events.append_time import time_of


@pytest.mark.parametrize(
    ("at_ms", "year"),
    [(-(2**63), 1), (-(10**17), 1), (-1, 1969), (0, 1970), (2**63 - 1, 9999), (10**17, 9999)],
)
def test_each_number_is_a_time(at_ms: int, year: int) -> None:
    found = time_of(at_ms / 1000)
    assert (found.year, found.tzinfo) == (year, UTC)
    assert found.isoformat()


def test_a_stamp_is_exact_to_the_millisecond() -> None:
    assert time_of(1_764_000_000_123 / 1000) == datetime(2025, 11, 24, 16, 0, 0, 123_000, UTC)
