"""The one table of codes: what each word means, whose fault it is, and whether it is tried again.

Data only. A code is the stable word with which an attempt or an execution ends. `docs/codes.md` is
made from here; a test finds every code that the product gives and looks for it here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Whose = Literal["", "asker", "test", "bench", "worker", "store", "network"]
Again = Literal["never", "error", "failure", "free"]
"""Of which budget another attempt takes: none is made; `retries`; `retries_on_failure`; none at
all, because nothing was begun."""

LAB: tuple[Whose, ...] = ("bench", "worker", "store", "network")
"""Whose faults are the lab's: they alone are tried again unasked, or leave a dead letter."""
OF_NO_BENCH: tuple[Whose, ...] = ("worker", "network")
"""Whose faults another worker may not meet, on the same bench even."""
UNSURE = frozenset({"guardian_lost", "stopped_outside", "report_not_read"})
"""Codes of what a test can do to its worker as well: not held against the worker."""


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means."""

    fault: Whose
    again: Again
    meaning: str
    next_step: str


_LOG = "read the output (`teo logs`) and the cases (`teo results`)"
_BENCH = "look at the bench (`teo bench show`) and at its worker's log"
_WORKER = "look at the worker (`teo worker show`), its log and its machine"

CODES: Mapping[str, Code] = {
    "passed": Code("", "never", "The command ended with 0 and no case failed.", "nothing"),
    "exit_code": Code("test", "failure", "The command ended with another code than 0.", _LOG),
    "signal": Code("test", "failure", "A signal ended the command, and it was not ours.", _LOG),
    "cases_failed": Code(
        "test", "failure", "The command ended with 0, and cases of its report failed.", _LOG
    ),
    "report_missing": Code(
        "test",
        "failure",
        "The command ended with 0, and the report that `--junit` asks for was not there.",
        "correct `--junit`, or let the exit code decide (`--verdict exit-code`)",
    ),
    "report_unreadable": Code(
        "test",
        "failure",
        "The command ended with 0, and its report could not be read whole.",
        "mend what writes the report, or let the exit code decide (`--verdict exit-code`)",
    ),
    "cannot_start": Code(
        "test",
        "never",
        "The command was not found on the bench, or is not executable.",
        "name a program that is there, by its path or after copying it",
    ),
    "limit_exceeded": Code(
        "test",
        "failure",
        "The test took more memory, processes or disk than it may.",
        "make it take less, or raise the limit of the run or of the bench",
    ),
    "timeout": Code(
        "test", "never", "The command did not end in the time it was given.", "raise `--timeout`"
    ),
    "idle_timeout": Code(
        "test",
        "never",
        "The command was silent for longer than it may be.",
        "raise `--idle-timeout`, or have it say what it does",
    ),
    "glob_refused": Code(
        "asker",
        "never",
        "A glob of the run names nothing that could be collected.",
        "correct `--junit` or `--artifact`",
    ),
    "invalid_execution_id": Code(
        "asker",
        "never",
        "The id of the execution cannot name a folder.",
        "choose another id, or let the server make one",
    ),
    "cancelled_by_user": Code("", "never", "Somebody ended it.", "nothing"),
    "lease_lost": Code(
        "", "never", "The reservation that it was in is over.", "reserve for longer, or extend"
    ),
    "wait_timed_out": Code(
        "",
        "never",
        "No bench was free in the time that it was to wait.",
        "look at `teo queue`; raise `--wait-timeout`",
    ),
    "stale_attempt": Code(
        "", "never", "The scheduler knew the attempt no more, so its worker ended it.", "nothing"
    ),
    "provision_failed": Code("bench", "error", "The bench could not be made ready.", _BENCH),
    "provision_timeout": Code(
        "bench", "error", "The bench was not made ready within its limit.", _BENCH
    ),
    "run_failed": Code(
        "bench", "error", "The bench could not run the command, or nobody saw its end.", _BENCH
    ),
    "run_timeout": Code("bench", "error", "The bench did not end the run in time.", _BENCH),
    "collect_failed": Code(
        "bench", "error", "What the test left could not be fetched from the bench.", _BENCH
    ),
    "collect_timeout": Code(
        "bench", "error", "What the test left was not fetched within the limit.", _BENCH
    ),
    "state_unusable": Code(
        "worker",
        "free",
        "The worker's state folder is full, gone or cannot be written; nothing was begun.",
        "free or repair the disk of the worker: it comes back by itself",
    ),
    "worker_state_unreadable": Code(
        "worker", "error", "The older word for `state_unusable`.", "free or repair the disk"
    ),
    "worker_exhausted": Code(
        "worker",
        "error",
        "The worker's machine has no memory, processes, descriptors or disk left.",
        _WORKER,
    ),
    "worker_bug": Code(
        "worker", "error", "The worker broke; its log says how.", "report it with the log"
    ),
    "no_such_adapter": Code(
        "worker",
        "error",
        "The worker lacks the adapter that it said it has.",
        "install the adapter beside the worker and start it again",
    ),
    "no_slot": Code("worker", "error", "All slots of the worker were in use.", _WORKER),
    "bench_busy": Code(
        "worker", "error", "The worker still had an attempt on that bench.", _WORKER
    ),
    "no_workspace": Code(
        "worker", "error", "The worker could not keep a workspace in its folder.", _WORKER
    ),
    "already_provisioned": Code(
        "worker", "error", "The worker has a workspace of that very attempt already.", _WORKER
    ),
    "no_guardian": Code("worker", "error", "No guardian could be started.", _WORKER),
    "no_descriptors": Code(
        "worker", "error", "The worker has no file descriptors left.", "raise `ulimit -n`"
    ),
    "cannot_spawn": Code("worker", "error", "The worker's machine can start no process.", _WORKER),
    "no_user": Code(
        "worker",
        "error",
        "The worker cannot start a test as the user that the bench names.",
        "run the worker as root and add the user, or take `user` out of the bench's config",
    ),
    "guardian_lost": Code(
        "worker",
        "error",
        "The guardian of the test was killed: by the machine, by somebody, or by the test.",
        "look for a kill in the test and in the kernel's log; give the bench a `user`",
    ),
    "stopped_outside": Code(
        "worker",
        "error",
        "The guardian of the test was told to end, and not by its worker.",
        "look for a kill in the test; give the bench a `user`",
    ),
    "report_not_read": Code(
        "worker",
        "error",
        "The worker did not come to read all reports of the test in time.",
        "write less into the reports, or give the worker fewer slots",
    ),
    "fence_fell": Code(
        "worker",
        "error",
        "The bench came with a lower fence than its worker saw: the log has lost facts.",
        "see with `teo fsck` what it lost; the worker has stopped and its log says the way back",
    ),
    "attempt_unknown": Code(
        "worker",
        "error",
        "The worker lives and does not run the attempt: it forgot it, or never had it.",
        _WORKER,
    ),
    "worker_draining": Code(
        "worker", "error", "The worker left before the attempt ended.", "nothing: it is tried again"
    ),
    "worker_lost": Code(
        "worker",
        "error",
        "The worker was not heard of any more: it, its machine or its network.",
        _WORKER,
    ),
    "attempt_overdue": Code(
        "worker", "error", "The worker lives and did not end the attempt in time.", _WORKER
    ),
    "store_unavailable": Code(
        "store",
        "error",
        "The store of artifacts did not take what the test left.",
        "look at the folder or server of `--artifacts`",
    ),
    "lease_expired": Code(
        "network",
        "error",
        "The worker had no word from the log in time, so the test was ended.",
        "look at the network between the worker and Kafka",
    ),
    "report_timeout": Code(
        "network",
        "error",
        "The log did not take the worker's word that the attempt begins.",
        "look at the network between the worker and Kafka",
    ),
}

_OF_VERDICT: Mapping[str, Whose] = {"error": "worker", "failed": "test", "timed_out": "test"}
_BEFORE: Mapping[str, Whose] = {
    "attempt_overdue": "bench",
    "collect_failed": "store",
    "collect_timeout": "store",
}
"""What a code stood for, or may have stood for, before facts said whose fault they are."""


def fault_of(verdict: str, code: str) -> Whose:
    """Return whose fault `code` is; of an error that nobody knows the word of, the worker's."""
    known = CODES.get(code)
    if known is not None and (verdict == "error") == (known.fault in LAB):
        return known.fault
    return _OF_VERDICT.get(verdict, "")


def fault_told(verdict: str, code: str, fault: str) -> str:
    """Return whose fault a fact says it is, or meant when facts did not say that yet."""
    if fault or verdict in ("passed", "cancelled"):
        return fault
    return _BEFORE.get(code) or fault_of(verdict, code)


def again_of(verdict: str, code: str, fault: str) -> Again:
    """Return of which budget another attempt takes; adapters may have words of their own."""
    whose = fault_told(verdict, code, fault)
    known = CODES.get(code)
    if known is not None and known.fault == whose:
        return known.again
    if whose in LAB:
        return "error"
    return "failure" if verdict == "failed" and whose != "asker" else "never"


def told(fault: str, *, bench: str = "", worker: str = "") -> str:
    """Return in a few words for people whose fault it is; empty: nobody's."""
    where = {"bench": f" {bench}", "worker": f" {worker}"}.get(fault, "").rstrip()
    if fault in LAB:
        word = "store of artifacts" if fault == "store" else fault
        return f"the lab's: {word}{where}"
    return {"asker": "yours: how it was asked for", "test": "the test's"}.get(fault, "")
