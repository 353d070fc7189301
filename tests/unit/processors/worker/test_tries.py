"""A step is tried as often as its bench says, and no more."""

import asyncio
from typing import Any

import pytest

from adapters.contract import AdapterError, CannotStart
from events.shared import StepPolicy
from processors.worker.calls import StepCut
from processors.worker.tries import policy_of, tried
from tests.unit.processors.worker.lab import play

THREE = StepPolicy(step="provision", timeout_s=9.0, retries=2, backoff_s=1.0)


class Step:
    """Fails with what is due, then works."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.limits: list[float] = []

    async def __call__(self, limit_s: float) -> str:
        self.limits.append(limit_s)
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def check(
    step: Step, raises: type[Exception] | None, *, tries: int, took_s: float, **more: Any
) -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        begun_s = loop.time()
        if raises is None:
            assert await tried(THREE, step, **more) == ("done", tries)
        else:
            with pytest.raises(raises):
                await tried(THREE, step, **more)
        assert step.limits == [9.0] * tries
        assert loop.time() - begun_s == pytest.approx(took_s)

    play(scene)


@pytest.mark.parametrize(
    ("errors", "raises", "tries", "took_s"),
    [
        ([], None, 1, 0.0),
        ([AdapterError("x")], None, 2, 1.0),
        ([AdapterError("x"), KeyError("x")], None, 3, 3.0),
        ([AdapterError("x")] * 3, AdapterError, 3, 3.0),
        ([AdapterError("x", retriable=False)], AdapterError, 1, 0.0),
        ([CannotStart("x")], CannotStart, 1, 0.0),
        ([StepCut("x")], StepCut, 1, 0.0),
    ],
)
def test_tries(
    errors: list[Exception], raises: type[Exception] | None, tries: int, took_s: float
) -> None:
    check(Step(*errors), raises, tries=tries, took_s=took_s)


def test_what_a_failed_try_left_is_cleaned_up_before_the_next() -> None:
    cleaned: list[int] = []
    step = Step(AdapterError("x"), AdapterError("x"))

    async def between() -> None:
        cleaned.append(len(step.limits))

    check(step, None, tries=3, took_s=3.0, between=between)
    assert cleaned == [1, 2]


def test_a_cut_ends_the_pause() -> None:
    async def scene() -> None:
        cut = asyncio.Event()
        begun_s = asyncio.get_running_loop().time()
        asyncio.get_running_loop().call_later(0.25, cut.set)
        with pytest.raises(StepCut):
            await tried(THREE, Step(AdapterError("x")), cut=cut)
        assert asyncio.get_running_loop().time() - begun_s == pytest.approx(0.25)

    play(scene)


@pytest.mark.parametrize(
    ("given", "timeout_s", "retries"),
    [
        ((), 60.0, 0),
        ((THREE,), 9.0, 2),
        ((StepPolicy(step="provision", retries=1, backoff_s=0.0),), 60.0, 1),
        ((StepPolicy(step="collect", retries=1, backoff_s=0.0),), 60.0, 0),
    ],
)
def test_the_limits_of_a_bench_win(
    given: tuple[StepPolicy, ...], timeout_s: float, retries: int
) -> None:
    policy = policy_of(given, "provision", timeout_s=60.0)
    assert (policy.timeout_s, policy.retries) == (timeout_s, retries)
