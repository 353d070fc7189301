"""The journal's past in blocks: made once for all streams, within bounds, with turns for others."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest

from api import past as past_module
from api.past import Block, Past, start_of
from events.codec import decode_event, encode
from events.log import Outgoing, Position
from tests.unit.api.lab import Lab, in_lab
from tests.unit.api.test_events import reserve


async def filled(lab: Lab, count: int) -> tuple[Past, int]:
    """Return the past of a journal with some events, and where it ends."""
    await lab.benches("bench-1")
    await reserve(lab, count=count)
    records = lab.cluster.all_records("teo.events")
    return lab.app.state.service.past, records[-1].offset + 1


def played(scene: Callable[[Lab], Coroutine[None, None, None]], tmp_path: Path) -> None:
    in_lab(scene, tmp_path, partitions=1)


async def chain(past: Past, start: int, end: int) -> list[Block]:
    blocks: list[Block] = []
    offset = start
    while offset < end:
        blocks.append(await past.block(Position(0, offset), end))
        offset = blocks[-1].next_offset
    return blocks


def offsets(blocks: list[Block]) -> list[int]:
    return [frame.position.offset for block in blocks for frame in block.frames]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "PAST_BLOCK_OFFSETS", 8)


@pytest.mark.usefixtures("small")
def test_blocks_hold_every_event_once_wherever_one_begins(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 20)
        expected = [record.offset for record in lab.cluster.all_records("teo.events")]
        assert offsets(await chain(past, 0, end)) == expected
        for begin in (1, 7, 8, 9, end - 1):
            found = offsets(await chain(past, start_of(begin), end))
            assert found == [each for each in expected if each >= start_of(begin)]
            assert start_of(begin) <= begin

    played(scene, tmp_path)


def test_what_no_scheduler_wrote_is_not_of_the_past(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        past, _ = await filled(lab, 2)
        event = decode_event(lab.cluster.all_records("teo.events")[0].value)
        forged = encode(replace(event, meta=replace(event.meta, event_id="forged")))
        await lab.deps.log.append([Outgoing(topic="teo.events", key=b"lab", value=forged)])
        expected = [record.offset for record in lab.cluster.all_records("teo.events")]
        assert offsets(await chain(past, 0, expected[-1] + 1)) == expected[:-1]

    played(scene, tmp_path)


@pytest.mark.usefixtures("small")
def test_a_block_is_made_once_for_all_who_ask(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 20)
        made: list[Position] = []
        make = past._make

        async def counted(place: Position, end_offset: int) -> Block:
            made.append(place)
            return await make(place, end_offset)

        past._make = counted  # type: ignore[method-assign]
        chains = await asyncio.gather(*(chain(past, 0, end) for _ in range(10)))
        assert all(offsets(each) == offsets(chains[0]) for each in chains)
        whole = {place for place in made if start_of(place.offset) + 8 <= end}
        assert len([place for place in made if place in whole]) == len(whole)

    played(scene, tmp_path)


def test_the_newest_block_is_not_kept_while_it_grows(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 5)
        place = Position(0, start_of(end - 1))
        first = await past.block(place, end)
        await reserve(lab)
        grown = lab.cluster.all_records("teo.events")[-1].offset + 1
        again = await past.block(place, grown)
        assert len(again.frames) > len(first.frames)

    played(scene, tmp_path)


def test_big_events_end_a_block_and_what_is_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past_module, "PAST_BLOCK_BYTES", 2_000)
    monkeypatch.setattr(past_module, "PAST_BYTES_MAX", 6_000)

    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 30)
        blocks = await chain(past, 0, end)
        assert len(blocks) > 5
        assert all(len(block.frames) < 10 for block in blocks)
        assert offsets(blocks) == [r.offset for r in lab.cluster.all_records("teo.events")]
        assert past._size_bytes == sum(block.size_bytes for block in past._blocks.values())
        assert past._size_bytes <= 6_000

    played(scene, tmp_path)


@pytest.mark.usefixtures("small")
def test_readers_are_few_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_module, "PAST_READERS_MAX", 2)

    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 30)
        for begin in range(0, end, 3):
            await past.block(Position(0, start_of(begin)), end)
            past._blocks.clear()
        assert len(past._readers) <= 2
        await past.close()
        assert not past._readers

    played(scene, tmp_path)


def test_a_whole_journal_leaves_others_their_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While blocks are made the loop comes round after each slice of work, not at the end."""
    monkeypatch.setattr(past_module, "PAST_SLICE_S", 0.0)

    async def scene(lab: Lab) -> None:
        past, end = await filled(lab, 20)
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        blocks = await chain(past, 0, end)
        counting.cancel()
        assert turns >= len(offsets(blocks))

    played(scene, tmp_path)


def test_what_no_scheduler_wrote_is_not_sent(tmp_path: Path) -> None:
    async def scene(lab: Lab) -> None:
        past, _ = await filled(lab, 2)
        last = lab.cluster.all_records("teo.events")[-1]
        message = decode_event(last.value)
        forged = replace(message, meta=replace(message.meta, event_id="forged"))
        at = lab.cluster.put(
            Outgoing(topic="teo.events", key=b"lab", value=encode(forged), partition=0)
        )
        assert at.offset not in offsets(await chain(past, 0, at.offset + 1))

    played(scene, tmp_path)
