"""The suite every adapter passes; third parties run it against their own. It needs only pytest.

Make a class of it that pytest collects, and say how each scenario is played on your bench:

    class TestMyAdapter(AdapterConformance):
        def rig(self, tmp_path):
            return Rig(make=lambda: MyAdapter(tmp_path), scenario=my_scenario, bad_config={"x": 1})

`scenario` gets one of `Scenario` and gives the bench and the command that play it. Nothing here
takes longer than `LIMIT_S`; give your adapter benches on which that holds.
"""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from adapters.conformance_rig import (
    DEPTH,
    LEASE_S,
    LIMIT_S,
    ODD_NAMES,
    TALK_LINES,
    Case,
    Heard,
    Rig,
    Scenario,
    check_files,
    content_of,
    lease_of_a_minute,
    raised,
)
from adapters.contract import (
    HANDLE_CHARS_MAX,
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Exit,
    Handle,
    InvalidConfig,
    InvalidHandle,
    Lease,
    Line,
)

__all__ = ["DEPTH", "ODD_NAMES", "TALK_LINES", "AdapterConformance", "Rig", "Scenario"]


class AdapterConformance:
    """Each test is one promise of `adapters.contract.Adapter`."""

    def rig(self, tmp_path: Path) -> Rig:
        """Return how to make the adapter. Overridden by the adapter's own test."""
        raise NotImplementedError(f"{type(self).__name__} must define rig(tmp_path)")

    def test_check_accepts_a_good_bench_and_changes_nothing(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            await case.adapter.check(case.attempt("passes").bench)
            assert list(await case.adapter.leftovers()) == []

        self._play(tmp_path, test)

    def test_a_bad_config_is_refused_before_anything_is_done(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            bench = Bench(name="bad", config=case.rig.bad_config)
            attempt_id = AttemptId(execution_id="exe_bad", number=1, fence=1)
            error = await raised(InvalidConfig, case.adapter.check(bench))
            assert not error.retriable
            attempt = Attempt(id=attempt_id, bench=bench, command=("true",), timeout_s=LIMIT_S)
            await raised(InvalidConfig, case.adapter.provision(attempt))

        self._play(tmp_path, test)

    def test_the_handle_is_known_before_it_is_provisioned(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("passes")
            known = case.adapter.handle_for(attempt.id, attempt.bench)
            assert isinstance(json.loads(known), dict)
            assert len(known) <= HANDLE_CHARS_MAX
            assert case.rig.make().handle_for(attempt.id, attempt.bench) == known
            assert await case.adapter.provision(attempt) == known
            await case.adapter.teardown(known)

        self._play(tmp_path, test)

    def test_handles_of_different_grants_differ(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            bench = case.attempt("passes").bench
            grants = itertools.product(("exe_a", "exe_b"), (1, 2), (8, 9))
            ids = [AttemptId(execution_id=e, number=n, fence=f) for e, n, f in grants]
            assert len({case.adapter.handle_for(one, bench) for one in ids}) == len(ids)

        self._play(tmp_path, test)

    def test_exit_codes_are_the_command_s_own(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            exit_, _ = await case.through("passes")
            assert exit_ == Exit(ended="exited", code=0)
            exit_, _ = await case.through("fails")
            assert exit_ == Exit(ended="exited", code=3)

        self._play(tmp_path, test)

    def test_a_command_that_cannot_start_is_the_test_s_fault(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("cannot_start")
            async with case.provisioned(attempt) as handle:
                error = await raised(CannotStart, case.run(attempt, handle))
                assert attempt.command[0] in str(error)
                await case.adapter.collect(attempt, handle)

        self._play(tmp_path, test)

    def test_all_lines_come_once_and_in_order(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            again = Heard()
            await case.through("talks")
            first = case.heard.lines
            case.heard = again
            await case.through("talks")
            assert len(first) >= TALK_LINES
            assert first == again.lines
            assert {line.stream for line in first} == {"stdout"}
            assert not any("\n" in line.text for line in first)

        self._play(tmp_path, test)

    def test_what_on_lines_raises_ends_the_test_and_comes_out(self, tmp_path: Path) -> None:
        class Full(Exception):
            """Raised by a log that takes no more."""

        async def refuse(_lines: Sequence[Line]) -> None:
            raise Full

        async def test(case: "Case") -> None:
            attempt = case.attempt("hangs")
            async with case.provisioned(attempt) as handle:
                running = case.adapter.run(
                    attempt, handle, on_lines=refuse, lease=lease_of_a_minute()
                )
                await raised(Full, running)

        self._play(tmp_path, test)

    def test_a_slow_reader_loses_nothing(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("talks")
            count = 0

            async def slow(lines: Sequence[Line]) -> None:
                nonlocal count
                await asyncio.sleep(0.001)
                count += len(lines)

            async with case.provisioned(attempt) as handle:
                await case.adapter.run(attempt, handle, on_lines=slow, lease=lease_of_a_minute())
            assert count >= TALK_LINES

        self._play(tmp_path, test)

    def test_the_total_limit_ends_a_test(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            exit_, _ = await case.through("hangs", timeout_s=0.5)
            assert exit_.ended == "timeout"
            assert len(case.heard.lines) == 1

        self._play(tmp_path, test)

    def test_the_idle_limit_ends_a_silent_test(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            exit_, _ = await case.through("hangs", idle_timeout_s=0.5)
            assert exit_.ended == "idle_timeout"

        self._play(tmp_path, test)

    def test_a_test_over_its_limits_is_ended_and_it_is_said_why(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            if case.rig.over_limit is None:
                return
            bench, command, limits = case.rig.over_limit
            attempt = replace(case.attempt("passes"), bench=bench, command=command, limits=limits)
            handle = await case.adapter.provision(attempt)
            exit_ = await case.run(attempt, handle)
            assert exit_.ended == "limit_exceeded"
            assert exit_.detail, "the limit and what was measured"
            await case.adapter.teardown(handle)

        self._play(tmp_path, test)

    def test_a_lease_that_is_not_renewed_ends_a_test(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("hangs")
            loop = asyncio.get_running_loop()
            async with case.provisioned(attempt) as handle:
                lease = Lease(until=loop.time() + 0.8)
                exit_ = await case.run(attempt, handle, lease)
                assert exit_.ended == "lease_expired"

        self._play(tmp_path, test)

    def test_a_lease_that_is_renewed_does_not(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("hangs", timeout_s=1.2)
            loop = asyncio.get_running_loop()
            async with case.provisioned(attempt) as handle:
                lease = Lease(until=loop.time() + 0.8)
                lease.renew(loop.time() + LEASE_S)
                exit_ = await case.run(attempt, handle, lease)
                assert exit_.ended == "timeout"

        self._play(tmp_path, test)

    def test_cancelling_a_run_ends_the_test_and_leaves_what_it_wrote(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("hangs")
            async with case.provisioned(attempt) as handle:
                running = asyncio.create_task(case.run(attempt, handle))
                await case.heard.first.wait()
                running.cancel()
                await asyncio.wait({running})
                assert running.cancelled()
                await case.adapter.collect(attempt, handle)

        self._play(tmp_path, test)

    def test_files_are_collected_whatever_the_verdict(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("leaves_files")
            async with case.provisioned(attempt) as handle:
                exit_ = await case.run(attempt, handle)
                assert exit_ == Exit(ended="exited", code=1)
                collected = await case.adapter.collect(attempt, handle)
                assert collected.refused == ()
                check_files(collected)

        self._play(tmp_path, test)

    def test_globs_that_climb_out_are_refused(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            for glob in ("../*", "~/*", "/etc/*", "a\\b", "."):
                attempt = case.attempt("passes", artifacts=(glob,))
                error = await raised(AdapterError, case.adapter.provision(attempt))
                assert (error.code, error.retriable) == ("glob_refused", False)
                assert error.fault == "asker"
                assert repr(glob) in str(error)
                await case.adapter.teardown(case.adapter.handle_for(attempt.id, attempt.bench))

        self._play(tmp_path, test)

    def test_a_test_that_removes_its_workspace_has_its_own_result(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            exit_, collected = await case.through("removes_workspace")
            assert exit_ == Exit(ended="exited", code=0)
            assert collected.found == ()

        self._play(tmp_path, test)

    def test_nothing_is_collected_of_what_stands_in_the_place_of_a_workspace(
        self, tmp_path: Path
    ) -> None:
        async def test(case: "Case") -> None:
            exit_, collected = await case.through("replaces_workspace")
            assert exit_ == Exit(ended="exited", code=0)
            assert collected.found == ()

        self._play(tmp_path, test)

    def test_files_in_trees_of_any_depth_are_collected(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("leaves_deep_tree", artifacts=("**/leaf.bin",))
            async with case.provisioned(attempt) as handle:
                assert await case.run(attempt, handle) == Exit(ended="exited", code=0)
                (leaf,) = (await case.adapter.collect(attempt, handle)).found
                assert leaf.path.count("/") == DEPTH
                assert len(await asyncio.to_thread(content_of, leaf)) == leaf.size_bytes
            assert not case.rig.is_kept(handle)

        self._play(tmp_path, test)

    def test_files_of_any_name_are_collected(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("leaves_odd_names")
            async with case.provisioned(attempt) as handle:
                assert await case.run(attempt, handle) == Exit(ended="exited", code=0)
                found = (await case.adapter.collect(attempt, handle)).found
                assert sorted(each.path for each in found) == sorted(
                    f"out/{name}" for name in ODD_NAMES
                )
                for each in found:
                    assert len(await asyncio.to_thread(content_of, each)) == each.size_bytes
            assert not case.rig.is_kept(handle)

        self._play(tmp_path, test)

    def test_teardown_is_idempotent_and_needs_only_the_handle(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("passes")
            never = case.adapter.handle_for(attempt.id, attempt.bench)
            await case.adapter.teardown(never)
            handle = await case.adapter.provision(attempt)
            await case.adapter.teardown(handle)
            await case.adapter.teardown(handle)
            await case.rig.make().teardown(Handle(str(handle)))
            assert not case.rig.is_kept(handle)

        self._play(tmp_path, test)

    def test_a_later_life_tears_down_what_an_earlier_one_left(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            attempt = case.attempt("leaves_files")
            handle = await case.adapter.provision(attempt)
            await case.run(attempt, handle)
            later = case.rig.make()
            for left in await later.leftovers():
                assert left == handle
            await later.teardown(handle)
            assert not case.rig.is_kept(handle)
            assert list(await case.rig.make().leftovers()) == []

        self._play(tmp_path, test)

    def test_handles_of_others_are_refused(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            for text in ("", "{}", "[]", "null", '"x"', "no json", '{"adapter": "other"}'):
                error = await raised(InvalidHandle, case.adapter.teardown(Handle(text)))
                assert not error.retriable

        self._play(tmp_path, test)

    def test_attempts_do_not_disturb_each_other(self, tmp_path: Path) -> None:
        async def test(case: "Case") -> None:
            passing = [case.attempt("passes") for _ in range(4)]
            hanging = case.attempt("hangs", timeout_s=1.0)
            async with asyncio.TaskGroup() as group:
                slow = group.create_task(case.whole(hanging))
                quick = [group.create_task(case.whole(attempt)) for attempt in passing]
            assert slow.result()[0].ended == "timeout"
            assert [task.result()[0].code for task in quick] == [0, 0, 0, 0]

        self._play(tmp_path, test)

    def _play(self, tmp_path: Path, test: "Callable[[Case], Awaitable[None]]") -> None:
        async def limited() -> None:
            async with asyncio.timeout(LIMIT_S):
                await test(Case(self.rig(tmp_path)))

        asyncio.run(limited())
