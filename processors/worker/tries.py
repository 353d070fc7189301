"""The tries of one step on one bench: each with its limit, with pauses between, until one works.

Never tries a command of tests again: that is an attempt, and whether there is another one is not
for a worker to say.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import structlog

from adapters.contract import AdapterError, CannotStart
from events.shared import StepPolicy
from processors.worker.calls import StepCut

T = TypeVar("T")
log = structlog.get_logger()


def policy_of(steps: Sequence[StepPolicy], step: str, *, timeout_s: float) -> StepPolicy:
    """Return the limits of `step`: the bench's, else one try of `timeout_s`."""
    given = next((policy for policy in steps if policy.step == step), None)
    if given is None:
        return StepPolicy(step=step, timeout_s=timeout_s, retries=0, backoff_s=0.0)
    if given.timeout_s is None:
        return StepPolicy(
            step=step, timeout_s=timeout_s, retries=given.retries, backoff_s=given.backoff_s
        )
    return given


async def tried(
    policy: StepPolicy,
    call: Callable[[float], Awaitable[T]],
    *,
    between: Callable[[], Awaitable[None]] | None = None,
    cut: asyncio.Event | None = None,
) -> tuple[T, int]:
    """Return what the first `call(limit_s)` that works returns, and the number of that try.

    What cannot work at a second try, or was cut, comes out at once; else the last try's error.
    `between` cleans up after a try that failed, before the pause.
    """
    assert policy.timeout_s is not None, "the limit of a step is decided before its first try"
    for number in range(1, policy.retries + 2):
        try:
            return await call(policy.timeout_s), number
        except (StepCut, CannotStart):
            raise
        except Exception as error:
            if _is_final(error) or number > policy.retries:
                raise
            log.warning("step.try_failed", step=policy.step, number=number, error=str(error))
        if between is not None:
            await between()
        await _pause(policy.backoff_s * 2 ** (number - 1), cut, policy.step)
    raise AssertionError("the last try returns or raises")


def _is_final(error: Exception) -> bool:
    """Return True if no other try can help: the adapter says so, or the fault is not the lab's."""
    if not isinstance(error, AdapterError):
        return False
    return not error.retriable or error.fault in ("asker", "test")


async def _pause(pause_s: float, cut: asyncio.Event | None, step: str) -> None:
    if cut is None:
        await asyncio.sleep(pause_s)
        return
    try:
        async with asyncio.timeout(pause_s):
            await cut.wait()
    except TimeoutError:
        return
    raise StepCut(f"{step} was cut")
