"""A ledger as records and back; whatever is not wholly there is refused with its reason."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from events.codec import decode, encode
from events.snapshots import Snapshot
from processors.runtime import snapshot as module
from processors.runtime.snapshot import (
    Parts,
    SnapshotTooBig,
    SnapshotUnusable,
    Taken,
    assemble,
    fingerprint,
    take,
)
from processors.scheduler.state import Ended, Ledger, Pool
from tests.unit.processors.scheduler.test_random_histories import Chaos

AT = datetime(2026, 1, 5, 10, tzinfo=UTC)


def taken_of(ledger: Ledger) -> Taken:
    return Taken(ledger=ledger, last_event_id="evt", journal_offset=7)


def parts_of(ledger: Ledger) -> dict[tuple[str, int], Snapshot]:
    """Through the wire and back, as a recovery gets them."""
    found = [decode(encode(each)) for each in take(taken_of(ledger), at=AT)]
    return {(each.pool, each.part): each for each in found}


def orders(ledger: Ledger) -> list[object]:
    return [
        list(ledger.known),
        list(ledger.pools),
        *(list(pool.ended) for pool in ledger.pools.values()),
        *(list(pool.executions) for pool in ledger.pools.values()),
    ]


@pytest.mark.parametrize("block", range(4))
def test_any_state_comes_back_exactly(block: int) -> None:
    for seed in range(block * 25, (block + 1) * 25):
        chaos = Chaos(seed)
        for _ in range(8):
            for _ in range(25):
                chaos.step()
            ledger = chaos.history.ledger
            back = assemble(parts_of(ledger))
            assert back == taken_of(ledger), f"seed {seed}"
            assert orders(back.ledger) == orders(ledger)
            assert fingerprint(back.ledger) == fingerprint(ledger)
            assert back.ledger.heard == {}, "what is no fact is left out"


def test_the_same_state_gives_the_same_bytes() -> None:
    first, second = Chaos(3), Chaos(3)
    for chaos in (first, second):
        for _ in range(200):
            chaos.step()
    ledgers = first.history.ledger, second.history.ledger
    assert take(taken_of(ledgers[0]), at=AT) == take(taken_of(ledgers[1]), at=AT)


def big_ledger() -> Ledger:
    """Random ids, so that it does not compress away."""
    ledger = Ledger(3, seq=9, now=AT)
    ledger.pools["lab"] = Pool("lab")
    chaos = Chaos(1)
    for number in range(60_000):
        name = f"{chaos.random.getrandbits(128):032x}"
        at = AT + timedelta(seconds=number)
        ledger.pools["lab"].ended[name] = Ended("execution", "passed", at)
    return ledger


def test_a_big_state_is_cut_into_parts_that_a_broker_takes() -> None:
    ledger = big_ledger()
    parts = parts_of(ledger)
    assert max(part for _, part in parts) >= 1
    assert all(len(encode(each)) < 1_000_000 for each in parts.values())
    assert assemble(parts).ledger == ledger
    last = max(parts)
    assert refusal({key: each for key, each in parts.items() if key != last}) == "incomplete"


def test_a_state_over_the_limit_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STATE_BYTES_MAX", 10_000)
    with pytest.raises(SnapshotTooBig):
        take(taken_of(big_ledger()), at=AT)


def refusal(parts: Parts) -> str:
    with pytest.raises(SnapshotUnusable) as caught:
        assemble(parts)
    return caught.value.reason


def small() -> dict[tuple[str, int], Snapshot]:
    chaos = Chaos(5)
    for _ in range(100):
        chaos.step()
    return parts_of(chaos.history.ledger)


def test_each_flipped_bit_of_the_state_is_found() -> None:
    parts = small()
    state = parts["lab", 0].state
    for place in range(0, len(state), max(1, len(state) // 50)):
        bad = state[:place] + bytes([state[place] ^ 1]) + state[place + 1 :]
        damaged = {**parts, ("lab", 0): replace(parts["lab", 0], state=bad)}
        assert refusal(damaged) == "damaged"


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("format", lambda each: replace(each, format="2-of-another-shape")),
        ("damaged", lambda each: replace(each, state=each.state[:-1])),
        ("damaged", lambda each: replace(each, seq=each.seq + 1)),
        ("incomplete", lambda each: replace(each, parts=each.parts + 1)),
        ("incomplete", lambda each: replace(each, pools=("lab", "other"))),
    ],
)
def test_what_does_not_fit_is_refused(reason: str, change: Callable[[Snapshot], Snapshot]) -> None:
    parts = small()
    assert refusal({**parts, ("", 0): change(parts["", 0])}) == reason


def test_a_missing_pool_is_refused() -> None:
    parts = small()
    del parts["lab", 0]
    assert refusal(parts) == "incomplete"


def test_the_fingerprint_tells_states_apart() -> None:
    chaos = Chaos(5)
    for _ in range(100):
        chaos.step()
    ledger = chaos.history.ledger
    prints = {
        fingerprint(ledger),
        fingerprint(replace(ledger, now=ledger.now + timedelta(microseconds=1))),
        fingerprint(replace(ledger, known=dict(reversed(ledger.known.items())))),
        fingerprint(replace(ledger, seq=ledger.seq + 1)),
        fingerprint(replace(ledger, pools={})),
    }
    assert len(prints) == 5
