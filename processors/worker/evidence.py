"""What is kept of an attempt: cases from its JUnit files, and every file stored with its hash.

Nothing is named before the store has it. Never decides a verdict.
"""

import asyncio
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from adapters.contract import Collected, Found
from events.shared import Artifact, AttemptRef, Case
from processors.artifacts.store import (
    ArtifactRefused,
    ArtifactStore,
    ArtifactStoreUnavailable,
    Source,
    StoredArtifact,
    check_key,
)
from processors.worker.cases import Cases, read_cases
from processors.worker.faults import NotRead
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits
from processors.worker.verdict import ReportFault, Seen

PATH_BYTES_MAX = 4096
"""As long as a path that a system call takes; three times that still is an address."""
SHORTENED = "…"
"""Ends a name that an adapter shortened."""
_FRAME_BYTES = 64
"""What a case or a file costs on the wire beside its texts, generously."""


@dataclass(slots=True)
class Evidence:
    """What was found and stored so far."""

    cases: Cases
    artifacts: list[Artifact] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size_bytes: int = 0
    listed_bytes: int = 0
    """What naming the files costs in the last report."""
    report_fault: ReportFault = ""

    def added_to(self, seen: Seen, *, verdict_by: str) -> Seen:
        """Return `seen` with what was found."""
        return replace(
            seen,
            totals=self.cases.totals,
            flaky=self.cases.flaky,
            risky=self.cases.risky,
            report_fault=self.report_fault,
            verdict_by=verdict_by,
            notes=tuple(self.cases.mask.cut(note, SHORTENED) for note in self.notes),
        )


class Keeper:
    """Stores the files of one attempt."""

    def __init__(
        self,
        ref: AttemptRef,
        *,
        pool: str,
        store: ArtifactStore,
        limits: EvidenceLimits,
        masker: Masker,
    ) -> None:
        self._prefix = "/".join(
            _segment(part) for part in (pool, ref.execution_id, str(ref.attempt))
        )
        self._store = store
        self._limits = limits
        self._masker = masker

    async def keep(
        self, collected: Collected, evidence: Evidence, *, asks_report: bool = False
    ) -> None:
        """Read and store what was found; raises `ArtifactStoreUnavailable` if the store is away.

        A file that is both a report and an artifact is kept once, as the report. `asks_report`
        says that there should be one. Raises `NotRead` at the end if there was no time to read all.
        """
        evidence.notes.extend(
            f"{name_of(each.path)!r} not kept: {each.reason}" for each in collected.refused
        )
        once: dict[str, Found] = {}
        for found in collected.found:
            if found.kind == "junit" or found.path not in once:
                once[found.path] = found
        if asks_report and not collected.has_all_reports:
            evidence.report_fault = "report_unreadable"
        if asks_report and all(found.kind != "junit" for found in once.values()):
            evidence.report_fault = "report_missing"
        is_read = await self._read_reports(once, evidence)
        for path in sorted(once):
            found = once[path]
            source = _source(found)
            if source is None:
                evidence.notes.append(f"{name_of(path)!r} not kept: the adapter gave no content")
                continue
            size_bytes = found.size_bytes if found.open is not None else None
            await self.keep_file(source, path, found.kind, evidence, size_bytes=size_bytes)
        over = evidence.cases.count - len(evidence.cases.kept)
        if over:
            evidence.notes.append(f"{over} cases over the limit are counted but not listed")
        if not is_read:
            raise NotRead(self._limits.reports_s)

    async def _read_reports(self, once: Mapping[str, Found], evidence: Evidence) -> bool:
        """Read the reports in the order of their paths; return whether there was time for it."""
        room_bytes = self._limits.reports_bytes_max
        try:
            async with asyncio.timeout(self._limits.reports_s):
                for path in sorted(path for path, each in once.items() if each.kind == "junit"):
                    room_bytes -= once[path].size_bytes
                    if room_bytes < 0:
                        evidence.report_fault = "report_unreadable"
                        _note_once(
                            evidence,
                            f"over {self._limits.reports_bytes_max} bytes of reports: the rest is "
                            "not read; write less into them, or split the run",
                        )
                        break
                    await self._read_cases(path, once[path], evidence)
        except TimeoutError:
            return False
        return True

    async def keep_file(
        self,
        source: Source,
        path: str,
        kind: str,
        evidence: Evidence,
        *,
        size_bytes: int | None = None,
    ) -> None:
        """Store one file, found with `size_bytes`; one that may not be kept becomes a note."""
        limits = self._limits
        if len(evidence.artifacts) >= limits.artifacts_max:
            _note_once(evidence, f"more than {limits.artifacts_max} files: the rest not kept")
            return
        name = self._free_name(path, kind, evidence)
        if self._masker(name) != name:
            # Masked, two files could get one name.
            evidence.notes.append(f"{name!r} not kept: its name holds a secret; rename it")
            return
        try:
            expected = _size(source) if size_bytes is None else size_bytes
            if evidence.size_bytes + expected > limits.artifacts_bytes_max:
                note = f"{name!r} not kept: over {limits.artifacts_bytes_max} bytes in all"
                evidence.notes.append(note)
                return
            key = self._key(name, kind)
            evidence.listed_bytes += len(name.encode()) + len(key.encode()) + _FRAME_BYTES * 2
            if evidence.listed_bytes > limits.artifacts_list_bytes_max:
                _note_once(evidence, "the list of files is over its limit: the rest not kept")
                return
            stored = await self._put(source, key)
        except (ArtifactRefused, OSError) as error:
            evidence.notes.append(f"{name!r} not kept: {error}")
            return
        evidence.size_bytes += stored.size_bytes
        evidence.artifacts.append(
            Artifact(
                path=name,
                kind=kind,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                uri=stored.uri,
            )
        )

    async def _read_cases(self, path: str, found: Found, evidence: Evidence) -> None:
        name, source = name_of(path), _source(found)
        if source is None:
            evidence.report_fault = "report_unreadable"
            return
        read = await read_cases(source, evidence.cases.mask, name=name, size_bytes=found.size_bytes)
        evidence.cases.add(read)
        if read.fault is not None:
            evidence.report_fault = "report_unreadable"
            count = sum(read.report.totals.values())
            before = f"; {count} cases before that are counted" if count else ""
            evidence.notes.append(f"JUnit file {name!r} cannot be read: {read.fault}{before}")

    def _key(self, path: str, kind: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ArtifactRefused("its path leads out of the workspace")
        key = "/".join((self._prefix, kind, *map(_segment, parts)))
        try:
            return check_key(key)
        except ArtifactRefused:
            # Encoded it is too long for a store; no other key begins with a `~`.
            return "/".join((self._prefix, kind, f"~{hashlib.sha256(path.encode()).hexdigest()}"))

    def _free_name(self, path: str, kind: str, evidence: Evidence) -> str:
        """Return the name to keep a file under; two names that look alike stay two."""
        taken = {each.path for each in evidence.artifacts if each.kind == kind}
        name = wanted = name_of(path)
        for number in itertools.count(2):
            if name not in taken:
                break
            name = f"{wanted}~{number}"
        return name

    async def _put(self, source: Source, key: str) -> StoredArtifact:
        for number in range(1, self._limits.upload_tries_max):
            try:
                return await self._store.put(source, key)
            except ArtifactStoreUnavailable:
                await asyncio.sleep(self._limits.upload_backoff_s * 2**number)
        return await self._store.put(source, key)


def _note_once(evidence: Evidence, note: str) -> None:
    if note not in evidence.notes:
        evidence.notes.append(note)


def name_of(path: str) -> str:
    """Return a file's path as text that the log and an address can carry, whatever it is made of.

    Bytes that are not UTF-8 are written `\\xff`; of a path that is too long to be asked for, the
    end stays, under a name for all that comes before it.
    """
    try:
        data = path.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        data = path.encode(errors="backslashreplace")
    name = data.decode(errors="backslashreplace")
    if len(name.encode()) <= PATH_BYTES_MAX:
        return name
    return f"long-path-{hashlib.sha256(data).hexdigest()[:16]}/{name.rpartition('/')[2]}"


def _source(found: Found) -> Source | None:
    return next(
        (each for each in (found.data, found.open, found.local_path) if each is not None), None
    )


def _size(source: Source) -> int:
    """Return the size now; a stat of a local file takes microseconds."""
    if isinstance(source, bytes):
        return len(source)
    return source.lstat().st_size if isinstance(source, Path) else 0


def _segment(text: str) -> str:
    """Return `text` as one segment of a key, whatever it holds."""
    segment = quote(text, safe=" !#$&'()+,;=@[]{}").replace("~", "%7E")
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


def parts_of(cases: Sequence[Case], limits: EvidenceLimits) -> Iterator[tuple[Case, ...]]:
    """Yield `cases` in parts that one report can carry."""
    part: list[Case] = []
    part_bytes = 0
    for case in cases:
        size_bytes = _FRAME_BYTES + sum(
            len(text.encode(errors="replace"))
            for text in (case.suite, case.classname, case.name, case.message, case.details)
        )
        is_full = len(part) >= limits.cases_per_report_max
        if part and (is_full or part_bytes + size_bytes > limits.cases_bytes_per_report_max):
            yield tuple(part)
            part, part_bytes = [], 0
        part.append(case)
        part_bytes += size_bytes
    if part:
        yield tuple(part)
