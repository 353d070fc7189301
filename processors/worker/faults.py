"""What errors and exits that come out of an adapter mean for an attempt, and whose fault they are.

Pure. What the adapter says of itself stands; a bug of it is the bench's, for a bench is what its
adapter makes of it; what this machine has run out of, its disk too, is the worker's.
"""

import errno
from dataclasses import replace
from typing import get_args

from adapters.contract import AdapterError, Attempt, Exit
from adapters.contract import Fault as AdapterFault
from events.codes import LAB, Whose
from processors.worker.calls import StepTimedOut
from processors.worker.state_dir import StateUnreadable
from processors.worker.verdict import Cut, Fault, Seen

MACHINE_IS_OUT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What the operating system says when the machine, whatever the bench, has none of it left: the
last of them, of processes."""
NO_THREAD = "can't start new thread"
"""What Python says of a thread where the operating system says `EAGAIN`."""
DISK_IS_OUT = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""What it says of a disk: the worker's, or one that belongs to the bench."""
_KNOWN: frozenset[str] = frozenset(get_args(AdapterFault))


class ReportTimedOut(AdapterError):
    """Raised when the log does not take a report in time that an attempt cannot go on without."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="report_timeout", fault="network")


class NotStored(AdapterError):
    """Raised when the store does not take what a test left."""

    def __init__(self, error: Exception) -> None:
        text = f"artifacts cannot be stored: {error}"
        super().__init__(text, code="store_unavailable", fault="store")


class NotRead(AdapterError):
    """Raised when reports that are within all limits were not read in time."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(
            f"the reports were not read within {limit_s:g} s: write less into them, or give the "
            "worker fewer slots",
            code="report_not_read",
            fault="worker",
        )


def fault_of(step: str, error: Exception, *, adapter: str = "") -> Fault:
    """Return the fault that an error which ended `step` on a bench of `adapter` is."""
    if isinstance(error, StepTimedOut):
        return _fault(step, f"{step}_timeout", str(error))
    if isinstance(error, StateUnreadable):
        return _fault(step, "state_unusable", str(error), "worker")
    if isinstance(error, AdapterError):
        return _by_adapter(step, error)
    text = f"{step} failed: {type(error).__name__}: {error}"
    if is_out(error):
        return _fault(step, "worker_exhausted", text, "worker")
    who = f"adapter {adapter!r} raised it: " if adapter else ""
    return _fault(step, f"{step}_failed", f"{text} ({who}adapter_bug)")


def _by_adapter(step: str, error: AdapterError) -> Fault:
    """Return what an adapter says went wrong; the code of a bench's fault is that of its step."""
    whose: Whose = error.fault if error.fault in _KNOWN else "bench"
    code = f"{step}_failed" if whose == "bench" else error.code
    detail = "" if error.code == code else f" ({error.code})"
    fault = _fault(step, code, f"{step} failed: {error}{detail}", whose)
    return replace(fault, is_retriable=error.retriable and whose in LAB)


def _fault(step: str, code: str, reason: str, whose: Whose = "bench") -> Fault:
    return Fault(step=step, code=code, reason=reason, is_retriable=True, whose=whose)


def is_of_a_disk(error: BaseException) -> bool:
    """Return True if a disk did not take or give what it should, as far as `error` tells."""
    cause = error.__cause__
    numbers = {each.errno for each in (error, cause) if isinstance(each, OSError)}
    return not numbers.isdisjoint(DISK_IS_OUT)


def is_out(error: Exception) -> bool:
    """Return True if the machine had no memory, no descriptor, no process or no thread left."""
    is_os = isinstance(error, OSError) and error.errno in MACHINE_IS_OUT
    is_threads = isinstance(error, RuntimeError) and NO_THREAD in str(error)
    return is_os or is_threads or isinstance(error, MemoryError)


def with_fault(seen: Seen, fault: Fault) -> Seen:
    """Return what was seen, with a step that broke; of two in `collect` the lab's one stands."""
    if fault.step != "collect":
        return replace(seen, fault=fault)
    if seen.collect_fault is None or fault.whose in LAB:
        return replace(seen, collect_fault=fault)
    return seen


def with_exit(seen: Seen, exit_: Exit, attempt: Attempt) -> Seen:
    """Return `seen` with how the command ended.

    A command that ended by itself has its result, even if its end was asked for meanwhile.
    """
    match exit_.ended:
        case "exited":
            return replace(seen, exit_code=exit_.code, signal=exit_.signal, cut=None)
        case "timeout":
            reason = f"the run did not end within {attempt.timeout_s:g} s"
            cut = Cut(verdict="timed_out", code="timeout", reason=reason, fault="test")
        case "idle_timeout":
            reason = f"no output for {attempt.idle_timeout_s or 0:g} s"
            cut = Cut(verdict="timed_out", code="idle_timeout", reason=reason, fault="test")
        case "lease_expired":
            reason = "the worker had no word from the log in time, so its guardian ended the test"
            cut = Cut(
                verdict="error",
                code="lease_expired",
                reason=reason,
                is_retriable=True,
                fault="network",
            )
        case "limit_exceeded":
            reason = f"over its limit: {exit_.detail or 'the adapter did not say which'}"
            cut = Cut(verdict="failed", code="limit_exceeded", reason=reason, fault="test")
    return replace(seen, signal=exit_.signal, cut=seen.cut or cut)


def plain(text: str) -> str:
    """Return `text` as the log can carry it: without halves of surrogate pairs."""
    return text.encode(errors="replace").decode()
