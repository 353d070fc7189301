"""What is of this machine is asked without a proxy, whatever the environment names."""

import pytest

from cli.client import is_loopback
from cli.telemetry import _session


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8642", True),
        ("http://127.8.9.1", True),
        ("http://localhost:1/x", True),
        ("https://[::1]:8642", True),
        ("http://10.0.0.1:8642", False),
        ("http://localhost.example", False),
        ("http://127.0.0.1.example", False),
        ("no url", False),
    ],
)
def test_a_loopback_is_told_by_its_address(url, expected):
    assert is_loopback(url) is expected
    assert _session(url).trust_env is not expected
