"""A worker looks at benches when it is told to, and again at those that were refused."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from events.reports import BenchesChecked
from events.shared import BenchCheck, BenchChecked
from events.tasks import CheckBenches
from tests.unit.processors.worker.lab import Lab, ScriptedAdapter, attempt, in_lab


def order(*names: str, version: int = 3, adapter: str = "scripted", **config: Any) -> CheckBenches:
    checks = []
    for name in names:
        spec = attempt(bench=name, **config).bench
        if adapter != spec.adapter:
            spec = type(spec)(name=name, labels={}, adapter=adapter, config="{}")
        checks.append(BenchCheck(bench=spec, version=version))
    return CheckBenches(benches=tuple(checks))


def said(lab: Lab) -> list[BenchChecked]:
    return [each for report in lab.reports(BenchesChecked) for each in report.checks]


def test_it_says_of_each_bench_whether_its_adapter_takes_it(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(order("b-1"))
        await lab.tell(order("b-2", refuse="no such key 'directry'"))
        await lab.tell(order("b-3", adapter="none"))
        await lab.tell(order("b-4", bug="check"))
        await lab.until(lambda: len(said(lab)) == 4)
        found = {each.bench: (each.version, each.code, each.reason) for each in said(lab)}
        assert found["b-1"] == (3, "", "")
        assert found["b-2"] == (3, "invalid_config", "no such key 'directry'")
        assert found["b-3"] == (3, "no_such_adapter", "worker w-1 has no adapter 'none'")
        assert found["b-4"][:2] == (3, "adapter_bug")

    in_lab(tmp_path, scene)


def test_a_check_that_hangs_is_bounded_and_keeps_no_other_waiting(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        slow = order("b-1", hang="check")
        await lab.tell(CheckBenches(benches=(*slow.benches, *order("b-2").benches)))
        await lab.until(lambda: said(lab), limit_s=3.0)
        assert [each.bench for each in said(lab)] == ["b-2"]
        await lab.until(lambda: len(said(lab)) == 2)
        assert said(lab)[1].code == "check_timeout"

    in_lab(tmp_path, scene)


def test_what_was_refused_is_looked_at_again_and_only_news_is_said(tmp_path: Path) -> None:
    adapter = ScriptedAdapter()

    async def scene(lab: Lab) -> None:
        await lab.tell(order("b-1"))
        await lab.tell(order("b-2", refuse="no such folder"))
        await asyncio.sleep(100)
        assert sorted(each.bench for each in said(lab)) == ["b-1", "b-2"]
        adapter.mended.add("b-2")
        await lab.until(lambda: len(said(lab)) == 3)
        assert (said(lab)[2].bench, said(lab)[2].code) == ("b-2", "")
        count = adapter.calls.count("check b-2")
        await asyncio.sleep(100)
        assert adapter.calls.count("check b-2") == count
        assert adapter.calls.count("check b-1") == 1

    in_lab(tmp_path, scene, adapter)


def test_an_order_is_answered_whole_also_the_second_time(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        for _ in range(2):
            await lab.tell(order("b-1", refuse="no"))
        await lab.until(lambda: len(said(lab)) == 2)

    in_lab(tmp_path, scene)


def test_of_an_older_version_nothing_is_said(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(order("b-1", version=3, hang="check"))
        await lab.tell(order("b-1", version=9))
        await asyncio.sleep(60)
        assert [each.version for each in said(lab)] == [9]

    in_lab(tmp_path, scene)


def test_a_bench_is_not_looked_at_while_an_attempt_is_on_it(tmp_path: Path) -> None:
    adapter = ScriptedAdapter()

    async def scene(lab: Lab) -> None:
        await lab.tell(attempt(bench="b-1", run_s=20.0))
        await lab.until(lambda: adapter.alive)
        await lab.tell(order("b-1"))
        await lab.until(lambda: said(lab))
        assert adapter.calls[-2:] == ["teardown", "check b-1"]

    in_lab(tmp_path, scene, adapter)


@pytest.mark.parametrize("text", ["x" * 5_000, "half \ud800 a pair"])
def test_whatever_the_adapter_says_can_be_told(tmp_path: Path, text: str) -> None:
    async def scene(lab: Lab) -> None:
        await lab.tell(order("b-1", refuse=text))
        await lab.until(lambda: said(lab))
        assert len(said(lab)[0].reason) <= 500

    in_lab(tmp_path, scene)
