"""A small HTTP client, so that the figures are the server's: httpx takes more CPU than the API."""

import asyncio
import json
from typing import Any


class Connection:
    """One connection that stays open; one request at a time."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\n"
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer's JSON; an answer that is no success ends the benchmark."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\n{self._headers}"
        if body is not None:
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n"
        writer.write(f"{head}\r\n".encode() + data)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split()[1])
        lengths = [line[15:] for line in lines if line.lower().startswith("content-length:")]
        answer = await reader.readexactly(int(lengths[0])) if lengths else b""
        if not 200 <= status < 300:
            raise RuntimeError(f"{method} {path}: {status} {answer.decode()}")
        return json.loads(answer) if answer else None

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
