"""Runs tests as processes of the worker's own machine, each under a guardian of its own.

Never lets a test outlive its lease, and never gives a test the worker's own environment.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import structlog

from adapters.contract import (
    NO_ALLOWANCE,
    AdapterError,
    Allowed,
    Attempt,
    AttemptId,
    Bench,
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
from adapters.local import cgroup, use
from adapters.local.config import LocalConfig, local_config
from adapters.local.guard import STOP_MARGIN_S, Guard
from adapters.local.launch import launch_of
from adapters.local.orphans import end_orphans
from adapters.local.owner import MACHINE_DIR, Owner, owner_of
from adapters.local.place import ARTIFACTS, Place, mark_root, place_for, place_of, places_in
from adapters.local.streams import Streams
from adapters.local.use import Use

COPY_FILES_MAX = 100_000
_COLLECT_ALWAYS = f"{ARTIFACTS}/"

log = structlog.get_logger()


class LocalAdapter:
    """The adapter `local`. Config of a bench: see `adapters.local.config.LocalConfig`."""

    def __init__(self, state_dir: Path) -> None:
        self._root = Path(state_dir).resolve()
        self._allowed = NO_ALLOWANCE
        self._mine: set[Path] = set()

    def allow(self, allowed: Allowed) -> None:
        """Let benches reach what is allowed of this machine; without this, nothing."""
        self._allowed = allowed

    async def check(self, bench: Bench) -> None:
        """Return if tests can run here; see the contract."""
        config = local_config(bench, self._allowed)
        config.check_folders()
        self._mark_root()
        self._owner(bench, config)

    def handle_for(self, attempt_id: AttemptId, bench: Bench) -> Handle:
        """Return the handle of an attempt; see the contract."""
        config = local_config(bench, self._allowed)
        return place_for(self._root_for(config), attempt_id).handle()

    async def provision(self, attempt: Attempt) -> Handle:
        """Make the workspace, and fill it if the bench says so; see the contract."""
        config = local_config(attempt.bench, self._allowed)
        check_globs((*attempt.junit, *attempt.artifacts))
        config.check_folders()
        owner = self._owner(attempt.bench, config)
        place = place_for(self._root_for(config), attempt.id)
        place.make(owner)
        self._mine.add(place.folder)
        if config.copy is not None:
            await _copy(config.copy, place.workspace)
            if owner is not None:
                await asyncio.to_thread(place.give, owner)
        return place.handle()

    def _root_for(self, config: LocalConfig) -> Path:
        """Return where workspaces are: another user cannot come into the worker's own folder."""
        return self._root if config.user is None else self._open_root

    @property
    def _open_root(self) -> Path:
        digest = hashlib.sha256(str(self._root).encode()).hexdigest()
        return MACHINE_DIR / "work" / digest[:16]

    def _owner(self, bench: Bench, config: LocalConfig) -> Owner | None:
        if config.user is None:
            return None
        self._mark_root()  # A claim of a folder that is not there counts as given up.
        return owner_of(config.user, bench.name, self._root)

    def _mark_root(self) -> None:
        try:
            mark_root(self._root)
        except OSError as error:
            raise AdapterError(
                f"cannot keep workspaces in {self._root}: {error}",
                code="no_workspace",
                fault="worker",
            ) from error

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        """Run the command in its workspace; see the contract."""
        place = place_of(handle)
        if not place.workspace.is_dir():
            raise AdapterError(
                f"{place.workspace} is not there: provision it", code="no_workspace", fault="worker"
            )
        config = local_config(attempt.bench, self._allowed)
        launch = launch_of(attempt, place, config, self._owner(attempt.bench, config))
        guard = Guard(launch, lease)
        watched = Use(
            limits=launch.limits,
            guardian=guard.pid,
            group=launch.group,
            workspace=place.workspace,
        )
        following = asyncio.create_task(_follow(guard, watched, place, attempt, on_lines, lease))
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
                await _end_unguarded(guard, place)
                if launch.group is not None:
                    cgroup.remove(launch.group)

    async def collect(self, attempt: Attempt, handle: Handle) -> Collected:
        """Find files in the workspace, and new ones in the bench's directory; see the contract."""
        place = place_of(handle)
        config = local_config(attempt.bench, self._allowed)
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
        roots = (self._root, self._open_root)
        places = [place for root in roots for place in await asyncio.to_thread(places_in, root)]
        return [place.handle() for place in places if place.folder not in self._mine]


async def _follow(
    guard: Guard, watched: Use, place: Place, attempt: Attempt, on_lines: OnLines, lease: Lease
) -> Exit:
    """Hand over the output and keep the limits until the test has ended."""
    streams = Streams(stdout=guard.stdout, stderr=guard.stderr)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(streams.pump(on_lines))
            limits = group.create_task(_limit(guard, streams, attempt, lease))
            using = group.create_task(_limit_use(guard, watched, attempt))
            await guard.open()
            await guard.gone.wait()
            limits.cancel()
            using.cancel()
            await _end_unguarded(guard, place)
            streams.finish()
    except BaseExceptionGroup as group_error:
        # One task at most fails by itself: the other is then cancelled.
        raise group_error.exceptions[0] from None
    exit_ = guard.exit()
    if exit_.ended == "exited" and (detail := await watched.exceeded_at_end()):
        return replace(exit_, ended="limit_exceeded", detail=detail)
    return exit_


async def _end_unguarded(guard: Guard, place: Place) -> None:
    """End what is left if the guardian was killed before it had ended all."""
    if await guard.was_killed() or place.pidfile.exists():
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


async def _limit_use(guard: Guard, watched: Use, attempt: Attempt) -> None:
    """Stop the test when it uses more of the machine than it may."""
    detail = await watched.exceeded()
    log.info("test.stopped", execution_id=attempt.id.execution_id, cause=detail)
    grace_s = min(attempt.grace_s, use.GRACE_S)
    guard.stop(grace_s, cause="limit_exceeded", detail=detail)
    await asyncio.sleep(grace_s + STOP_MARGIN_S)
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
