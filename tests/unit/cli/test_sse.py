"""Events are read whole from any cutting of the bytes, and never without end."""

import pytest

from cli import sse

STREAM = (
    ': keep-alive\n\nid: 1.2\nevent: lines\ndata: {"a":\ndata: 1}\n\n'
    "id: 1.3\r\nevent: end\r\ndata: grün\r\n\r\nid: only\n\nevent: half\ndata: x\n"
).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1_000])
def test_events_are_the_same_however_the_bytes_are_cut(size):
    chunks = [STREAM[start : start + size] for start in range(0, len(STREAM), size)]
    assert [(event.id, event.event, event.data) for event in sse.parse(chunks)] == [
        (None, sse.SILENCE, ""),
        ("1.2", "lines", '{"a":\n1}'),
        ("1.3", "end", "grün"),
        ("only", "message", ""),
    ]


def test_a_line_without_end_is_refused():
    chunk = b"x" * 1_000_000
    with pytest.raises(sse.StreamBroken, match="line"):
        list(sse.parse(chunk for _ in range(20)))


def test_an_event_without_end_is_refused():
    chunk = b"data: " + b"x" * 1_000_000 + b"\n"
    with pytest.raises(sse.StreamBroken, match="event"):
        list(sse.parse(chunk for _ in range(20)))
