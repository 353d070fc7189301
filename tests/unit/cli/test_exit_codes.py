"""The exit codes are DESIGN's, and never mix an infrastructure error with a test failure."""

import pytest

from cli.exit_codes import of_execution, of_problem, of_reservation, of_signal


@pytest.mark.parametrize(
    ("verdict", "code", "exit_code"),
    [
        ("passed", "passed", 0),
        ("failed", "exit_code", 1),
        ("failed", "cannot_start", 1),
        ("failed", "lease_lost", 1),
        ("error", "worker_lost", 3),
        ("error", "no_matching_bench", 6),
        ("cancelled", "cancelled_by_user", 4),
        ("cancelled", "wait_timed_out", 7),
        ("cancelled", "lease_lost", 8),
        ("timed_out", "timeout", 5),
        ("timed_out", "idle_timeout", 5),
        (None, None, 3),
        ("a_new_verdict", None, 3),
    ],
)
def test_an_execution(verdict, code, exit_code):
    assert of_execution(verdict, code) == exit_code


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        ("granted", "", 0),
        ("cancelled", "wait_timed_out", 7),
        ("cancelled", "cancelled_by_user", 4),
        ("expired", "", 8),
        ("revoked", "", 8),
    ],
)
def test_a_reservation(status, code, exit_code):
    assert of_reservation(status, code) == exit_code


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [
        (401, "unauthenticated", 10),
        (403, "not_owner", 6),
        (409, "no_matching_bench", 6),
        (404, "no_such_pool", 6),
        (404, "no_such_execution", 2),
        (409, "already_finished", 2),
        (422, "invalid_selector", 2),
        (429, "", 9),
        (500, "", 9),
        (503, "not_ready", 9),
    ],
)
def test_a_problem(status, code, exit_code):
    assert of_problem(status, code) == exit_code


def test_a_signal():
    assert of_signal(2) == 130
    assert of_signal(15) == 143
