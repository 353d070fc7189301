"""Runs tests as processes of the worker's own machine, each under a guardian of its own.

Never lets a test outlive its lease, and never gives a test the worker's own environment.
"""

import asyncio
import contextlib
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
    Handle,
    Lease,
    OnLines,
)
from adapters.globs import check_globs
from adapters.limits import limit_reached
from adapters.local.config import local_config
from adapters.local.guard import STOP_MARGIN_S, Guard, Launch
from adapters.local.orphans import end_orphans
from adapters.local.place import Place, mark_root, place_for, place_of, places_in
from adapters.local.removal import Remover
from adapters.local.streams import Streams
from adapters.local.workspace import Workspace, fill, in_thread

log = structlog.get_logger()


class LocalAdapter:
    """The adapter `local`. Config of a bench: see `adapters.local.config.LocalConfig`."""

    def __init__(self, state_dir: Path) -> None:
        self._root = Path(state_dir).resolve()
        self._remover = Remover(self._root)
        self._mine: dict[Path, Workspace] = {}
        """What this life provisioned and has not torn down, by the folder of the attempt."""

    async def check(self, bench: Bench) -> None:
        """Return if tests can run here; see the contract."""
        local_config(bench).check_folders()
        try:
            mark_root(self._root)
        except OSError as error:
            raise AdapterError(
                f"cannot keep workspaces in {self._root}: {error}", code="no_workspace"
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
        self._mine[place.folder] = Workspace(place, config)
        if config.copy is not None:
            await fill(place.workspace, config.copy)
        return place.handle()

    async def run(
        self, attempt: Attempt, handle: Handle, *, on_lines: OnLines, lease: Lease
    ) -> Exit:
        """Run the command in its workspace; see the contract."""
        place = place_of(handle, own=self._root)
        if place.folder not in self._mine:
            raise _not_provisioned(place)
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
        place = place_of(handle, own=self._root)
        workspace = self._mine.get(place.folder)
        if workspace is None:
            raise _not_provisioned(place)
        return await in_thread(lambda is_given_up: workspace.collect(attempt, is_given_up))

    async def teardown(self, handle: Handle) -> None:
        """End what still runs and remove the workspace; see the contract."""
        place = place_of(handle, own=self._root)
        if ended := await asyncio.to_thread(end_orphans, place):
            log.warning("orphans.ended", execution_id=place.id.execution_id, processes=ended)
        await in_thread(lambda is_given_up: self._remover.remove(place.folder, is_given_up))
        if (workspace := self._mine.pop(place.folder, None)) is not None:
            workspace.close()

    async def leftovers(self) -> Sequence[Handle]:
        """Return what lies in the state folder and is not of this life; see the contract."""
        places = await asyncio.to_thread(places_in, self._root)
        return [place.handle() for place in places if place.folder not in self._mine]


def _not_provisioned(place: Place) -> AdapterError:
    return AdapterError(f"{place.folder} is not there: provision it", code="no_workspace")


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
