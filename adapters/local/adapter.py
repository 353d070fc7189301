"""Runs tests as processes of the worker's own machine, each under a guardian of its own.

Never lets a test outlive its lease, and never gives a test the worker's own environment.
"""

import asyncio
import contextlib
import hashlib
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
    Handle,
    Lease,
    OnLines,
)
from adapters.globs import check_globs
from adapters.limits import limit_reached
from adapters.local import cgroup, use
from adapters.local.config import LocalConfig, local_config
from adapters.local.guard import STOP_MARGIN_S, Guard
from adapters.local.launch import launch_of
from adapters.local.orphans import end_orphans
from adapters.local.owner import MACHINE_DIR, Owner, check_can_work_in, owner_of
from adapters.local.place import (
    CLOSED,
    OPEN,
    Place,
    mark_root,
    place_for,
    place_of,
    places_in,
)
from adapters.local.removal import Remover
from adapters.local.streams import Streams
from adapters.local.use import Use
from adapters.local.workspace import Workspace, fill, in_thread

log = structlog.get_logger()


class LocalAdapter:
    """The adapter `local`. Config of a bench: see `adapters.local.config.LocalConfig`."""

    def __init__(self, state_dir: Path) -> None:
        self._root = Path(state_dir).resolve()
        digest = hashlib.sha256(str(self._root).encode()).hexdigest()
        self._open_root = MACHINE_DIR / "work" / digest[:16]
        """Where workspaces of other users are: they cannot come into the worker's own folder."""
        self._removers = {
            self._root: Remover(self._root, mode=CLOSED),
            self._open_root: Remover(self._open_root, mode=OPEN),
        }
        self._allowed = NO_ALLOWANCE
        self._mine: dict[Path, Workspace] = {}
        """What this life provisioned and has not torn down, by the folder of the attempt."""

    def allow(self, allowed: Allowed) -> None:
        """Let benches reach what is allowed of this machine; without this, nothing."""
        self._allowed = allowed

    async def check(self, bench: Bench) -> None:
        """Return if tests can run here; see the contract."""
        config = local_config(bench, self._allowed)
        config.check_folders()
        self._mark_root()
        owner = self._owner(bench, config)
        if owner is not None and config.directory is not None:
            await asyncio.to_thread(check_can_work_in, owner, config.directory, bench.name)

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
        place.make(mode=CLOSED if owner is None else OPEN)
        workspace = self._mine[place.folder] = Workspace(place, config, owner)
        await in_thread(lambda is_given_up: workspace.look(attempt, is_given_up))
        if config.copy is not None:
            await fill(place.workspace, config.copy)
        if owner is not None:
            await in_thread(lambda is_given_up: place.give(owner, is_given_up))
        return place.handle()

    def _root_for(self, config: LocalConfig) -> Path:
        """Return where workspaces are: another user cannot come into the worker's own folder."""
        return self._root if config.user is None else self._open_root

    def _place_of(self, handle: Handle) -> Place:
        return place_of(handle, own=self._removers)

    def _workspace_in(self, place: Place) -> Workspace:
        """Return what is held of the attempt. Raises `AdapterError` if this life made nothing."""
        if (workspace := self._mine.get(place.folder)) is None:
            raise AdapterError(
                f"{place.folder} is not there: provision it", code="no_workspace", fault="worker"
            )
        return workspace

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
        place = self._place_of(handle)
        workspace = self._workspace_in(place)
        config = local_config(attempt.bench, self._allowed)
        launch = launch_of(attempt, place, config, self._owner(attempt.bench, config))
        guard = Guard(launch, lease)
        watched = Use(
            limits=launch.limits,
            guardian=guard.pid,
            group=launch.group,
            workspace=workspace.folder,
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
        workspace = self._workspace_in(self._place_of(handle))
        return await in_thread(lambda is_given_up: workspace.collect(attempt, is_given_up))

    async def teardown(self, handle: Handle) -> None:
        """End what still runs and remove the workspace; see the contract."""
        place = self._place_of(handle)
        remover = self._removers.get(place.root, self._removers[self._root])
        is_ours = place.folder in self._mine
        if ended := await asyncio.to_thread(end_orphans, place, of_another_life=not is_ours):
            log.warning("orphans.ended", execution_id=place.id.execution_id, processes=ended)
        await in_thread(lambda is_given_up: remover.remove(place.folder, is_given_up))
        if (workspace := self._mine.pop(place.folder, None)) is not None:
            workspace.close()

    async def leftovers(self) -> Sequence[Handle]:
        """Return what lies in the state folder and is not of this life; see the contract."""
        places = [
            place for root in self._removers for place in await asyncio.to_thread(places_in, root)
        ]
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
    if exit_.ended == "exited" and (detail := await watched.exceeded_at_end(exit_.signal)):
        return replace(exit_, ended="limit_exceeded", detail=detail)
    return exit_


async def _end_unguarded(guard: Guard, place: Place) -> None:
    """End what is left if the guardian was killed before it had ended all."""
    if await guard.was_killed() or place.is_guarded:
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
    await asyncio.to_thread(guard.kill, cause)


async def _limit_use(guard: Guard, watched: Use, attempt: Attempt) -> None:
    """Stop the test when it uses more of the machine than it may."""
    detail = await watched.exceeded()
    log.info("test.stopped", execution_id=attempt.id.execution_id, cause=detail)
    grace_s = min(attempt.grace_s, use.GRACE_S)
    guard.stop(grace_s, cause="limit_exceeded", detail=detail)
    await asyncio.sleep(grace_s + STOP_MARGIN_S)
    await asyncio.to_thread(guard.kill, "limit_exceeded", detail)
