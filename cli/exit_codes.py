"""The exit codes of `teo`, which scripts rely on; never renumbered."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit says; 128+n is added for a signal n."""

    PASSED = 0
    TESTS_FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    CANCELLED = 4
    TIMED_OUT = 5
    NO_BENCH_OR_DENIED = 6
    WAIT_TIMED_OUT = 7
    LEASE_LOST = 8
    UNREACHABLE = 9
    AUTHENTICATION = 10
    OURS = 70
    """A fault of `teo` itself; as sysexits.h has it."""
    OUTPUT_LOST = 74
    """What this command had to say could not be written."""


_BY_CODE = {
    "no_matching_bench": ExitCode.NO_BENCH_OR_DENIED,
    "no_such_pool": ExitCode.NO_BENCH_OR_DENIED,
    "wait_timed_out": ExitCode.WAIT_TIMED_OUT,
    "lease_lost": ExitCode.LEASE_LOST,
    "unreachable": ExitCode.UNREACHABLE,
    "command_set_aside": ExitCode.INFRASTRUCTURE,
}
_BY_VERDICT = {
    "passed": ExitCode.PASSED,
    "failed": ExitCode.TESTS_FAILED,
    "error": ExitCode.INFRASTRUCTURE,
    "timed_out": ExitCode.TIMED_OUT,
    "cancelled": ExitCode.CANCELLED,
}


def of_execution(verdict: str | None, code: str | None, fault: str | None = None) -> ExitCode:
    """Return what a finished execution exits with.

    The code refines `error`, `timed_out` and `cancelled` only: what the tests said stands. What
    was asked for in a way that cannot be is no failure of the tests.
    """
    if verdict == "failed" and fault == "asker":
        return ExitCode.USAGE
    if verdict in ("passed", "failed"):
        return _BY_VERDICT[verdict]
    if code in _BY_CODE:
        return _BY_CODE[code]
    return _BY_VERDICT.get(verdict or "", ExitCode.INFRASTRUCTURE)


def of_reservation(status: str, code: str | None) -> ExitCode:
    """Return what a reservation exits with once it no longer waits."""
    if status == "granted":
        return ExitCode.PASSED
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status in ("expired", "revoked"):
        return ExitCode.LEASE_LOST
    return ExitCode.CANCELLED


def of_problem(status: int, code: str | None) -> ExitCode:
    """Return what a refusal by the server exits with."""
    if status == 401:
        return ExitCode.AUTHENTICATION
    if code in _BY_CODE:
        return _BY_CODE[code]
    if status == 403:
        return ExitCode.NO_BENCH_OR_DENIED
    if status == 429 or status >= 500:
        return ExitCode.UNREACHABLE
    return ExitCode.USAGE


def of_signal(number: int) -> int:
    """Return what a shell shows for a process that a signal ended."""
    return 128 + number
