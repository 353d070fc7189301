"""Keys and outcomes where clocks are wrong: one key in a pool is one command, and all are told."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from events import facts
from events.codec import decode_command, decode_event, encode
from events.commands import ReleaseReservation
from events.log import Outgoing
from events.message import Message
from events.shared import CommandMeta
from processors.scheduler import core
from tests.unit.api.lab import TOPICS, Lab, in_lab, running

DAY_S = 24 * 3600.0
HOUR_S = 3600.0
KEY = {"Idempotency-Key": "one-key"}
PATH = "/v1/executions"
RUN = {"run": {"command": ["true"]}}


def submitted(lab: Lab) -> list[facts.ExecutionSubmitted]:
    """Return what was really submitted, by the journal."""
    events = (decode_event(each.value).body for each in lab.cluster.all_records(TOPICS.events))
    return [event for event in events if isinstance(event, facts.ExecutionSubmitted)]


def aside(lab: Lab) -> list[facts.InputSetAside]:
    """Return what was set aside, by the journal."""
    events = (decode_event(each.value).body for each in lab.cluster.all_records(TOPICS.events))
    return [event for event in events if isinstance(event, facts.InputSetAside)]


@asynccontextmanager
async def another(lab: Lab, folder: Path, *, ahead_s: float) -> AsyncIterator[Lab]:
    """Run one more API of the same lab, on a machine whose clock is wrong."""
    async with running(lab.cluster, folder / "another", wall_ahead_s=ahead_s) as other:
        yield other


async def four(lab: Lab, body: dict[str, Any]) -> set[str]:
    """Send the same request four times under one key; return the ids that are answered."""
    first = await lab.call("POST", PATH, body, headers=KEY, status=201)
    others = [await lab.call("POST", PATH, body, headers=KEY, status=201) for _ in range(3)]
    return {answer.json()["id"] for answer in (first, *others)}


def test_one_key_to_three_pools_at_once_is_three_commands_each_with_its_own_outcome(
    tmp_path: Path,
) -> None:
    async def scene(lab: Lab) -> None:
        pools = ("north", "south", "west")
        for pool in pools:
            await lab.benches("bench-1", pool=pool)
        for turn in range(5):
            key = {"Idempotency-Key": f"key-{turn}"}
            answers: list[httpx.Response] = await asyncio.gather(
                *(lab.call("POST", PATH, {**RUN, "pool": p}, headers=key) for p in pools * 2)
            )
            assert [answer.status_code for answer in answers] == [201] * 6
            told = [(a.json()["pool"], a.json()["id"]) for a in answers]
            assert Counter(pool for pool, _ in set(told)) == Counter(pools)
            assert len({a.headers["teo-command-id"] for a in answers}) == 3
        assert len(submitted(lab)) == 15

    in_lab(scene, tmp_path, partitions=4)


@pytest.mark.parametrize("ahead_s", [25 * HOUR_S, -25 * HOUR_S, 400 * DAY_S, -400 * DAY_S])
def test_a_repeat_through_an_api_whose_clock_is_wrong_is_one_execution(
    tmp_path: Path, ahead_s: float
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        body = {**RUN, "pool": "lab"}
        ids = await four(lab, body)
        async with another(lab, tmp_path, ahead_s=ahead_s) as other:
            ids |= await four(other, body)
            answer = await other.call("POST", PATH, {**body, "priority": 1}, headers=KEY)
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
        assert len(ids) == len(submitted(lab)) == 1

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("ahead_s", [25 * HOUR_S, -25 * HOUR_S])
def test_an_api_whose_clock_is_wrong_from_the_start_serves(tmp_path: Path, ahead_s: float) -> None:
    """It knows no better until the log has stamped its first command: that one is sent again."""

    async def scene(lab: Lab) -> None:
        async with another(lab, tmp_path, ahead_s=ahead_s) as other:
            await other.benches("bench-1")
            ids = await four(other, {**RUN, "pool": "lab"})
            ids |= await four(lab, {**RUN, "pool": "lab"})
            assert len(ids) == len(submitted(lab)) == 1
            assert [each.code for each in aside(lab)] == ["too_late"] * (ahead_s < 0)

    in_lab(scene, tmp_path)


def test_a_key_is_used_again_a_day_later_by_the_log_and_not_by_the_machine(
    tmp_path: Path,
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        body = {**RUN, "pool": "lab"}
        first = await four(lab, body)
        lab.cluster.clock_ahead_s += 25 * HOUR_S
        assert await four(lab, body) == first, "no time passed: a clock was set"
        assert len(submitted(lab)) == 1

    in_lab(scene, tmp_path)


def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the decider fail over each release."""
    decide = core.decide_command

    def decided(pool: Any, command: Any, *given: Any) -> Any:
        if isinstance(command, ReleaseReservation):
            raise ZeroDivisionError
        return decide(pool, command, *given)

    monkeypatch.setattr(core, "decide_command", decided)


def test_a_command_that_nobody_can_decide_is_answered_with_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        reservation = (await lab.call("POST", "/v1/reservations", {"pool": "lab"})).json()
        poison(monkeypatch)
        path = f"/v1/reservations/{reservation['id']}"
        answer = await lab.call("DELETE", path, headers=KEY, status=409)
        body = answer.json()
        assert body["code"] == "command_set_aside"
        assert "could not be decided (crashed): ZeroDivisionError" in body["detail"]
        assert "`teo dlq list`" in body["detail"]
        again = await lab.call("DELETE", path, headers=KEY, status=409)
        assert again.json() == body
        outcome = await lab.call("GET", f"/v1/commands/{body['command_id']}", status=200)
        assert (outcome.json()["status"], outcome.json()["code"]) == ("set_aside", "crashed")
        # Mended, a replay has it decided: then that is its outcome.
        monkeypatch.undo()
        (letter,) = (await lab.call("GET", "/v1/dead-letters", status=200)).json()["items"]
        replay = f"/v1/dead-letters/{letter['id']}/replay"
        done = (await lab.call("POST", replay, {}, token="t-olga", status=200)).json()
        assert (done["is_put_back"], done["outcome"]) == (True, "accepted")
        assert (await lab.call("DELETE", path, headers=KEY, status=200)).json()["status"] == (
            "released"
        )

    in_lab(scene, tmp_path)


def test_a_replay_of_what_is_poison_still_is_set_aside_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        reservation = (await lab.call("POST", "/v1/reservations", {"pool": "lab"})).json()
        poison(monkeypatch)
        await lab.call("DELETE", f"/v1/reservations/{reservation['id']}", status=409)
        (letter,) = (await lab.call("GET", "/v1/dead-letters", status=200)).json()["items"]
        replay = f"/v1/dead-letters/{letter['id']}/replay"
        done = (await lab.call("POST", replay, {}, token="t-olga", status=200)).json()
        assert (done["is_put_back"], done["outcome"]) == (True, "set_aside")
        assert "ZeroDivisionError" in done["outcome_reason"]

    in_lab(scene, tmp_path)


def test_a_command_of_a_version_that_nobody_reads_is_answered_by_its_header(
    tmp_path: Path,
) -> None:
    async def scene(lab: Lab) -> None:
        record = Outgoing(
            topic=TOPICS.commands,
            key=b"lab",
            value=b"of another version",
            headers={"ce_id": b"command-9", "ce_type": b"SubmitExecution"},
        )
        await lab.deps.log.append([record])

        async def is_told() -> bool:
            return (await lab.call("GET", "/v1/commands/command-9")).status_code == 200

        await lab.until(is_told)
        outcome = (await lab.call("GET", "/v1/commands/command-9", status=200)).json()
        assert (outcome["status"], outcome["code"]) == ("set_aside", "undecodable")

    in_lab(scene, tmp_path)


def test_what_is_set_aside_never_hides_what_was_decided(tmp_path: Path) -> None:
    """A copy that comes a day late is set aside; its command has the outcome it had."""

    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        answer = await lab.call("POST", PATH, {**RUN, "pool": "lab"}, headers=KEY, status=201)
        records = lab.cluster.all_records(TOPICS.commands)
        copy = decode_command(records[-1].value)
        old = CommandMeta(
            **{
                name: getattr(copy.meta, name)
                for name in CommandMeta.__dataclass_fields__
                if name != "issued_at"
            },
            issued_at=copy.meta.issued_at.replace(year=copy.meta.issued_at.year - 1),
        )
        value = encode(Message(old, copy.body))
        await lab.deps.log.append([Outgoing(topic=TOPICS.commands, key=b"lab", value=value)])

        async def is_aside() -> bool:
            return bool(aside(lab))

        await lab.until(is_aside)
        await asyncio.sleep(0.1)
        outcome = await lab.call("GET", f"/v1/commands/{copy.meta.command_id}", status=200)
        assert outcome.json()["status"] == "accepted"
        assert answer.headers["teo-command-id"] == copy.meta.command_id

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("ahead_s", [7_200.0, -7_200.0])
def test_a_clock_that_is_off_is_said_and_serves_all_the_same(
    tmp_path: Path, ahead_s: float
) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        checks = (await lab.call("GET", "/readyz", status=200)).json()["checks"]
        assert checks["clock"]["is_ok"]
        async with another(lab, tmp_path, ahead_s=ahead_s) as other:
            checks = (await other.call("GET", "/readyz", status=200)).json()["checks"]
            assert checks["clock"] == {"is_ok": True, "detail": "not measured yet"}
            with capture_logs() as logs:
                for _ in range(2):
                    await other.call("POST", PATH, {**RUN, "pool": "lab"}, status=201)
            answer = (await other.call("GET", "/readyz", status=200)).json()
            way = "ahead of" if ahead_s > 0 else "behind"
            assert answer["status"] == "degraded"
            assert not answer["checks"]["clock"]["is_ok"]
            assert (
                f"7200 s {way} the log's time: set the clock" in answer["checks"]["clock"]["detail"]
            )
            assert [each["event"] for each in logs].count("clock.off") == 1
            page = (await other.call("GET", "/", status=200)).text
            assert "Clocks differ:" in page

    in_lab(scene, tmp_path)
