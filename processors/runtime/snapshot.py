"""A ledger as snapshot records and back, exactly; refuses whatever is not wholly there.

A snapshot is a set of records of one `seq`: for each pool its state, and one for what the
partition keeps beside its pools, each compressed and cut into parts that a broker takes.
"""

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

from events.codec import encode
from events.errors import TeoError
from events.log import Outgoing
from events.snapshots import Snapshot
from events.topics import Topics
from processors.runtime.shape import shape_of
from processors.scheduler.state import Ledger, Pool

VERSION = 2
"""Raised by hand when the meaning of the state changes though its shape does not."""
PART_BYTES_MAX = 900_000
"""A broker takes records up to 1 MiB unless told otherwise."""
STATE_BYTES_MAX = 128 * 1024 * 1024
"""JSON of all pools together; it is compressed to about a fifth. More is not written."""
COMPRESSION = 1
LEDGER = ""
"""Stands for a pool in the record of what the partition keeps beside its pools."""


class SnapshotUnusable(TeoError):
    """Raised when a snapshot cannot stand for the journal; `reason` says why in one word."""

    code = "snapshot_unusable"

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"{reason}: {text}")
        self.reason = reason


class SnapshotTooBig(TeoError):
    """Raised when a state is bigger than a snapshot may be: the journal must do without."""

    code = "snapshot_too_big"


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A state and where it stands on the journal."""

    ledger: Ledger
    last_event_id: str
    """Id of the last event folded in: the journal must have it just there."""
    journal_offset: int
    """An offset of the journal at or before that event."""


@cache
def state_format() -> str:
    """Return the name of the state's shape: another shape has another name."""
    text = f"{shape_of(Ledger).text} {shape_of(Pool).text}"
    return f"{VERSION}-{sha256(text.encode()).hexdigest()[:16]}"


def fingerprint(ledger: Ledger) -> str:
    """Return a digest that two ledgers share exactly if they are equal, orders included."""
    digest = sha256(state_format().encode())
    for name, text in _texts(ledger, ""):
        digest.update(f"\n{len(name)} {name} {len(text)}\n".encode())
        digest.update(text)
    return digest.hexdigest()


def take(taken: Taken, *, at: datetime) -> Sequence[Snapshot]:
    """Return the records of a snapshot. Raises `SnapshotTooBig`."""
    ledger = taken.ledger
    found: list[Snapshot] = []
    size = 0
    for pool, text in _texts(ledger, taken.last_event_id):
        size += len(text)
        if size > STATE_BYTES_MAX:
            raise SnapshotTooBig(
                f"the state of partition {ledger.partition} has more than {STATE_BYTES_MAX} bytes"
            )
        whole = zlib.compress(text, COMPRESSION)
        digest = sha256(whole).hexdigest()
        cuts = range(0, len(whole), PART_BYTES_MAX)
        pieces = [whole[cut : cut + PART_BYTES_MAX] for cut in cuts]
        found += [
            Snapshot(
                partition=ledger.partition,
                pool=pool,
                seq=ledger.seq,
                journal_offset=taken.journal_offset,
                format=state_format(),
                part=part,
                parts=len(pieces),
                pools=tuple(ledger.pools) if pool == LEDGER else (),
                sha256=digest,
                taken_at=at,
                state=piece,
            )
            for part, piece in enumerate(pieces)
        ]
    return found


def records_of(topics: Topics, snapshots: Iterable[Snapshot]) -> Iterator[Outgoing]:
    """Yield the records to write: each replaces the same part of the snapshot before."""
    for each in snapshots:
        yield Outgoing(
            topic=topics.snapshots,
            key=f"{each.partition}/{each.pool}/{each.part}".encode(),
            value=encode(each),
            headers={"ce_type": b"Snapshot"},
            partition=each.partition,
        )


Parts = Mapping[tuple[str, int], Snapshot]
"""Records of one snapshot, by pool and part."""


def is_complete(parts: Parts) -> bool:
    """Return True if every part of every pool is there."""
    head = parts.get((LEDGER, 0))
    if head is None:
        return False
    for pool in (LEDGER, *head.pools):
        first = parts.get((pool, 0))
        if first is None or any((pool, part) not in parts for part in range(first.parts)):
            return False
    return True


def assemble(parts: Parts) -> Taken:
    """Return the state that `parts` hold. Raises `SnapshotUnusable`."""
    if not is_complete(parts):
        raise SnapshotUnusable("incomplete", f"{len(parts)} parts are there, others are not")
    head = parts[LEDGER, 0]
    if any(each.format != state_format() for each in parts.values()):
        raise SnapshotUnusable("format", f"its format is {head.format}, not {state_format()}")
    try:
        last_event_id, raw = _state(parts, LEDGER)
        ledger: Ledger = shape_of(Ledger).load(raw)
        for name in head.pools:
            ledger.pools[name] = shape_of(Pool).load(_state(parts, name))
    except (zlib.error, ValueError, TypeError, LookupError, AttributeError) as error:
        raise SnapshotUnusable("damaged", repr(error)) from error
    if (ledger.partition, ledger.seq) != (head.partition, head.seq) or not ledger.seq:
        raise SnapshotUnusable("damaged", f"its state is that of seq {ledger.seq}")
    return Taken(ledger=ledger, last_event_id=last_event_id, journal_offset=head.journal_offset)


def _texts(ledger: Ledger, last_event_id: str) -> Iterator[tuple[str, bytes]]:
    yield LEDGER, _text([last_event_id, shape_of(Ledger).dump(replace(ledger, pools={}))])
    for name, pool in ledger.pools.items():
        yield name, _text(shape_of(Pool).dump(pool))


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _state(parts: Parts, pool: str) -> Any:
    first = parts[pool, 0]
    whole = b"".join(parts[pool, part].state for part in range(first.parts))
    if sha256(whole).hexdigest() != first.sha256:
        raise SnapshotUnusable("damaged", f"the state of pool {pool!r} has another sha256")
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(whole, STATE_BYTES_MAX)
    if not unpacker.eof:
        raise SnapshotUnusable("damaged", f"the state of pool {pool!r} does not end")
    return json.loads(text)
