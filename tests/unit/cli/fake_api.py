"""A real HTTP server that plays the API's agreed answers, and breaks them as a test says."""

import asyncio
import json
import select
import socket
import threading
import time
from collections import deque
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

TOKEN = "t0ken"
EXE, RES = "exe-0190aa", "res-0190bb"
DEADLINE_S = 20.0
QUEUE_S = 0.4  # Long enough for a spinner to be drawn.


def until(is_true, what):
    deadline = time.monotonic() + DEADLINE_S
    while not is_true():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S}s: {what}"
        select.select([], [], [], 0.01)


def lines(attempt, first, *texts, stderr=()):
    data = {"attempt": attempt, "first_line": first, "lines": texts, "stderr": list(stderr)}
    return "lines", data, f"{attempt}.{first + len(texts) - 1}"


def execution(**given):
    return {
        "id": EXE,
        "pool": "lab-a",
        "status": "running",
        "verdict": None,
        "code": "",
        "reason": "",
        "owner": "ann",
        "bench": "bench-1",
        "selector": "",
        "attempts": [],
        "created_at": "2026-01-01T00:00:00Z",
        "started_at": "2026-01-01T00:00:01Z",
        "finished_at": None,
        "queue_position": None,
        "command": ["true"],
        "totals": {"passed": 0, "failed": 0, "errors": 0, "skipped": 0},
        **given,
    }


def finished(verdict, code="", **given):
    end = {"finished_at": "2026-01-01T00:00:13Z", "status": "finished"}
    return execution(verdict=verdict, code=code, **end, **given)


class FakeApi:
    """Plays the agreed answers; what it was asked is kept, what it shall do is set by the test."""

    def __init__(self):
        self.asked = []
        self.failures = deque()
        self.aside = {}
        """Code and reason of a command that was set aside; empty: it is accepted."""
        self.execution = execution()
        self.at_end = finished("passed", "passed")
        self.reservation = {
            "id": RES,
            "pool": "lab-a",
            "status": "granted",
            "code": "",
            "selectors": [""],
            "benches": [{"bench": "bench-1", "fence": 7}],
            "queue_position": None,
        }
        self.pools = ["lab-a"]
        self.rules = {}
        self.benches = [BENCH]
        self.as_applied = {}
        """What the answer to an `apply` says of each bench beside what was sent."""
        self.frames = []
        """What the log stream sends: events, raw text, or a coroutine function that is awaited."""
        self.cuts = set()
        self.is_endless = False
        self.is_stubborn = False
        self.is_mute = False
        """It takes requests and does not answer until it is stopped."""
        self.cases = []
        self.files = {}
        self.ranges = []
        self.letters = {}
        self.workers = []
        self.listed = None
        """The executions that are listed, as often as `lists` says; None: the one, three times."""
        self.lists = 1_000
        self.queries = []
        self.port = None
        self._server = self._thread = None

    def start(self):
        app = Starlette(
            routes=[
                Route("/v1/executions", self.submit, methods=["POST"]),
                Route("/v1/executions", self.executions, methods=["GET"]),
                Route(f"/v1/executions/{EXE}", self.one, methods=["GET", "DELETE"]),
                Route(f"/v1/executions/{EXE}/logs", self.logs),
                Route(f"/v1/executions/{EXE}/cases", self.list_cases),
                Route(f"/v1/executions/{EXE}/junit", self.junit),
                Route(f"/v1/executions/{EXE}/artifacts", self.artifacts),
                Route(f"/v1/executions/{EXE}/artifacts/1/{{path:path}}", self.artifact),
                Route("/v1/reservations", self.reserve, methods=["POST"]),
                Route(f"/v1/reservations/{RES}", self.held, methods=["GET", "DELETE"]),
                Route(f"/v1/reservations/{RES}/extend", self.held, methods=["POST"]),
                Route("/v1/pools", self.list_pools),
                Route("/v1/pools/{pool}/benches", self.apply, methods=["PUT"]),
                Route("/v1/benches", self.list_benches),
                Route("/v1/dead-letters", self.list_letters),
                Route("/v1/dead-letters/{letter}", self.letter),
                Route("/v1/dead-letters/{letter}/{verb}", self.settle, methods=["POST"]),
                Route("/v1/workers", self.list_workers),
                Route("/v1/pools/{pool}/workers/{worker}/drain", self.drain, methods=["POST"]),
                Route("/v1/pools/{pool}/workers/{worker}/resume", self.resume, methods=["POST"]),
                Route("/v1/pools/{pool}/workers/{worker}", self.one_worker),
                Route("/v1/commands/cmd-1", self.command),
                Route("/v1/events", self.events),
                Route("/v1/whoami", self.whoami),
            ]
        )
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port or 0))
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(
            self._guarded(app),
            log_config=None,
            log_level="critical",
            access_log=False,
            loop="asyncio",
            ws="none",
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listener],))
        self._thread.start()
        until(lambda: self._server.started, "the fake API listens")

    def stop(self):
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def keys(self, method, path):
        return [h["idempotency-key"] for m, p, h, _ in self.asked if (m, p) == (method, path)]

    def bodies(self, method, path):
        return [json.loads(body) for m, p, _, body in self.asked if (m, p) == (method, path)]

    def count(self, method, path):
        return sum((m, p) == (method, path) for m, p, _, _ in self.asked)

    def was_asked(self, method, path):
        return self.count(method, path) > 0

    def _guarded(self, app):
        async def guard(scope, receive, send):
            message = await receive()
            headers = {key.decode(): value.decode() for key, value in scope["headers"]}
            self.asked.append((scope["method"], scope["path"], headers, message["body"]))
            if self.is_mute:
                await receive()  # The client gives up.
                return
            if headers.get("authorization") != f"Bearer {TOKEN}":
                answer = problem(401, "unauthenticated", "no valid token")
            elif self.failures:
                status, code, detail = self.failures.popleft()
                answer = problem(status, code, detail)
            else:
                await app(scope, replay(message, receive), send)
                return
            await answer(scope, receive, send)

        return guard

    async def items(self, request, items):
        start, limit = int(request.query_params.get("cursor", 0)), 2
        cursor = str(start + limit) if start + limit < len(items) else None
        return JSONResponse({"items": items[start : start + limit], "next_cursor": cursor})

    async def list_cases(self, request):
        return await self.items(request, self.cases)

    async def list_pools(self, request):
        pools = [{"pool": pool, "health": self.rules.get(pool)} for pool in self.pools]
        return await self.items(request, pools)

    async def list_benches(self, request):
        return await self.items(request, self.benches)

    async def list_letters(self, request):
        self.queries.append(dict(request.query_params))
        status = request.query_params.get("status", "")
        found = [item for item in self.letters.values() if not status or item["status"] in status]
        return await self.items(request, found)

    async def letter(self, request):
        found = self.letters.get(request.path_params["letter"])
        if found is None:
            return problem(404, "no_such_dead_letter", "there is no dead letter 9-9; look again")
        return JSONResponse(found)

    async def settle(self, request):
        found = self.letters.get(request.path_params["letter"])
        if found is None:
            return problem(404, "no_such_dead_letter", "there is no dead letter 9-9; look again")
        verb = request.path_params["verb"]
        found["status"] = {"replay": "replayed", "discard": "discarded"}[verb]
        return JSONResponse({**found, **REPLAYED} if verb == "replay" else found)

    async def list_workers(self, request):
        return await self.items(request, self.workers)

    async def drain(self, request):
        found = next(w for w in self.workers if w["worker"] == request.path_params["worker"])
        found["state"] = "draining"
        return JSONResponse(found)

    async def resume(self, request):
        found = next(w for w in self.workers if w["worker"] == request.path_params["worker"])
        found |= {"state": "online", "reason": ""}
        return JSONResponse(found)

    async def one_worker(self, request):
        found = next(w for w in self.workers if w["worker"] == request.path_params["worker"])
        if not self.is_stubborn:
            found["state"] = "gone"
        return JSONResponse(found)

    async def submit(self, request):
        if self.execution is None:
            return JSONResponse({"command_id": "cmd-1", "href": "/v1/commands/cmd-1"}, 202)
        return JSONResponse(self.execution, 201, {"TEO-Position": "0:41"})

    async def command(self, request):
        if self.aside:
            return JSONResponse({"id": "cmd-1", "status": "set_aside", **self.aside})
        self.execution = execution()
        return JSONResponse(
            {"id": "cmd-1", "status": "accepted", "subject_id": EXE, "position": "0:41"}
        )

    async def executions(self, request):
        if self.listed is None:
            return await self.items(request, [self.execution] * 3)
        self.lists -= 1
        return await self.items(request, self.listed if self.lists >= 0 else [])

    async def one(self, request):
        if request.method == "DELETE" and not self.is_stubborn:
            self.execution = finished("cancelled", "cancelled_by_user")
            self.is_endless = False
        if request.query_params.get("until") == "started" and self.execution["status"] == "queued":
            await asyncio.sleep(QUEUE_S)
            self.execution = execution()
        return JSONResponse(self.execution)

    async def reserve(self, request):
        return JSONResponse(self.reservation, 201)

    async def held(self, request):
        if request.query_params.get("until"):
            await asyncio.sleep(QUEUE_S)
        if request.method == "DELETE":
            self.reservation = {**self.reservation, "status": "released"}
        return JSONResponse(self.reservation)

    async def apply(self, request):
        benches = (await request.json())["benches"]
        pool = request.path_params["pool"]
        made = [{**bench, "pool": pool, "state": "idle"} for bench in benches]
        made = [{**bench, **self.as_applied} for bench in made]
        return JSONResponse({"pool": pool, "benches": made})

    async def junit(self, request):
        return Response("<testsuites/>", media_type="application/xml")

    async def whoami(self, request):
        return JSONResponse({"actor": "ann", "roles": ["operator"]})

    async def artifacts(self, request):
        found = [
            {
                "attempt": 1,
                "path": path,
                "kind": kind,
                "size_bytes": len(body),
                "sha256": digest,
                "href": f"/v1/executions/{EXE}/artifacts/1/{quote(path)}?kind={kind}",
            }
            for (path, kind), (body, digest) in self.files.items()
        ]
        return JSONResponse({"items": found, "next_cursor": None})

    async def artifact(self, request):
        key = (request.path_params["path"], request.query_params["kind"])
        body, digest = self.files[key]
        start = int(request.headers.get("range", "bytes=0-")[6:-1])
        self.ranges.append(start)

        async def some():
            if not start:
                yield body[: len(body) // 2]
                await asyncio.sleep(0.05)
                raise ConnectionAbortedError
            yield body[start:]

        if start:
            assert request.headers["if-range"] == f'"{digest}"'
        length = {"Content-Length": str(len(body) - start)}
        return StreamingResponse(some(), 206 if start else 200, length)

    async def logs(self, request):
        if "event-stream" not in request.headers["accept"]:
            since = int(request.query_params.get("since_line", 1))
            stored = [
                {"n": n, "stream": "stdout", "text": text}
                for n, text in enumerate(["one", "two", "three"], start=1)
            ]
            page = [line for line in stored if line["n"] >= since][:2]
            tail = {"next_line": since + len(page), "is_complete": since + len(page) > 3}
            return JSONResponse({"attempt": 1, "lines": page, **tail})
        ids = [frame[2] if isinstance(frame, tuple) else None for frame in self.frames]
        resumed = request.headers.get("last-event-id")
        start = ids.index(resumed) + 1 if resumed else 0
        return StreamingResponse(self._follow(start), media_type="text/event-stream")

    async def _follow(self, start):
        for index in range(start, len(self.frames)):
            if index in self.cuts:
                self.cuts.discard(index)
                raise ConnectionAbortedError
            frame = self.frames[index]
            if isinstance(frame, str):
                yield frame
                continue
            if callable(frame):
                await frame()
                continue
            kind, data, event_id = frame
            head = f"id: {event_id}\n" if event_id else ""
            yield f"{head}event: {kind}\ndata: {json.dumps(data)}\n\n"
        while self.is_endless:
            if self._server.should_exit:
                return
            await asyncio.sleep(0.01)
        if self.execution["status"] != "finished":
            self.execution = self.at_end
        yield f"event: end\ndata: {json.dumps({'status': 'finished'})}\n\n"

    async def events(self, request):
        meta = {"occurred_at": "2026-01-01T00:00:00Z", "pool": "lab-a"}
        body = {"meta": meta, "type": "ExecutionFinished", "data": {"execution_id": EXE}}

        async def stream():
            yield "id: 0:1\n\n"
            for number in range(2, 4):
                data = json.dumps({**body, "number": number})
                yield f"id: 0:{number}\nevent: ExecutionFinished\ndata: {data}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")


BENCH = {"pool": "lab-a", "name": "bench-1", "state": "idle", "labels": {"board": "rpi4"}}


REPLAYED = {
    "is_put_back": True,
    "put_back_offset": 12,
    "command_id": "cmd-7",
    "outcome": "accepted",
    "outcome_reason": "",
    "new_execution_id": "exe-0190cc",
}


def letter(number, **given):
    return {
        "id": f"0-{number}",
        "kind": "execution",
        "status": "open",
        "pool": "lab-a",
        "execution_id": EXE,
        "type": "SubmitExecution",
        "error": "provision_failed: no power",
        "found_at": "2026-01-01T00:00:13Z",
        "found_by": "scheduler",
        "source_topic": "teo.commands",
        "source_partition": 0,
        "source_offset": 7,
        "source_at": "2026-01-01T00:00:00Z",
        "size_bytes": 20,
        "is_cut": False,
        "held_bytes": 20,
        "sha256": "",
        "settled_by": None,
        "settled_at": None,
        "settled_reason": "",
        "replays": 0,
        "stack": "",
        "key": "lab-a",
        "headers": {"ce_type": "SubmitExecution"},
        "value": {"meta": {}, "type": "SubmitExecution", "data": {"run": {"command": ["true"]}}},
        "undecodable": "",
        "value_hex": "",
        **given,
    }


def problem(status, code, detail):
    body = {"type": "about:blank", "title": "t", "status": status, "detail": detail, "code": code}
    return JSONResponse(body, status, media_type="application/problem+json")


def replay(first, receive):
    waiting = [first]

    async def replayed():
        return waiting.pop() if waiting else await receive()

    return replayed
