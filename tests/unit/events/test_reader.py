"""What a record of Kafka's client becomes."""

from aiokafka import ConsumerRecord

from events.kafka.reader import _record
from events.topics import Topics
from processors.runtime.inputs import is_input
from processors.runtime.records import command_id_of


def test_a_header_without_a_value_counts_as_empty() -> None:
    """Clients of other languages write such; ours cannot decode a null."""
    raw = ConsumerRecord(
        "teo.commands", 0, 7, 1_000, 1, b"lab", b"junk", None, 3, 4, (("ce_id", None), ("x", b"y"))
    )
    record = _record(raw)
    assert record.headers == {"ce_id": b"", "x": b"y"}
    assert command_id_of(record, None, Topics()) == ""
    assert not is_input(record, "c1")
