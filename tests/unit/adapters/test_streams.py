"""Bytes from two pipes become lines."""

import asyncio
import os
from collections.abc import Sequence

import pytest

from adapters.contract import Line
from adapters.local.streams import LINE_CHARS_MAX, READ_BYTES, Streams


def read(*writes: bytes, finish: bool = True) -> list[str]:
    """Return the lines of stdout when it is written in these pieces, each read by itself."""
    lines: list[Line] = []

    async def on_lines(more: Sequence[Line]) -> None:
        lines.extend(more)

    async def play() -> None:
        out, to_out = os.pipe()
        os.set_blocking(out, False)
        streams = Streams(stdout=out, stderr=-1)
        pumping = asyncio.create_task(streams.pump(on_lines))
        for data in writes:
            rest = data
            while rest:
                rest = rest[os.write(to_out, rest[:READ_BYTES]) :]
                for _ in range(4):
                    await asyncio.sleep(0)
        os.close(to_out)
        await pumping
        os.close(out)

    asyncio.run(play())
    assert {line.stream for line in lines} <= {"stdout"}
    return [line.text for line in lines]


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ((), []),
        ((b"",), []),
        ((b"\n",), [""]),
        ((b"a\nb\n",), ["a", "b"]),
        ((b"a\n\nb",), ["a", "", "b"]),
        ((b"a", b"b", b"\n"), ["ab"]),
        ((b"a\r\nb\r\n",), ["a", "b"]),
        ((b"50%\r100%\n",), ["50%\r100%"]),
        ((b"last",), ["last"]),
        (("\N{SNOWMAN}\n".encode()[:2], "\N{SNOWMAN}\n".encode()[2:]), ["\N{SNOWMAN}"]),
        ((b"\xff\xfe\n\xe2\x98",), ["\N{REPLACEMENT CHARACTER}" * 2, "\N{REPLACEMENT CHARACTER}"]),
        ((b"nul\0nul\n",), ["nul\0nul"]),
        ((b"x\x0cy\x85\xe2\x80\xa8z\n",), ["x\x0cy\N{REPLACEMENT CHARACTER}\u2028z"]),
    ],
)
def test_lines(writes: tuple[bytes, ...], expected: list[str]) -> None:
    assert read(*writes) == expected


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("extra", [0, 1, 5, LINE_CHARS_MAX])
def test_a_long_line_comes_in_pieces_and_whole(end: bytes, extra: int) -> None:
    text = "x" * (2 * LINE_CHARS_MAX + extra)
    pieces = read(text.encode() + end)
    assert "".join(pieces) == text
    assert max(map(len, pieces)) <= LINE_CHARS_MAX
    assert "" not in pieces


def test_a_long_line_is_not_cut_within_a_character() -> None:
    text = "a" + "\N{SNOWMAN}" * 40_000
    assert "".join(read(text.encode())) == text


def test_streams_are_told_apart_and_silence_is_measured() -> None:
    async def play() -> None:
        out, to_out = os.pipe()
        err, to_err = os.pipe()
        os.set_blocking(out, False)
        os.set_blocking(err, False)
        heard: list[Line] = []
        seen: list[float | None] = []
        streams = Streams(stdout=out, stderr=err)

        async def on_lines(lines: Sequence[Line]) -> None:
            heard.extend(lines)
            seen.append(streams.silent_since)

        pumping = asyncio.create_task(streams.pump(on_lines))
        os.write(to_err, b"e\n")
        while not heard:  # noqa: ASYNC110 - the test's own timeout is its limit.
            await asyncio.sleep(0)
        os.write(to_out, b"o\n")
        os.close(to_out)
        os.close(to_err)
        await pumping
        assert heard == [Line("stderr", "e"), Line("stdout", "o")]
        assert seen == [None, None], "while lines are handed over there is no silence"
        assert streams.silent_since is not None
        os.close(out)
        os.close(err)

    asyncio.run(play())


def test_a_pipe_that_somebody_keeps_open_ends_with_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adapters.local.streams.DRAIN_S", 0.1)

    async def play() -> None:
        out, to_out = os.pipe()
        os.set_blocking(out, False)
        heard: list[Line] = []

        async def on_lines(lines: Sequence[Line]) -> None:
            heard.extend(lines)

        streams = Streams(stdout=out, stderr=-1)
        os.write(to_out, b"a\npartial")
        pumping = asyncio.create_task(streams.pump(on_lines))
        while not heard:  # noqa: ASYNC110 - the test's own timeout is its limit.
            await asyncio.sleep(0)
        streams.finish()
        async with asyncio.timeout(5):
            await pumping
        assert [line.text for line in heard] == ["a", "partial"]
        os.close(to_out)
        os.close(out)

    asyncio.run(play())
