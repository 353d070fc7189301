"""Negative controls: with the protection off, the judge of the snapshots must object."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from events.log import Outgoing, Record, Writer
from events.snapshots import Snapshot
from processors.runtime import snapshot_writer
from processors.runtime.owner import Owner
from processors.runtime.snapshot import Taken, take
from processors.scheduler.decision import Decision
from tests.sim.checkers import Violated
from tests.sim.loop import run
from tests.sim.test_simulation import live

SEEDS_MAX = 60


def objection(folder: Path) -> str:
    """Return what the first seed that is objected to is reproached with."""
    for seed in range(SEEDS_MAX):
        try:
            run(live(seed, folder / str(seed)))
        except Violated as error:
            return str(error)
    return f"nothing was seen in {SEEDS_MAX} seeds"


@pytest.mark.timeout(600)
def test_a_snapshot_in_a_transaction_of_its_own_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Owner._commit

    async def torn(
        self: Owner,
        writer: Writer,
        decisions: Sequence[Decision],
        outgoing: list[Outgoing],
        records: Sequence[Record],
    ) -> None:
        assert self.ledger is not None
        early = list(self._snapshots.goes_with(self.ledger, decisions, self._clock.now()))
        if early:
            await writer.commit(early)
        await honest(self, writer, decisions, outgoing, records)

    monkeypatch.setattr(Owner, "_commit", torn)
    said = objection(tmp_path)
    # It has what the journal never got: its partition stands still.
    assert "snapshot" in said or "never ends" in said


@pytest.mark.timeout(600)
def test_a_snapshot_of_a_wrong_state_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(taken: Taken, *, at: datetime) -> Sequence[Snapshot]:
        ledger = replace(taken.ledger, now=taken.ledger.now + timedelta(microseconds=1))
        return take(replace(taken, ledger=ledger), at=at)

    monkeypatch.setattr(snapshot_writer, "take", wrong)
    assert "fold" in objection(tmp_path)
