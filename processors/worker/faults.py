"""What errors and exits that come out of an adapter mean for an attempt. Pure."""

from dataclasses import replace

from adapters.contract import AdapterError, Attempt, Exit
from processors.worker.calls import StepTimedOut
from processors.worker.state_dir import StateUnreadable
from processors.worker.verdict import Cut, Fault, Seen


def fault_of(step: str, error: Exception) -> Fault:
    """Return the fault that an error which ended `step` is."""
    if isinstance(error, StepTimedOut):
        return Fault(step=step, code=f"{step}_timeout", reason=str(error), is_retriable=True)
    if isinstance(error, StateUnreadable):
        # The worker's own disk: no bench is to blame.
        return Fault(step=step, code=f"worker_{error.code}", reason=str(error), is_retriable=True)
    code = f"{step}_failed"
    if isinstance(error, AdapterError):
        detail = "" if error.code == code else f" ({error.code})"
        reason = f"{step} failed: {error}{detail}"
        return Fault(step=step, code=code, reason=reason, is_retriable=error.retriable)
    reason = f"{step} failed: {type(error).__name__}: {error} (adapter_bug)"
    return Fault(step=step, code=code, reason=reason, is_retriable=True)


def with_exit(seen: Seen, exit_: Exit, attempt: Attempt) -> Seen:
    """Return `seen` with how the command ended.

    A command that ended by itself has its result, even if its end was asked for meanwhile.
    """
    match exit_.ended:
        case "exited":
            return replace(seen, exit_code=exit_.code, signal=exit_.signal, cut=None)
        case "timeout":
            reason = f"the run did not end within {attempt.timeout_s:g} s"
            cut = Cut(verdict="timed_out", code="timeout", reason=reason)
        case "idle_timeout":
            reason = f"no output for {attempt.idle_timeout_s or 0:g} s"
            cut = Cut(verdict="timed_out", code="idle_timeout", reason=reason)
        case "lease_expired":
            reason = "the worker had no word from the log in time, so its guardian ended the test"
            cut = Cut(verdict="error", code="lease_expired", reason=reason, is_retriable=True)
        case "limit_exceeded":
            reason = f"over its limit: {exit_.detail or 'the adapter did not say which'}"
            cut = Cut(verdict="failed", code="limit_exceeded", reason=reason)
    return replace(seen, signal=exit_.signal, cut=seen.cut or cut)


def plain(text: str) -> str:
    """Return `text` as the log can carry it: without halves of surrogate pairs."""
    return text.encode(errors="replace").decode()
