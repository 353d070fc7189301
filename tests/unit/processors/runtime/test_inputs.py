"""Inputs that are not what the journal knows: topics made anew or shortened, other records."""

from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from events import facts
from events.codec import decode_event
from events.errors import Undecodable
from events.log import Partition
from events.message import EventMessage
from processors.audit.checkers import check_journal
from processors.runtime import inputs
from processors.runtime.footing import Footing
from processors.runtime.owner import Owner
from tests.on_log import asked
from tests.unit.processors.runtime.test_outage import TOPICS, Lab, play
from tests.unit.processors.scheduler.history import benches

COMMANDS = Partition(TOPICS.commands, 0)


def messages(lab: Lab) -> list[EventMessage]:
    """Return the events of the journal; what can be no event is left out."""
    found: list[EventMessage] = []
    for record in lab.cluster.records(TOPICS.events, 0):
        with suppress(Undecodable):
            found.append(decode_event(record.value))
    return found


def decided(lab: Lab) -> list[str]:
    """Return the commands that the journal has an outcome of, in order."""
    events = messages(lab)
    return [e.meta.causation_id for e in events if e.meta.request_hash and not e.meta.index]


def check(lab: Lab) -> None:
    check_journal(messages(lab))


def resets(events: list[Any]) -> list[facts.InputsReset]:
    return [event for event in events if isinstance(event, facts.InputsReset)]


async def begun(lab: Lab, count: int, **settings: Any) -> Owner:
    """Let so many commands be decided; return who did it."""
    for number in range(count):
        lab.ask(benches(f"b{number}"))
    owner = lab.start(**settings)
    await lab.settled()
    assert len(decided(lab)) == count
    return owner


def test_commands_of_a_topic_that_was_made_anew_are_decided_from_its_begin() -> None:
    """Deleted while nobody decided; as many as before have come since, and some more."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.make_anew(TOPICS.commands)
        for number in range(8):
            lab.ask(benches(f"new{number}"))
        with capture_logs() as logs:
            lab.start()
            found = await lab.settled()
        [reset] = resets(found)
        assert (reset.topic, reset.next_offset, reset.was_offset) == (TOPICS.commands, 0, 5)
        assert reset.topic_id == f"{TOPICS.commands}#2"
        assert "made anew" in reset.reason
        [said] = [each for each in logs if each["event"] == "partition.inputs_reset"]
        assert said["log_level"] == "critical"
        bound = [event for event in found if isinstance(event, facts.TopicsBound)]
        assert [each.topics[TOPICS.commands] for each in bound] == [f"{TOPICS.commands}#2"]
        assert decided(lab) == [f"c{number}" for number in range(13)]
        check(lab)

    play(scene)


@pytest.mark.parametrize("count", [1, 5, 9])
def test_a_topic_that_is_made_anew_under_a_running_owner_is_noticed(count: int) -> None:
    """Its reader meets the end, or is just there, or finds records behind it."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        lab.cluster.make_anew(TOPICS.commands)
        for number in range(count):
            lab.ask(benches(f"new{number}"))
        await lab.settled()
        assert decided(lab) == [f"c{number}" for number in range(5 + count)]
        check(lab)

    play(scene)


@pytest.mark.parametrize("refill", [0, 1, 2, 3])
def test_inputs_that_are_shortened_under_a_running_owner_are_decided(refill: int) -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        lab.cluster.shorten(COMMANDS, 2)
        for number in range(refill):
            lab.ask(benches(f"new{number}"))
        await lab.settled()
        lab.ask(benches("last"))
        await lab.settled()
        assert decided(lab) == [f"c{number}" for number in range(5 + refill + 1)]
        check(lab)

    play(scene)


@pytest.mark.parametrize("lost", [1, 3, 5])
@pytest.mark.parametrize("refill", [0, 2, 9])
def test_after_a_power_cut_what_fills_the_gap_is_decided_and_nothing_twice(
    lost: int, refill: int
) -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.shorten(COMMANDS, lost)
        for number in range(refill):
            lab.ask(benches(f"new{number}"))
        lab.start()
        found = await lab.settled()
        [reset] = resets(found)
        assert (reset.next_offset, reset.was_offset) == (5 - lost, 5)
        lab.ask(benches("last"))
        await lab.settled()
        assert decided(lab) == [f"c{number}" for number in range(5 + refill + 1)]
        await lab.stop()
        lab.start()
        assert resets(await lab.settled()) == [], "it is said once"
        check(lab)

    play(scene)


def test_what_is_lost_again_before_anything_was_decided_is_noticed_too() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.shorten(COMMANDS, 2)
        lab.start()
        assert [each.next_offset for each in resets(await lab.settled())] == [3]
        await lab.stop()
        lab.cluster.shorten(COMMANDS, 1)
        lab.ask(benches("x"))
        lab.ask(benches("y"))
        lab.start()
        assert [each.next_offset for each in resets(await lab.settled())] == [2]
        assert decided(lab) == [f"c{number}" for number in range(7)]
        check(lab)

    play(scene)


def test_what_stands_behind_what_is_lost_is_found_far_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The newest that was decided lies many windows before the end."""
    monkeypatch.setattr(inputs, "SPAN_FIRST", 2)
    monkeypatch.setattr(inputs, "SPAN_GROWTH", 1)

    async def scene(lab: Lab) -> None:
        await begun(lab, 20)
        await lab.stop()
        lab.cluster.shorten(COMMANDS, 15)
        for number in range(30):
            lab.ask(benches(f"new{number}"))
        lab.start()
        [reset] = resets(await lab.settled())
        assert reset.next_offset == 5
        assert len(decided(lab)) == 20 + 30
        check(lab)

    play(scene)


def test_an_input_that_nobody_could_read_is_known_by_its_bytes() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 2)
        junk = asked(TOPICS, "junk", benches("b"))
        lab.put(type(junk)(topic=junk.topic, key=junk.key, value=b"junk"))
        await lab.settled()
        await lab.stop()
        lab.start()
        assert resets(await lab.settled()) == []
        await lab.stop()
        lab.cluster.shorten(COMMANDS, 1)
        lab.ask(benches("new"))
        lab.start()
        found = await lab.settled()
        assert [each.next_offset for each in resets(found)] == [2]
        assert "sha256:" in resets(found)[0].reason
        assert decided(lab) == ["c0", "c1", "c2"]

    play(scene)


def test_with_other_copies_a_short_end_alone_stands_still_and_heals() -> None:
    """A broker that does not know yet that it leads no more tells an old end."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.copies = 3
        kept = list(lab.cluster.stored[COMMANDS])
        lab.cluster.shorten(COMMANDS, 2)
        with capture_logs() as logs:
            owner = lab.start()
            assert await lab.settled(20.0) == []
        assert (owner.standing.state, owner.standing.code) == ("broken", "inputs_short")
        assert "teo journal accept-inputs --partition 0" in owner.standing.detail
        assert {"partition.inputs_short"} <= {each["event"] for each in logs}
        lab.cluster.stored[COMMANDS] = kept
        lab.ask(benches("new"))
        await lab.settled(10.0)
        assert decided(lab)[5:] == ["c5"]
        assert owner.standing.state == "serving"
        check(lab)

    play(scene)


def test_with_other_copies_another_record_is_proof_enough() -> None:
    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.copies = 3
        lab.cluster.shorten(COMMANDS, 2)
        for name in ("x", "y", "z"):
            lab.ask(benches(name))
        lab.start()
        [reset] = resets(await lab.settled(20.0))
        assert reset.next_offset == 3
        assert len(decided(lab)) == 8

    play(scene)


def test_a_topic_with_another_id_and_the_same_records_goes_on() -> None:
    """As after a restore into another cluster."""

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.makings[TOPICS.commands] += 1
        lab.ask(benches("new"))
        lab.start()
        found = await lab.settled()
        assert resets(found) == []
        assert any(isinstance(event, facts.TopicsBound) for event in found)
        assert decided(lab) == [f"c{number}" for number in range(6)]

    play(scene)


def without_looking(patch: pytest.MonkeyPatch) -> None:
    """Believe the offset alone."""

    async def none(*_: Any, **__: Any) -> None:
        return None

    patch.setattr(inputs._View, "reset", none)


def test_without_a_look_at_the_inputs_acknowledged_commands_are_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without_looking(monkeypatch)

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        await lab.stop()
        lab.cluster.make_anew(TOPICS.commands)
        for number in range(8):
            lab.ask(benches(f"new{number}"))
        lab.start()
        await lab.settled()
        assert decided(lab)[5:] == ["c10", "c11", "c12"]

    play(scene)


def test_without_a_watch_on_the_topics_what_fills_the_gap_is_swallowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def blind(*_: Any, **__: Any) -> None:
        return None

    monkeypatch.setattr(Footing, "check", blind)

    async def scene(lab: Lab) -> None:
        await begun(lab, 5)
        lab.cluster.make_anew(TOPICS.commands)
        for number in range(9):
            lab.ask(benches(f"new{number}"))
        await lab.settled()
        assert decided(lab)[5:] == ["c10", "c11", "c12", "c13"]

    play(scene)
