"""Runs tests as processes of the worker's own machine, each under a guardian of its own.

Never lets a test outlive its lease, and never gives a test the worker's own environment.
"""

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import structlog

from adapters.contract import (
    AdapterError,
    Attempt,
    AttemptId,
    Bench,
    CannotStart,
    Collected,
    Exit,
    Found,
    FoundKind,
    Handle,
    Lease,
    OnLines,
    Refused,
)
from adapters.globs import check_globs, match_files
from adapters.limits import limit_reached
from adapters.local.config import LocalConfig, local_config
from adapters.local.guard import STOP_MARGIN_S, Guard, Launch
from adapters.local.orphans import end_orphans
from adapters.local.place import ARTIFACTS, Place, mark_root, place_for, place_of, places_in
from adapters.local.streams import Streams

COPY_FILES_MAX = 100_000
_COLLECT_ALWAYS = f"{ARTIFACTS}/"

log = structlog.get_logger()


class LocalAdapter:
    """The adapter `local`. Config of a bench: see `adapters.local.config.LocalConfig`."""

    def __init__(self, state_dir: Path) -> None:
        self._root = Path(state_dir).resolve()
        self._mine: set[Path] = set()

    async def check(self, bench: Bench) -> None:
        """Return if tests can run here; see the contract."""
        local_config(bench).check_folders()
        try:
            mark_root(self._root)
        except OSError as error:
            raise AdapterError(
                f"cannot keep workspaces in {self._root}: {error}",
                code="no_workspace",
                fault="worker",
            ) from error

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        """Return the handle of an attempt; see the contract."""
        local_config(bench)
        return place_for(self._root, attempt_id).handle()

    async def provision(self, attempt: Attempt) -> Handle:
        """Make the workspace, and fill it if the bench says so; see the contract."""
        config = local_config(attempt.bench)
        check_globs((*attempt.junit, *attempt.artifacts))
        config.check_folders()
        place = place_for(self._root, attempt.id)
        place.make()
        self._mine.add(place.folder)
        if config.copy is not None:
            await _copy(config.copy, place.workspace)
        return place.handle()

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        """Run the command in its workspace; see the contract."""
        place = place_of(handle)
        if not place.workspace.is_dir():
            raise AdapterError(
                f"{place.workspace} is not there: provision it", code="no_workspace", fault="worker"
            )
        guard = Guard(_launch(attempt, place), lease)
        following = asyncio.create_task(_follow(guard, place, attempt, on_lines, lease))
        try:
            return await asyncio.shield(following)
        except asyncio.CancelledError:
            guard.stop(attempt.grace_s)
            # The last lines are still handed over. A second cancel ends that too.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(attempt.grace_s + STOP_MARGIN_S):
                    await following
            raise
        finally:
            following.cancel()
            await asyncio.wait({following})
            try:
                await guard.end()
            finally:
                await _end_unguarded(place)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        """Find files in the workspace, and new ones in the bench's directory; see the contract."""
        place = place_of(handle)
        config = local_config(attempt.bench)
        if not place.workspace.is_dir():
            raise AdapterError(
                f"{place.workspace} is not there: the test removed it, so nothing is collected",
                code="workspace_removed",
                retriable=False,
                fault="test",
            )
        return await asyncio.to_thread(_collect, attempt, place, config)

    async def teardown(self, handle: Handle) -> None:
        """End what still runs and remove the workspace; see the contract."""
        place = place_of(handle)
        await asyncio.to_thread(_tear_down, place)
        self._mine.discard(place.folder)

    async def leftovers(self) -> Sequence[Handle]:
        """Return what lies in the state folder and is not of this life; see the contract."""
        places = await asyncio.to_thread(places_in, self._root)
        return [place.handle() for place in places if place.folder not in self._mine]


def _launch(attempt: Attempt, place: Place) -> Launch:
    _check_texts(attempt)
    config = local_config(attempt.bench)
    cwd = config.directory or place.workspace
    env = {
        **config.base_env(),
        "PWD": str(cwd),
        "TEO_BENCH": attempt.bench.name,
        **attempt.env,
        **place.environment,
        "TEO_ARTIFACTS_DIR": str(place.artifacts),
    }
    return Launch(
        command=attempt.command,
        env=env,
        cwd=cwd,
        pidfile=place.pidfile,
        merge_streams=config.merge_streams,
    )


def _check_texts(attempt: Attempt) -> None:
    """Raise `CannotStart` for what no operating system takes as an argument or a variable."""
    for text in (*attempt.command, *attempt.env, *attempt.env.values()):
        if "\0" in text or text.encode("utf-8", "ignore").decode() != text:
            raise CannotStart(
                f"cannot start {attempt.command[0]!r}: {text[:100]!r} holds a NUL or half a "
                "character, which no argument or variable can hold"
            )
    if wrong := [name for name in attempt.env if not name or "=" in name]:
        raise CannotStart(f"cannot start {attempt.command[0]!r}: no variable is named {wrong[0]!r}")


async def _follow(
    guard: Guard, place: Place, attempt: Attempt, on_lines: OnLines, lease: Lease
) -> Exit:
    """Hand over the output and keep the limits until the test has ended."""
    streams = Streams(stdout=guard.stdout, stderr=guard.stderr)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.pump(on_lines))
            limits = group.create_task(_limit(guard, streams, attempt, lease))
            await guard.open()
            await guard.gone.wait()
            limits.cancel()
            await _end_unguarded(place)
            streams.finish()
    except BaseExceptionGroup as group_error:
        # One task at most fails by itself: the other is then cancelled.
        raise group_error.exceptions[0] from None
    return guard.exit()


async def _end_unguarded(place: Place) -> None:
    """End what is left if the guardian was killed before it had ended all and said so."""
    if place.pidfile.exists():
        await asyncio.to_thread(end_orphans, place)


async def _limit(guard: Guard, streams: Streams, attempt: Attempt, lease: Lease) -> None:
    """Stop the test when it has had its time, or has been silent for too long."""
    cause = await limit_reached(
        attempt,
        silent_since=lambda: streams.silent_since,
        # The guardian ends a lease by itself; this is for one that is stopped or hangs.
        lease_end=lambda: lease.until + STOP_MARGIN_S,
    )
    log.info("test.stopped", execution_id=attempt.id.execution_id, cause=cause)
    if cause != "lease_expired":
        guard.stop(attempt.grace_s, cause=cause)
        await asyncio.sleep(attempt.grace_s + STOP_MARGIN_S)
    await asyncio.to_thread(guard.kill)


async def _copy(source: Path, target: Path) -> None:
    """Copy a folder in a thread that gives up once nobody waits for it."""
    copied = 0
    is_cancelled = False

    def copy_file(from_: str, to: str) -> str:
        nonlocal copied
        copied += 1
        if is_cancelled or copied > COPY_FILES_MAX:
            raise AdapterError(
                f"{source} holds over {COPY_FILES_MAX} files: use config.directory instead",
                code="copy_too_big",
                retriable=False,
            )
        return str(shutil.copy2(from_, to))

    def copy() -> None:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=copy_file)

    copying = asyncio.ensure_future(asyncio.to_thread(copy))
    try:
        await asyncio.shield(copying)
    except asyncio.CancelledError:
        is_cancelled = True
        await asyncio.wait({copying})
        raise
    except (OSError, shutil.Error) as error:
        is_full = os.strerror(errno.ENOSPC) in str(error)
        raise AdapterError(
            f"cannot copy {source} into the workspace: {error}",
            code="no_workspace" if is_full else "copy_failed",
            fault="worker" if is_full else "bench",
        ) from error


def _collect(attempt: Attempt, place: Place, config: LocalConfig) -> Collected:
    found: dict[tuple[str, FoundKind], Found] = {}
    refused: list[Refused] = []
    wanted: list[tuple[Path, FoundKind, tuple[str, ...]]] = [
        (place.workspace, "artifact", (_COLLECT_ALWAYS, *attempt.artifacts)),
        (place.workspace, "junit", attempt.junit),
    ]
    if config.directory is not None:
        # First, so that a file of the same path in the workspace goes before.
        wanted[:0] = [
            (config.directory, "artifact", attempt.artifacts),
            (config.directory, "junit", attempt.junit),
        ]
    for root, kind, globs in wanted:
        matched = match_files(root, globs)
        refused += matched.refused
        for path in matched.paths:
            file = root / path
            if not _is_older(file, path, place, config):
                found[path, kind] = Found(
                    kind=kind, path=path, size_bytes=file.stat().st_size, local_path=file
                )
    if attempt.junit and not any(kind == "junit" for _, kind in found):
        refused.append(
            Refused(path=", ".join(attempt.junit), code="no_match", reason="no file matches")
        )
    ordered = tuple(found[key] for key in sorted(found))
    return Collected(found=ordered, refused=tuple(dict.fromkeys(refused)))


def _is_older(file: Path, path: str, place: Place, config: LocalConfig) -> bool:
    """Return whether a file was there before the test, so is no evidence of this attempt."""
    status = file.stat()
    if config.directory is not None and not file.is_relative_to(place.workspace):
        # The time of change cannot be set by whoever unpacks or copies a file.
        return status.st_ctime_ns <= place.made.stat().st_ctime_ns
    origin = None if config.copy is None else config.copy / path
    if origin is None or not origin.is_file():
        return False
    before = origin.stat()
    return (status.st_mtime_ns, status.st_size) == (before.st_mtime_ns, before.st_size)


def _tear_down(place: Place) -> None:
    if ended := end_orphans(place):
        log.warning("orphans.ended", execution_id=place.id.execution_id, processes=ended)
    if place.folder.exists():
        _remove(place.folder)


def _remove(folder: Path) -> None:
    """Remove a folder, whatever rights the test took away inside it."""

    def open_up(_function: object, path: str, _error: object) -> None:
        parent = Path(path).parent
        parent.chmod(0o700)
        if Path(path).is_dir() and not Path(path).is_symlink():
            Path(path).chmod(0o700)
            shutil.rmtree(path)
        else:
            Path(path).unlink(missing_ok=True)

    try:
        shutil.rmtree(folder, onerror=open_up)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AdapterError(
            f"cannot remove {folder}: {error}; remove it by hand, then restore the bench",
            code="workspace_stays",
        ) from error
