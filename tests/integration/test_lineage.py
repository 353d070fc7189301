"""Topics that are not what the journal knows, on a real broker: lost, spoiled or changed."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from api import limits
from cli import topic_guard
from cli.roles import scheduler_role
from events import facts
from events.codec import decode_event, encode
from events.errors import Undecodable
from events.kafka.admin import ensure_topics
from events.kafka.log import KafkaLog
from events.kafka.mending import make_anew
from events.log import Outgoing, Record
from events.message import EventMessage
from events.topics import Topics, TopicSpec, specs
from tests.integration.small_lab import OPERATOR, SmallLab, small_lab
from tests.integration.test_topics import alter

pytestmark = [pytest.mark.broker, pytest.mark.timeout(200)]

VERB_S_MAX = 90.0
PARTITIONS = 1
WAIT_S = 60.0


def spec_of(topics: Topics, name: str) -> TopicSpec:
    [found] = [s for s in specs(topics, partitions=PARTITIONS, min_insync=1) if s.name == name]
    return found


async def teo(lab: SmallLab, *arguments: str, code: int = 0) -> str:
    """Run a verb that speaks to this lab's Kafka; return what it says."""
    where = ["--kafka", lab.kafka, "--topic-prefix", lab.topics.prefix]
    return await run_teo(*arguments, *where, code=code)


async def run_teo(*arguments: str, code: int = 0) -> str:
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=VERB_S_MAX,
        check=False,
    )
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout + done.stderr


async def told_to_do(lab: SmallLab, said: str) -> str:
    """Do what the first advice in `said` says, as it stands there; return what that says."""
    [advice, *_] = re.findall(r"`teo ([^`]+)`", said)
    words = advice.replace("TEXT", "lost").split()
    where = [] if "--kafka" in words else ["--kafka", lab.kafka]
    sure = ["-y"] if words[0] == "journal" else []
    return await run_teo(*words, *where, *sure)


async def is_clean(lab: SmallLab) -> None:
    said = await teo(lab, "fsck")
    assert "clean: everything agrees" in said


async def journal(lab: SmallLab) -> list[EventMessage]:
    found: list[EventMessage] = []
    for record in await lab.records(lab.topics.events):
        try:
            found.append(decode_event(record.value))
        except Undecodable:
            continue
    return found


async def names(lab: SmallLab, *wanted: str) -> None:
    """Wait until these benches are known."""

    async def are_known() -> bool:
        known = {item["name"] for item in await lab.items("/v1/benches?pool=lab")}
        return known >= set(wanted)

    await lab.until(are_known, f"{wanted} are known")


async def resets(lab: SmallLab) -> list[facts.InputsReset]:
    return [e.body for e in await journal(lab) if isinstance(e.body, facts.InputsReset)]


def play(kafka: str, prefix: str, folder: Path, scene: Any) -> None:
    async def whole() -> None:
        async with small_lab(kafka, prefix, folder, partitions=PARTITIONS) as lab:
            await scene(lab)

    asyncio.run(whole())


def test_commands_of_a_topic_made_anew_under_a_running_system_are_all_decided(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scene(lab: SmallLab) -> None:
        for number in range(4):
            await lab.benches(f"old{number}")
        commands = await lab.records(lab.topics.commands)
        await make_anew(kafka, spec_of(lab.topics, lab.topics.commands), replication=1)
        # More at once than there were: what fills the gap lies before the old position.
        again = [_copy(lab, commands[0], f"new{number}") for number in range(9)]
        await lab.log.append(again)
        await names(lab, *(f"new{number}" for number in range(9)))
        [reset] = await resets(lab)
        assert (reset.topic, reset.next_offset, reset.was_offset) == (lab.topics.commands, 0, 4)
        await is_clean(lab)

    play(kafka, topic_prefix, tmp_path, scene)


def _copy(lab: SmallLab, record: Record, name: str) -> Outgoing:
    """A command like `record`, of another bench."""
    from dataclasses import replace

    from events.codec import decode_command
    from events.commands import ApplyBenches

    message = decode_command(record.value)
    assert isinstance(message.body, ApplyBenches)
    [bench] = message.body.benches
    body = ApplyBenches(benches=(replace(bench, name=name),))
    meta = replace(message.meta, command_id=f"c-{name}", request_hash=name)
    return Outgoing(
        topic=lab.topics.commands,
        key=record.key,
        value=encode(replace(message, meta=meta, body=body)),
    )


def test_after_a_power_cut_what_fills_the_gap_is_decided_and_the_rest_not_again(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    """The topic comes back with its first records only, and others are written behind them."""

    async def scene(lab: SmallLab) -> None:
        for number in range(5):
            await lab.benches(f"old{number}")
        commands = await lab.records(lab.topics.commands)
        await make_anew(kafka, spec_of(lab.topics, lab.topics.commands), replication=1)
        kept = [
            Outgoing(topic=r.topic, key=r.key, value=r.value, headers=r.headers)
            for r in commands[:3]
        ]
        await lab.log.append([*kept, *(_copy(lab, commands[0], f"new{n}") for n in range(4))])
        await names(lab, *(f"new{number}" for number in range(4)))
        assert (await resets(lab))[-1].next_offset in (0, 3)
        decided = [
            e.meta.causation_id
            for e in await journal(lab)
            if e.meta.request_hash and not e.meta.index
        ]
        assert len(decided) == len(set(decided)) == 9
        await is_clean(lab)

    play(kafka, topic_prefix, tmp_path, scene)


def test_without_its_journal_nothing_is_made_and_another_one_runs_nothing_again(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    topics = Topics(topic_prefix)

    async def before(lab: SmallLab) -> None:
        await lab.benches("b1", "b2")
        lab.worker("w1")
        done = await lab.finished(await lab.submit())
        assert done["verdict"] == "passed"

    play(kafka, topic_prefix, tmp_path / "one", before)

    async def after() -> None:
        await _delete(kafka, topics.events)
        async with KafkaLog(kafka, client_id="test") as log, httpx.AsyncClient() as http:
            lab = SmallLab(kafka=kafka, topics=topics, log=log, http=http, folder=tmp_path)
            commands = len(await lab.records(topics.commands))
            refused = await teo(lab, "init", "--partitions", str(PARTITIONS), code=3)
            assert f"{topics.events} not: what those held is lost" in refused
            assert "teo journal begin-anew" in refused
            assert topics.events not in await log.identify([topics.events]), "it was not made"
            missing = ["--make-missing", topics.events]
            await teo(lab, "init", "--partitions", str(PARTITIONS), *missing, code=3)
            unsure = await teo(lab, "journal", "begin-anew", "--reason", "r", code=2)
            assert "give -y if you are sure" in unsure
            said = await teo(lab, "journal", "begin-anew", "--reason", "disk lost", "-y")
            assert "partition 0 is begun anew; 1 benches keep their fences" in said
            said = await teo(lab, "journal", "begin-anew", "--reason", "twice", "-y", code=3)
            assert "nothing was changed" in said
            assert "is not begun anew" in said
            assert len(await lab.records(topics.commands)) == commands
            events = await journal(lab)
            held = [e.body for e in events if isinstance(e.body, facts.BenchHeld)]
            assert [each.fence for each in held] == [1], "the fence of the bench that was used"
            assert {e.meta.actor.partition(":")[0] for e in events} == {"operator"}

    asyncio.run(after())

    async def later(lab: SmallLab) -> None:
        results = len(await lab.records(topics.results))
        await lab.benches("b1", "b2")
        lab.worker("w2")
        await asyncio.sleep(3.0)
        assert len(await lab.records(topics.results)) == results, "nothing runs again"
        [used] = [
            item
            for item in await lab.items("/v1/benches?pool=lab")
            if item["state"] == "quarantined"
        ]
        assert "the journal was lost" in json.dumps(used)
        await lab.call("POST", f"/v1/pools/lab/benches/{used['name']}/restore", {})
        done = await lab.finished(await lab.submit(selector=f"n={used['name']}"))
        assert done["verdict"] == "passed"
        assigned = [
            e.body for e in await journal(lab) if isinstance(e.body, facts.ExecutionAssigned)
        ]
        assert [each.fence for each in assigned] == [2], "it rises from where it was"
        await is_clean(lab)

    play(kafka, topic_prefix, tmp_path / "two", later)


async def _delete(kafka: str, name: str) -> None:
    from aiokafka.admin import AIOKafkaAdminClient

    client = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await client.start()
    try:
        await client.delete_topics([name])
        async with KafkaLog(kafka, client_id="test") as log:
            while name in await log.identify([name]):  # noqa: ASYNC110 - nobody tells.
                await asyncio.sleep(0.1)
    finally:
        await client.close()


def test_a_lost_topic_is_made_only_if_it_is_named(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("b1")
        await _delete(kafka, lab.topics.results)
        refused = await teo(lab, "init", "--partitions", str(PARTITIONS), code=3)
        missing = ["--make-missing", lab.topics.results]
        other = str(PARTITIONS + 1)
        assert f"{other} are needed" in await teo(
            lab, "init", "--partitions", other, *missing, code=3
        )
        assert not await lab.log.identify([lab.topics.results]), "none of another shape is made"
        said = await told_to_do(lab, refused)
        assert f"{lab.topics.results}: created, {PARTITIONS} partitions" in said
        await lab.benches("b2")

        async def is_bound() -> bool:
            bound = [e.body for e in await journal(lab) if isinstance(e.body, facts.TopicsBound)]
            return len(bound) == 2 and lab.topics.results in bound[-1].reason

        await lab.until(is_bound, "the journal says that the topic was made anew")
        await _delete(kafka, lab.topics.snapshots)
        await teo(lab, "init", "--partitions", str(PARTITIONS))  # Only a short cut.

    play(kafka, topic_prefix, tmp_path, scene)


def test_a_journal_that_is_lost_with_the_commands_is_begun_anew(
    kafka: str, topic_prefix: str, tmp_path: Path
) -> None:
    async def scene(lab: SmallLab) -> None:
        await lab.benches("b1")
        lab.worker("w1")
        assert (await lab.finished(await lab.submit()))["verdict"] == "passed"
        for name in (lab.topics.events, lab.topics.commands):
            await _delete(kafka, name)
        refused = await teo(lab, "init", code=3)
        assert "partition 0 is begun anew" in await told_to_do(lab, refused)
        await teo(lab, "init")
        await lab.until(
            lambda: lab.log.identify([lab.topics.commands]), "the commands are there again"
        )

    play(kafka, topic_prefix, tmp_path, scene)


def test_junk_in_the_journal_is_told_by_the_api_and_let_go_by_an_operator(
    kafka: str, topic_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.partitions.PARTITIONS_ASK_S", 0.5)
    assert limits.PARTITION_STALE_S > 10 * 0.5

    async def scene(lab: SmallLab) -> None:
        await lab.benches("b1")
        await lab.until(lambda: _ready(lab, "ready"), "all partitions are served")
        last = (await lab.records(lab.topics.events))[-1]
        junk = [
            Outgoing(topic=lab.topics.events, key=b"lab", value=b"junk", partition=0),
            Outgoing(topic=lab.topics.events, key=b"lab", value=last.value, partition=0),
        ]
        offsets = [at.offset for at in await lab.log.append(junk)]
        body = {"pool": "lab", "run": {"command": ["true"]}}
        headers = {"Authorization": f"Bearer {OPERATOR}"}
        post = lab.http.post("/v1/executions", json=body, headers=headers)
        first = asyncio.ensure_future(post)  # It wakes the scheduler, which then stands still.
        ready = await lab.until(lambda: _ready(lab, "degraded"), "the API says what is not served")
        detail = ready["checks"]["partitions"]["detail"]
        assert "partition 0 is not served since" in detail
        assert f"quarantine-record --partition 0 --offset {offsets[0]}" in detail
        assert "(pools: lab)" in detail
        answer = await lab.call("POST", "/v1/executions", body, status=202)
        assert "journal_broken" in answer["detail"]
        verb = [
            "journal",
            "quarantine-record",
            "--partition",
            "0",
            "--reason",
            "a stray test",
            "-y",
        ]
        fact = ["--offset", str(last.offset)]
        assert "stays" in await teo(lab, *verb, *_offsets(offsets), *fact, code=3)
        alone = await teo(lab, *verb, "--offset", str(offsets[0]), code=3)
        assert f"offset {offsets[1]}" in alone, "it names the other one"
        said = await teo(lab, *verb, *_offsets(offsets))
        assert said.count("is passed over from now on") == 2
        await lab.until(lambda: _ready(lab, "ready"), "it is served again")
        lab.worker("w1")

        async def are_done() -> bool:
            found = await lab.items("/v1/executions")
            return len(found) == 2 and {item["status"] for item in found} == {"finished"}

        await lab.until(are_done, "both commands are decided and done")
        assert (await first).status_code in (201, 202)
        await is_clean(lab)

    play(kafka, topic_prefix, tmp_path, scene)


def _offsets(offsets: Sequence[int]) -> list[str]:
    return [word for offset in offsets for word in ("--offset", str(offset))]


async def _ready(lab: SmallLab, status: str) -> Any:
    found = (await lab.http.get("/readyz")).json()
    return found if found["status"] == status else None


def test_settings_changed_under_a_running_scheduler_are_said_and_so_is_their_mending(
    kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topic_guard, "LOOK_EVERY_S", 0.5)
    topics = Topics(topic_prefix)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def scenario() -> None:
        wanted = specs(topics, partitions=PARTITIONS, min_insync=1)
        await ensure_topics(kafka, wanted, replication=1)
        role = scheduler_role(
            kafka=kafka, prefix=topic_prefix, host="127.0.0.1", health_port=port, snapshot_every=10
        )
        stop = asyncio.Event()
        task = asyncio.ensure_future(role(stop))
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            lab = SmallLab(
                kafka=kafka, topics=topics, log=KafkaLog(kafka, client_id="t"), http=http,
                folder=Path(),
            )  # fmt: skip

            async def is_(status: str) -> Any:
                try:
                    found = (await http.get("/readyz")).json()
                except httpx.HTTPError:
                    return None
                serves = found.get("partitions", {}).get("0", {}).get("state") == "serving"
                return found if found["status"] == status and serves else None

            await lab.until(lambda: is_("ready"), "the scheduler serves")
            with capture_logs() as logs:
                await alter(
                    kafka, topics.events, cleanup_policy="compact", retention_ms="604800000"
                )
                found = await lab.until(lambda: is_("degraded"), "it is noticed")
                assert "cleanup.policy=compact" in found["topics"]
                assert "--mend` sets retention.ms=-1" in found["topics"]
                assert "retention.ms set to -1" in await told_to_do(lab, found["topics"])
                await lab.until(lambda: is_("ready"), "it is safe again")
            said = [(each["event"], each["log_level"]) for each in logs]
            assert ("topics.unsafe", "critical") in said
            assert ("topics.safe_again", "warning") in said
        stop.set()
        await task

    asyncio.run(scenario())
