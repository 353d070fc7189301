"""Dead letters on a real Kafka, with the real scheduler, worker, projection and API."""

import asyncio
from typing import Any

import pytest

from events.codec import decode
from events.commands import SubmitExecution
from events.log import Outgoing
from events.shared import RunSpec
from tests.integration.small_lab import SmallLab
from tests.on_log import command_of

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

LETTERS = "/v1/dead-letters"


async def letters(lab: SmallLab, count: int, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def are_there() -> bool:
        found[:] = await lab.items(f"{LETTERS}?{query}")
        return len(found) == count

    await lab.until(are_there, f"{count} letters {query}")
    return found


async def replay(lab: SmallLab, letter: dict[str, Any], **body: Any) -> dict[str, Any]:
    answer: dict[str, Any] = await lab.call("POST", f"{LETTERS}/{letter['id']}/replay", body)
    return answer


def test_poison_is_shown_put_back_and_comes_back(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("bench-1")
        cut = await a_command(lab, "c-cut", "exe-cut")
        poison = [
            Outgoing(topic=lab.topics.commands, key=b"lab", value=b"\x01no avro"),
            Outgoing(topic=lab.topics.commands, key=b"lab", value=cut[:-7]),
            Outgoing(topic=lab.topics.commands, key=b"\xff\xfe", value=None),
            Outgoing(topic=lab.topics.reports, key=b"lab", value=cut),
        ]
        await lab.log.append(poison)
        found = await letters(lab, 4)
        held = {}
        for letter in found:
            whole = await lab.call("GET", f"{LETTERS}/{letter['id']}")
            held[letter["source_topic"], bytes.fromhex(whole["value_hex"])] = whole
            assert whole["undecodable"]
            await lab.call("POST", f"{LETTERS}/{letter['id']}/replay", status=409)
        assert set(held) == {(each.topic, each.value or b"") for each in poison}
        garbled = held[lab.topics.commands, b""]
        assert garbled["key"] == "\\xff\\xfe"

        done = await replay(lab, garbled, force=True, reason="to see")
        assert (done["is_put_back"], done["settled_reason"]) == (True, "to see")
        (again,) = [each for each in await letters(lab, 4, "status=open") if each not in found]
        assert again["source_offset"] == done["put_back_offset"]
        for letter in await letters(lab, 4, "status=open"):
            body = {"reason": "noise"}
            await lab.call("POST", f"{LETTERS}/{letter['id']}/discard", body)
        assert await letters(lab, 0, "status=open") == []
        assert len(await letters(lab, 4, "status=discarded")) == 4
        # The partition went on all the while, and each settlement is an event with its actor.
        await lab.benches("bench-2")
        settled = [
            message
            for record in await lab.records(lab.topics.events)
            if "DeadLetter" in type((message := decode(record.value)).body).__name__
        ]
        assert [message.meta.actor for message in settled] == ["olga"] * 5

    play(scene)


async def a_command(lab: SmallLab, command_id: str, execution_id: str) -> bytes:
    run = RunSpec(command=("true",), env={}, timeout_s=60.0, junit=(), artifacts=())
    body = SubmitExecution(execution_id=execution_id, selector="", priority=0, retries=0, run=run)
    return command_of(command_id, body, roles=("user",))


def test_an_execution_out_of_retries_replayed_twice_runs_once_more(play: Any) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("bench-1", provision={"fail": "no power"})
        lab.worker("w-1")
        first = await lab.submit(retries=1)
        ended = await lab.finished(first)
        assert (ended["verdict"], len(ended["attempts"])) == ("error", 2)
        (letter,) = await letters(lab, 1)
        assert (letter["execution_id"], letter["kind"]) == (first, "execution")
        assert "no power" in letter["error"]

        await lab.benches("bench-1")  # Mended.
        done, again = await asyncio.gather(
            replay(lab, letter, reason="mended"), replay(lab, letter)
        )
        assert done["new_execution_id"] == again["new_execution_id"] != first
        once_more = await replay(lab, letter)
        assert (once_more["is_put_back"], once_more["replays"]) == (False, 3)
        second = await lab.finished(done["new_execution_id"])
        assert (second["verdict"], second["owner"]) == ("passed", ended["owner"])
        executions = await lab.items("/v1/executions")
        assert {each["id"] for each in executions} == {first, done["new_execution_id"]}
        results = [decode(record.value) for record in await lab.records(lab.topics.results)]
        # In order within a partition only.
        told = sorted(each.execution_id for each in results)
        assert told == sorted([first, done["new_execution_id"]])
        assert await letters(lab, 1) != []

    play(scene)
