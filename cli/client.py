"""Speaks HTTP to the API: one key per write however often it is sent; never waits without end."""

import json
import os
import re
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote, urlsplit

from adapters.grammar import shown
from cli import sse
from cli.contexts import Target
from cli.patience import COMMAND_PATIENCE_S, FOLLOW_PATIENCE_S, STABLE_S, Patience
from cli.problems import (
    BadUsage,
    Problem,
    Refused,
    Unreachable,
    from_answer,
    no_answer,
    no_pool,
    set_aside,
    unavailable,
    undecided,
)

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]
Params = Mapping[str, str | int | float | None]

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
STREAM_SILENCE_S = 45.0  # Three missed keep-alives of 15 s.
OUTCOME_WAIT_S = 60.0
OUTCOME_PAUSE_S = 0.2
PAGE_ITEMS = 500
LIST_ITEMS_MAX = 10_000
RETRY_AFTER_S_MAX = 30.0
ERROR_BYTES_MAX = 64 * 1024
_PROXY_NAMES = frozenset({"all_proxy", "http_proxy", "https_proxy"})
_TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Client:
    """One command's connection to one server; close it, or use it in a `with`."""

    def __init__(
        self,
        target: Target,
        *,
        version: str,
        note: Callable[[str], None],
        trace: Callable[[str], None] | None = None,
        patience_s: float = COMMAND_PATIENCE_S,
        follow_patience_s: float = FOLLOW_PATIENCE_S,
    ) -> None:
        self.server = target.server
        self.patience_s = patience_s
        self.follow_patience_s = follow_patience_s
        self._note = note
        self._trace = trace
        self._position: str | None = None
        self._key = secrets.token_hex(16)
        self._writes = 0
        self._http = _http_client(target, version=version)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(
        self,
        path: str,
        params: Params | None = None,
        *,
        accept: str = "application/json",
        wait_s: float | None = None,
        is_following: bool = False,
    ) -> Any:
        """Return what `path` answers (parsed JSON, else text); `wait_s` asks for a long poll."""
        asked = {**(params or {}), "min_position": self._position}
        if wait_s is not None:
            asked["wait_s"] = wait_s
        response = self._send(
            "GET",
            path,
            params=asked,
            headers={"Accept": accept},
            timeout_s=READ_TIMEOUT_S + (wait_s or 0.0),
            patience_s=self.follow_patience_s if is_following else self.patience_s,
        )
        return _json(response, self.server) if accept == "application/json" else response.text

    def pages(
        self,
        path: str,
        params: Params | None = None,
        *,
        limit: int | None = None,
        has_limit: bool = True,
    ) -> "Page":
        """Return the items of a list, over as many pages as `limit` needs.

        `has_limit` is False for the lists that come whole and take no `limit`.
        """
        wanted = LIST_ITEMS_MAX if limit is None else limit
        items: list[Json] = []
        cursor: str | None = None
        while len(items) < wanted:
            page_size = min(PAGE_ITEMS, wanted - len(items)) if has_limit else None
            page = self.get(path, {**(params or {}), "limit": page_size, "cursor": cursor})
            items += page["items"]
            before, cursor = cursor, page.get("next_cursor")
            if cursor in (None, before):
                if not items and params and params.get("pool"):
                    self._refuse_unknown(str(params["pool"]))
                return Page(items, has_more=False)
        return Page(items, has_more=cursor is not None)

    def _refuse_unknown(self, pool: str) -> None:
        """Raise `Problem` if there is no such pool: a typing error is no empty list."""
        if all(item["pool"] != pool for item in self.pages("/v1/pools", has_limit=False)):
            raise no_pool(pool)

    def write(
        self, method: str, path: str, body: Json | None = None, params: Params | None = None
    ) -> Json:
        """Send a command and return the resource; the same key goes with every try."""
        self._writes += 1
        response = self._send(
            method,
            path,
            params=params or {},
            headers={"Idempotency-Key": f"{self._key}-{self._writes}"},
            body=body,
            timeout_s=READ_TIMEOUT_S,
            patience_s=self.patience_s,
        )
        if position := response.headers.get("TEO-Position"):
            self._position = position
        answer: Json = _json(response, self.server)
        if response.status_code == 202 and "id" not in answer:
            if answer.get("detail"):
                self._note(f"warning: {answer['detail']}")
                self._note("  next: see that a scheduler runs, and what `teo fsck` says")
            return self._outcome(str(answer["command_id"]))
        return answer

    def stream(
        self, path: str, params: Params | None = None, *, last_event_id: str | None = None
    ) -> Generator[sse.ServerEvent]:
        """Yield events for as long as they are asked for; reconnect and resume when cut off."""
        patience = Patience(self.follow_patience_s, note=self._note)
        while True:
            connected_at = time.monotonic()
            try:
                for event in self._stream_once(path, params or {}, last_event_id):
                    patience.over()
                    last_event_id = event.id or last_event_id
                    yield event
                failure = Unreachable(self.server, "the stream ended too early")
            except Unreachable as error:
                failure = error
            if time.monotonic() - connected_at >= STABLE_S:
                patience.over()
            patience.wait(failure)

    def download(
        self, path: str, *, offset_bytes: int = 0, etag: str | None = None
    ) -> AbstractContextManager["httpx.Response"]:
        """Return the streamed answer of `path` from `offset_bytes` on; the caller closes it."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if offset_bytes:
            headers["Range"] = f"bytes={offset_bytes}-"
            if etag is not None:
                headers["If-Range"] = etag
        return self._http.stream("GET", path, headers=headers)

    def _stream_once(
        self, path: str, params: Params, last_event_id: str | None
    ) -> Iterator[sse.ServerEvent]:
        import httpx

        headers = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if last_event_id is not None:
            headers["Last-Event-ID"] = last_event_id
        timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S, read=STREAM_SILENCE_S)
        asked = {key: value for key, value in params.items() if value is not None}
        try:
            with self._http.stream(
                "GET", path, params=asked, headers=headers, timeout=timeout
            ) as response:
                self._traced("GET", path, response.status_code)
                if response.status_code != 200:
                    response.read()
                    raise self._failure(response)
                yield from sse.parse(response.iter_raw())
        except httpx.TransportError as error:
            raise Unreachable(self.server, _reason(error)) from error
        except sse.StreamBroken as error:
            raise Problem(str(error), exit_code=9) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params,
        headers: Mapping[str, str],
        timeout_s: float,
        patience_s: float,
        body: Json | None = None,
    ) -> "httpx.Response":
        import httpx

        patience = Patience(patience_s, note=self._note)
        asked = {key: value for key, value in params.items() if value is not None}
        timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        while True:
            try:
                response = self._http.request(
                    method, path, params=asked, headers=headers, json=body, timeout=timeout
                )
                self._traced(method, path, response.status_code)
                if response.is_success:
                    patience.over()
                    return response
                failure = self._failure(response)
            except httpx.ReadTimeout as error:
                self._traced(method, path, type(error).__name__)
                is_write = method != "GET"
                failure = no_answer(self.server, after_s=timeout_s, is_write=is_write)
            except httpx.TransportError as error:
                self._traced(method, path, type(error).__name__)
                failure = Unreachable(self.server, _reason(error))
            except UnicodeEncodeError as error:
                raise BadUsage(
                    f"{shown(str(error.object))} is not UTF-8", next_step="write it in UTF-8"
                ) from error
            if not isinstance(failure, Unreachable):
                raise failure
            patience.wait(failure)

    def _failure(self, response: "httpx.Response") -> Problem:
        """Return the error of an answer: `Unreachable` if another try may help."""
        refused = from_answer(
            response.status_code, response.content[:ERROR_BYTES_MAX], server=self.server
        )
        if response.status_code in (429, 500, 502, 503, 504):
            return unavailable(
                refused,
                server=self.server,
                is_write=response.request.method != "GET",
                retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
            )
        if 300 <= response.status_code < 400:
            where = response.headers.get("Location", "elsewhere")
            return Refused(
                status=400,
                code="redirected",
                what=f"{self.server} sends us to {where}",
                next_step="name that server itself with --server",
            )
        return refused

    def _outcome(self, command_id: str) -> Json:
        """Wait for the outcome of a command that takes longer, and return its subject."""
        deadline = time.monotonic() + OUTCOME_WAIT_S
        while time.monotonic() < deadline:
            try:
                outcome = self.get(f"/v1/commands/{segment(command_id)}")
            except Refused as error:
                if error.status != 404:
                    raise
                time.sleep(OUTCOME_PAUSE_S)
                continue
            if outcome["status"] == "set_aside":
                raise set_aside(command_id, outcome)
            if outcome["status"] == "rejected":
                raise Refused(
                    status=409, code=str(outcome.get("code")), what=str(outcome.get("reason"))
                )
            self._position = outcome.get("position") or self._position
            subject = str(outcome.get("subject_id") or "")
            noun = {"exe-": "executions", "res-": "reservations"}.get(subject[:4])
            return self.get(f"/v1/{noun}/{segment(subject)}") if noun else dict(outcome)
        raise undecided(self.server, command_id, after_s=OUTCOME_WAIT_S)

    def _traced(self, method: str, path: str, outcome: int | str) -> None:
        if self._trace is not None:
            self._trace(f"{method} {self.server}{path} -> {outcome}")


class Page(list[Json]):
    """The items of a list, and whether the server has more than were asked for."""

    def __init__(self, items: list[Json], *, has_more: bool) -> None:
        super().__init__(items)
        self.has_more = has_more


def segment(name: str) -> str:
    """Return `name` as one segment of a path, whatever is in it: also `..` leads nowhere else."""
    text = name.encode("utf-8", "surrogatepass")
    return "%2E" * len(name) if name in (".", "..") else quote(text, safe="")


def is_loopback(url: str) -> bool:
    """Return True if a server is of this machine: it is never asked through a proxy."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _http_client(target: Target, *, version: str) -> "httpx.Client":
    # httpx brings a command line of its own, with click and rich: 250 ms that nobody uses here.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    import httpx

    # Without TLS the trust store is not read: it would cost 20 ms of each command.
    is_tls = urlsplit(target.server).scheme == "https"
    trust = ssl.create_default_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    headers = {"User-Agent": f"teo/{version}", "traceparent": _traceparent()}
    if target.token is not None:
        if not re.fullmatch(r"[\x21-\x7e]+", target.token):
            raise Problem(
                "the token has characters that no token has",
                next_step="give it whole, without quotes or spaces, with --token or TEO_TOKEN",
                exit_code=10,
            )
        headers["Authorization"] = f"Bearer {target.token}"
    try:
        return httpx.Client(
            base_url=target.server,
            headers=headers,
            verify=trust,
            trust_env=not is_loopback(target.server),
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        # The address itself was looked at before: what is left is a proxy of the environment.
        names = [name for name in os.environ if name.lower() in _PROXY_NAMES and os.environ[name]]
        raise BadUsage(
            f"the proxy that {' or '.join(sorted(names)) or 'the environment'} names cannot be "
            f"used: {error}",
            next_step="name an http:// proxy, or leave the server out with NO_PROXY",
        ) from error


def _traceparent() -> str:
    """Return the caller's trace context, else the start of a new one."""
    given = os.environ.get("TRACEPARENT", "")
    if _TRACEPARENT.fullmatch(given):
        return given
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _json(response: "httpx.Response", server: str) -> Any:
    try:
        return json.loads(response.content)
    except ValueError as error:
        raise Unreachable(
            server, f"{response.request.url.path} did not answer with JSON: is it a teo server?"
        ) from error


def _reason(error: "httpx.TransportError") -> str:
    return str(error) or type(error).__name__


def _retry_after_s(header: str | None) -> float | None:
    if header is None or not header.isdigit():
        return None
    return min(float(header), RETRY_AFTER_S_MAX)
