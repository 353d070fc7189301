"""The mock plays its script to the letter, and at no cost when there is nothing to wait for."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from adapters.contract import (
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Exit,
    Handle,
    InvalidConfig,
    Lease,
    Line,
)
from adapters.junit import parse_report
from adapters.mock import MockAdapter


def attempt(config: Mapping[str, object], *, number: int = 1, execution: str = "exe_1") -> Attempt:
    return Attempt(
        id=AttemptId(execution_id=execution, number=number, fence=1),
        bench=Bench(name="b", config=config),
        command=("test",),
        timeout_s=5.0,
    )


class Played:
    """One attempt, played through."""

    def __init__(self, config: Mapping[str, object], *, number: int = 1) -> None:
        self.adapter = MockAdapter(Path("unused"))
        self.lines: list[Line] = []
        self.attempt = attempt(config, number=number)

    async def on_lines(self, lines: Sequence[Line]) -> None:
        self.lines.extend(lines)

    async def run(self) -> Exit:
        handle = await self.adapter.provision(self.attempt)
        lease = Lease(until=asyncio.get_running_loop().time() + 60)
        exit_ = await self.adapter.run(self.attempt, handle, on_lines=self.on_lines, lease=lease)
        self.collected = await self.adapter.collect(self.attempt, handle)
        await self.adapter.teardown(handle)
        assert self.adapter.held == set()
        return exit_


def test_exit_codes_go_by_attempt() -> None:
    codes = [
        asyncio.run(Played({"exit_codes": [1, 2, 0]}, number=number).run()).code
        for number in (1, 2, 3, 4)
    ]
    assert codes == [1, 2, 0, 0]
    assert asyncio.run(Played({"signal": 11}).run()) == Exit(ended="exited", signal=11)


def test_lines() -> None:
    played = Played({"lines": 5, "line_bytes": 20, "stderr_every": 2})
    asyncio.run(played.run())
    assert [line.stream for line in played.lines] == ["stdout", "stderr"] * 2 + ["stdout"]
    assert {len(line.text) for line in played.lines} == {20}
    assert played.lines[4].text.startswith("line 5 ")


def test_reports_and_artifacts() -> None:
    wanted = {"passed": 3, "failed": 2, "error": 1, "skipped": 4}
    played = Played({"junit": wanted, "artifacts": {"a/b.bin": 1000, "empty": 0}})
    asyncio.run(played.run())
    found = {file.path: file for file in played.collected.found}
    assert list(found) == ["a/b.bin", "empty", "junit.xml"]
    assert [len(file.data or b"") for file in found.values()][:2] == [1000, 0]
    report = parse_report(found["junit.xml"].data or b"", name="junit.xml")
    assert [report.count(status) for status in ("passed", "failed", "error", "skipped")] == [
        3,
        2,
        1,
        4,
    ]


@pytest.mark.parametrize("step", ["provision", "run", "collect", "teardown"])
def test_a_step_fails_as_often_as_it_is_told(step: str) -> None:
    config = {step: {"fail": "the rig is on fire", "fail_times": 2, "is_retriable": False}}
    for number in (1, 2):
        with pytest.raises(AdapterError, match="on fire") as caught:
            asyncio.run(Played(config, number=number).run())
        assert (caught.value.code, caught.value.retriable) == (f"{step}_failed", False)
    assert asyncio.run(Played(config, number=3).run()).code == 0


def test_a_check_fails() -> None:
    bench = Bench(name="b", config={"check": {"fail": "unplugged"}})
    with pytest.raises(AdapterError, match="unplugged"):
        asyncio.run(MockAdapter(Path("unused")).check(bench))


def test_a_teardown_from_a_handle_alone_plays_its_script() -> None:
    bench = Bench(name="b", config={"teardown": {"fail": "stuck", "fail_times": 1}})
    adapter = MockAdapter(Path("unused"))
    first = adapter.handle_for(AttemptId(execution_id="exe_1", number=1, fence=1), bench)
    with pytest.raises(AdapterError, match="stuck"):
        asyncio.run(MockAdapter(Path("unused")).teardown(Handle(first)))


def test_a_step_hangs_until_it_is_cancelled() -> None:
    async def play() -> None:
        adapter = MockAdapter(Path("unused"))
        hanging = asyncio.create_task(adapter.provision(attempt({"provision": {"hang": True}})))
        await asyncio.sleep(0)
        assert not hanging.done()
        hanging.cancel()
        await asyncio.wait({hanging})
        assert hanging.cancelled()

    asyncio.run(play())


def test_a_command_cannot_start() -> None:
    with pytest.raises(CannotStart, match="cannot start 'test': no such program"):
        asyncio.run(Played({"cannot_start": "no such program"}).run())


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"lines": -1}, "config lines must be an integer"),
        ({"lines": True}, "config lines"),
        ({"exit_code": 1}, "knows no config exit_code"),
        ({"exit_codes": []}, "config exit_codes"),
        ({"exit_codes": [256]}, "config exit_codes"),
        ({"run": {"delay": 1}}, r"knows no config run\.delay"),
        ({"run": {"delay_s": "1"}}, r"config run\.delay_s must be seconds"),
        ({"run": {"delay_s": float("nan")}}, r"config run\.delay_s"),
        ({"run": []}, "config run must be an object"),
        ({"junit": {"broken": 1}}, r"knows no config junit\.broken"),
        ({"artifacts": {"a": -1}}, r"config artifacts\.a"),
    ],
)
def test_a_script_that_means_nothing_is_refused(config: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidConfig, match=words):
        asyncio.run(MockAdapter(Path("unused")).check(Bench(name="b", config=config)))


def test_nothing_to_wait_for_takes_no_time() -> None:
    async def play() -> float:
        adapter = MockAdapter(Path("unused"))
        loop = asyncio.get_running_loop()
        lease = Lease(until=loop.time() + 60)

        async def on_lines(_lines: Sequence[Line]) -> None:
            raise AssertionError("there are no lines")

        began = time.process_time()
        for number in range(1, 501):
            one = attempt({}, number=number)
            handle = await adapter.provision(one)
            await adapter.run(one, handle, on_lines=on_lines, lease=lease)
            await adapter.collect(one, handle)
            await adapter.teardown(handle)
        return (time.process_time() - began) / 500

    each_s = asyncio.run(play())
    print(f"{each_s * 1e6:.0f} µs per attempt")
    assert each_s < 0.002
