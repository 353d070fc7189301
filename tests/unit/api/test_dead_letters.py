"""Dead letters over a log in memory with the real scheduler: found, shown, put back, discarded."""

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from events.codec import decode_task, encode
from events.commands import QuarantineBench
from events.dlq import DeadLetter
from events.errors import LogUnavailable
from events.letters import REPLAYED_FROM
from events.log import Outgoing
from events.message import Message
from events.shared import CommandMeta
from events.tasks import RunAttempt
from events.topics import INPUT_BYTES_MAX, OUTPUT_BYTES_MAX
from tests.unit.api.lab import TOPICS, Lab, in_lab

LETTERS = "/v1/dead-letters"
OLGA = "t-olga"
RUN = {"run": {"command": ["true"], "env": {"A": "1"}}, "retries": 0}


async def letters(lab: Lab, count: int, query: str = "") -> list[dict[str, Any]]:
    """Return the letters once there are `count`."""
    found: list[dict[str, Any]] = []

    async def are_there() -> bool:
        answer = await lab.call("GET", f"{LETTERS}?{query}", token="t-eve", status=200)
        found[:] = answer.json()["items"]
        return len(found) == count

    await lab.until(are_there)
    return found


async def broken_execution(lab: Lab, **more: Any) -> dict[str, Any]:
    """Return the letter of an execution that the lab could not run."""
    execution = await lab.submit(**RUN, **more)
    started = await lab.started(execution["id"])
    await lab.ended(started, verdict="error", is_retriable=True)
    (letter,) = await letters(lab, 1, "kind=execution&status=open")
    assert letter["execution_id"] == execution["id"]
    return letter


async def poison(lab: Lab, value: bytes | None, *, topic: str = TOPICS.commands) -> None:
    await lab.deps.log.append([Outgoing(topic=topic, key=b"lab", value=value)])


def command(command_id: str, *, issued_at: datetime) -> bytes:
    meta = CommandMeta(
        command_id=command_id,
        pool="lab",
        actor="ann",
        roles=("operator",),
        issued_at=issued_at,
        correlation_id="",
        traceparent="",
        request_hash="h",
    )
    return encode(Message(meta, QuarantineBench(bench="bench-1", reason="by hand")))


def test_an_execution_replayed_twice_runs_once_more(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        letter = await broken_execution(lab)
        assert (letter["status"], letter["pool"], letter["kind"]) == ("open", "lab", "execution")
        path = f"{LETTERS}/{letter['id']}"
        whole = (await lab.call("GET", path, token="t-eve", status=200)).json()
        assert whole["value"]["type"] == "SubmitExecution"
        assert whole["value"]["data"]["run"]["command"] == ["true"]
        assert (whole["undecodable"], whole["value_hex"]) == ("", "")

        body = {"reason": "power is back"}
        first = (await lab.call("POST", f"{path}/replay", body, token=OLGA, status=200)).json()
        assert (first["is_put_back"], first["outcome"]) == (True, "accepted")
        assert (first["status"], first["settled_by"]) == ("replayed", "olga")
        assert first["settled_reason"] == "power is back"
        again = (await lab.call("POST", f"{path}/replay", token=OLGA, status=200)).json()
        assert (again["is_put_back"], again["replays"]) == (False, 2)
        assert again["new_execution_id"] == first["new_execution_id"] != letter["execution_id"]
        listed = (await lab.call("GET", "/v1/executions", status=200)).json()["items"]
        assert {each["id"] for each in listed} == {
            letter["execution_id"],
            first["new_execution_id"],
        }
        started = await lab.started(first["new_execution_id"])
        await lab.ended(started)
        assert (await lab.finished(started["id"]))["verdict"] == "passed"
        assert await letters(lab, 0, "status=open") == []

    in_lab(scene, tmp_path)


def test_what_nobody_can_read_is_shown_in_hex_and_goes_back_by_force_only(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        await poison(lab, b"not avro at all")
        (letter,) = await letters(lab, 1)
        assert (letter["kind"], letter["source_topic"]) == ("record", TOPICS.commands)
        assert letter["error"].startswith("Undecodable: ")
        path = f"{LETTERS}/{letter['id']}"
        whole = (await lab.call("GET", path, status=200)).json()
        assert whole["value_hex"] == "", "it may hold anything, also a secret"
        whole = (await lab.call("GET", path, token=OLGA, status=200)).json()
        assert bytes.fromhex(whole["value_hex"]) == b"not avro at all"
        assert whole["key"] == "lab"
        assert "Traceback" in whole["stack"]
        assert "Confluent" in whole["undecodable"]

        refused = await lab.call("POST", f"{path}/replay", token=OLGA, status=409)
        assert refused.json()["code"] == "letter_undecodable"
        assert "--force" in refused.json()["detail"]
        (same,) = await letters(lab, 1)
        assert same["status"] == "open", "what is refused leaves no fact"

        forced = await lab.call("POST", f"{path}/replay", {"force": True}, token=OLGA, status=200)
        assert (forced.json()["is_put_back"], forced.json()["command_id"]) == (True, None)
        second, first = await letters(lab, 2)
        assert (first["status"], second["status"]) == ("replayed", "open")
        assert second["source_offset"] == forced.json()["put_back_offset"]
        came = (await lab.call("GET", f"{LETTERS}/{second['id']}", status=200)).json()
        assert came["headers"][REPLAYED_FROM] == first["id"]

        done = await lab.call(
            "POST", f"{LETTERS}/{second['id']}/discard", {"reason": "noise"}, token=OLGA, status=200
        )
        assert (done.json()["status"], done.json()["settled_reason"]) == ("discarded", "noise")
        assert await letters(lab, 0, "status=open") == []

    in_lab(scene, tmp_path)


def test_a_letter_that_is_cut_says_so_and_never_goes_back(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        value = b"ab" * OUTPUT_BYTES_MAX
        # As a record that was compressed until it was read.
        lab.cluster.put(Outgoing(topic=TOPICS.commands, key=b"lab", value=value))
        lab.cluster.wake()
        (letter,) = await letters(lab, 1)
        assert (letter["is_cut"], letter["size_bytes"]) == (True, len(value))
        path = f"{LETTERS}/{letter['id']}"
        whole = (await lab.call("GET", path, status=200)).json()
        assert whole["sha256"] == sha256(value).hexdigest()
        assert INPUT_BYTES_MAX < whole["held_bytes"] < OUTPUT_BYTES_MAX
        assert value.startswith(bytes.fromhex(whole["value_hex"]))
        for body in ({}, {"force": True}):
            refused = await lab.call("POST", f"{path}/replay", body, token=OLGA, status=409)
            assert refused.json()["code"] == "letter_cut"
            place = f"{TOPICS.commands}, partition {letter['source_partition']}, offset"
            assert place in refused.json()["detail"]
        (same,) = await letters(lab, 1)
        assert same["status"] == "open", "what is refused leaves no fact"
        body = {"reason": "its sender was stopped"}
        await lab.call("POST", f"{path}/discard", body, token=OLGA, status=200)

    in_lab(scene, tmp_path)


def test_what_its_topic_does_not_take_back_is_said(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        await poison(lab, b"x" * 2_000)
        (letter,) = await letters(lab, 1)
        assert (letter["is_cut"], letter["size_bytes"]) == (False, 2_000)
        lab.cluster.bytes_max[TOPICS.commands] = 1_000
        path = f"{LETTERS}/{letter['id']}/replay"
        refused = await lab.call("POST", path, {"force": True}, token=OLGA, status=409)
        assert refused.json()["code"] == "letter_not_replayable"
        assert "takes no record as big" in refused.json()["detail"]

    in_lab(scene, tmp_path)


def test_who_may_and_what_is_not_there(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        await poison(lab, b"x")
        (letter,) = await letters(lab, 1)
        path = f"{LETTERS}/{letter['id']}"
        await lab.call("GET", LETTERS, token="t-nobody", status=403)
        await lab.call("POST", f"{path}/replay", {"force": True}, status=403)
        await lab.call("POST", f"{path}/discard", {"reason": "r"}, token="t-eve", status=403)
        await lab.call("POST", f"{path}/discard", {"reason": ""}, token=OLGA, status=422)
        await lab.call("POST", f"{path}/discard", token=OLGA, status=422)
        for unknown in ("0-999", "99999-0", "nonsense", "0-0-0"):
            for method, verb, body in (
                ("GET", "", None),
                ("POST", "/replay", None),
                ("POST", "/discard", {"reason": "r"}),
            ):
                target = f"{LETTERS}/{unknown}{verb}"
                answer = await lab.call(method, target, body, token=OLGA, status=404)
                assert answer.json()["code"] == "no_such_dead_letter"
                told, _, hint = answer.json()["detail"].rpartition("; ")
                is_id = unknown in ("0-999", "99999-0")
                why = "retention" if is_id else "partition-offset, as in 3-17"
                assert told.startswith(f"there is no dead letter {unknown}; ")
                assert why in told
                assert hint == "see those that are kept with `teo dlq list --status ''`"
                assert "teo dlq list" in answer.json()["detail"]
        await lab.call("GET", f"{LETTERS}?cursor=x", status=422)

    in_lab(scene, tmp_path)


def test_the_list_is_newest_first_over_all_partitions_part_by_part(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        for number in range(25):
            letter = DeadLetter(
                source_topic=TOPICS.reports,
                source_partition=0,
                source_offset=number,
                source_timestamp=at,
                key=f"k{number}".encode(),
                value=b"x",
                headers={},
                error=f"e{number}",
                stack="",
                found_by="test",
                found_at=at.replace(minute=number),
                pool="odd" if number % 2 else "even",
            )
            record = Outgoing(topic=TOPICS.dlq, key=letter.key, value=encode(letter))
            await lab.deps.log.append([record])
        await lab.deps.log.append([Outgoing(topic=TOPICS.dlq, key=b"s", value=b"a stranger")])

        async def walk(query: str, limit: int) -> list[str]:
            found: list[str] = []
            cursor = ""
            while True:
                path = f"{LETTERS}?limit={limit}{query}{cursor}"
                part = (await lab.call("GET", path, status=200)).json()
                assert len(part["items"]) <= limit
                found += [each["error"] for each in part["items"]]
                if part["next_cursor"] is None:
                    return found
                cursor = f"&cursor={part['next_cursor']}"

        whole = await walk("", 100)
        assert [e for e in whole if e.startswith("e")] == [f"e{n}" for n in range(24, -1, -1)]
        assert sum("is no dead letter" in each for each in whole) == 1
        assert sorted(await walk("", 7)) == sorted(whole)
        assert await walk("&pool=odd", 5) == [f"e{n}" for n in range(23, -1, -2)]
        assert await walk("&status=replayed,discarded", 5) == []

    in_lab(scene, tmp_path, has_scheduler=False)


def test_a_log_that_takes_nothing_back_says_so_and_the_replay_is_repeated(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        letter = await broken_execution(lab)
        path = f"{LETTERS}/{letter['id']}/replay"
        log = lab.deps.log
        append = log.append
        calls = 0

        async def second_fails(records: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise LogUnavailable("a cable was pulled")
            return await append(records)

        log.append = second_fails  # type: ignore[method-assign]
        key = {"Idempotency-Key": "once"}
        refused = await lab.call("POST", path, token=OLGA, headers=key, status=503)
        assert refused.json()["code"] == "letter_not_put_back"
        assert "repeat" in refused.json()["detail"]
        done = (await lab.call("POST", path, token=OLGA, headers=key, status=200)).json()
        assert (done["is_put_back"], done["replays"]) == (True, 1)
        assert done["outcome"] == "accepted"

    in_lab(scene, tmp_path)


def test_a_fact_is_never_put_back(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        at = datetime(2026, 1, 1, tzinfo=UTC)
        letter = DeadLetter(
            source_topic=TOPICS.events,
            source_partition=0,
            source_offset=0,
            source_timestamp=at,
            key=b"lab",
            value=command("c", issued_at=at),
            headers={},
            error="e",
            stack="",
            found_by="test",
            found_at=at,
        )
        await lab.deps.log.append([Outgoing(topic=TOPICS.dlq, key=b"lab", value=encode(letter))])
        (found,) = await letters(lab, 1)
        path = f"{LETTERS}/{found['id']}/replay"
        refused = await lab.call("POST", path, {"force": True}, token=OLGA, status=409)
        assert refused.json()["code"] == "letter_not_replayable"

    in_lab(scene, tmp_path)


def test_a_replayed_command_keeps_its_id(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        at = lab.cluster.now()
        value = command("c-by-hand", issued_at=at)
        letter = DeadLetter(
            source_topic=TOPICS.commands,
            source_partition=lab.deps.log.partition_for(b"lab", 2),
            source_offset=0,
            source_timestamp=at,
            key=b"lab",
            value=value,
            headers={"ce_type": b"QuarantineBench"},
            error="RuntimeError: a decider that was mended since",
            stack="",
            found_by="test",
            found_at=at,
            pool="lab",
        )
        await lab.deps.log.append([Outgoing(topic=TOPICS.dlq, key=b"lab", value=encode(letter))])
        (found,) = await letters(lab, 1)
        path = f"{LETTERS}/{found['id']}/replay"
        done = (await lab.call("POST", path, token=OLGA, status=200)).json()
        assert (done["command_id"], done["outcome"]) == ("c-by-hand", "accepted")
        written = lab.cluster.all_records(TOPICS.commands)[-1]
        assert (written.value, written.key) == (value, b"lab")
        outcome = (await lab.call("GET", "/v1/commands/c-by-hand", status=200)).json()
        assert outcome["type"] == "QuarantineBench"
        bench = (await lab.call("GET", "/v1/pools/lab/benches/bench-1", status=200)).json()
        assert bench["state"] == "quarantined"

    in_lab(scene, tmp_path)


def test_a_letter_shows_names_of_variables_and_puts_back_their_values(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        letter = await broken_execution(lab)
        path = f"{LETTERS}/{letter['id']}"
        whole = (await lab.call("GET", path, token=OLGA, status=200)).json()
        assert whole["value"]["data"]["run"]["env"] == {"A": "***"}
        done = await lab.call("POST", f"{path}/replay", token=OLGA, status=200)
        again = await lab.started(done.json()["execution_id"])
        (task,) = [
            message.body
            for record in lab.cluster.all_records(TOPICS.tasks)
            if isinstance((message := decode_task(record.value)).body, RunAttempt)
            and message.body.execution_id == again["id"]
        ]
        assert task.run.env == {"A": "1"}

    in_lab(scene, tmp_path)
