"""What is kept of an attempt: cases from its JUnit files, and every file stored with its hash.

Nothing is named before the store has it. Never decides a verdict.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from adapters.contract import Collected, Found
from events.shared import Artifact, AttemptRef, Case
from processors.artifacts.store import (
    ArtifactRefused,
    ArtifactStore,
    ArtifactStoreUnavailable,
    StoredArtifact,
)
from processors.worker.cases import Cases, read_cases
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits
from processors.worker.verdict import ReportFault, Seen

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
            notes=tuple(self.notes),
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
        says that there should be one.
        """
        evidence.notes.extend(
            f"{_text(each.path)!r} not kept: {each.reason}" for each in collected.refused
        )
        once: dict[str, Found] = {}
        for found in collected.found:
            if found.kind == "junit" or found.path not in once:
                once[found.path] = found
        if asks_report and all(found.kind != "junit" for found in once.values()):
            evidence.report_fault = "report_missing"
        for path in sorted(once):
            found = once[path]
            source = found.data if found.data is not None else found.local_path
            if source is None:
                if found.kind == "junit":
                    evidence.report_fault = "report_unreadable"
                evidence.notes.append(f"{_text(path)!r} not kept: the adapter gave no content")
                continue
            if found.kind == "junit":
                await self._read_cases(path, source, evidence)
            await self.keep_file(source, path, found.kind, evidence)
        over = evidence.cases.count - len(evidence.cases.kept)
        if over:
            evidence.notes.append(f"{over} cases over the limit are counted but not listed")

    async def keep_file(
        self, source: Path | bytes, path: str, kind: str, evidence: Evidence
    ) -> None:
        """Store one file; one that may not be kept becomes a note."""
        name = _text(path)
        if self._masker(name) != name:
            # Masked, two files could get one name.
            evidence.notes.append(f"{name!r} not kept: its name holds a secret; rename it")
            return
        limits = self._limits
        if len(evidence.artifacts) >= limits.artifacts_max:
            _note_once(evidence, f"more than {limits.artifacts_max} files: the rest not kept")
            return
        try:
            if evidence.size_bytes + _size(source) > limits.artifacts_bytes_max:
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

    async def _read_cases(self, path: str, source: Path | bytes, evidence: Evidence) -> None:
        read = await read_cases(source, evidence.cases.mask, name=_text(path))
        evidence.cases.add(read)
        if read.fault is not None:
            evidence.report_fault = "report_unreadable"
            count = sum(read.report.totals.values())
            before = f"; {count} cases before that are counted" if count else ""
            note = f"JUnit file {_text(path)!r} cannot be read: {read.fault}{before}"
            evidence.notes.append(note)

    def _key(self, path: str, kind: str) -> str:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise ArtifactRefused("its path leads out of the workspace")
        return "/".join((self._prefix, kind, *map(_segment, parts)))

    async def _put(self, source: Path | bytes, key: str) -> StoredArtifact:
        for number in range(1, self._limits.upload_tries_max):
            try:
                return await self._store.put(source, key)
            except ArtifactStoreUnavailable:
                await asyncio.sleep(self._limits.upload_backoff_s * 2**number)
        return await self._store.put(source, key)


def _note_once(evidence: Evidence, note: str) -> None:
    if note not in evidence.notes:
        evidence.notes.append(note)


def _text(path: str) -> str:
    """Return a file's name as text that the log can carry, whatever bytes it was made of."""
    return path.encode(errors="replace").decode()


def _size(source: Path | bytes) -> int:
    """Return the size now; a stat of a local file takes microseconds."""
    return len(source) if isinstance(source, bytes) else source.lstat().st_size


def _segment(text: str) -> str:
    """Return `text` as one segment of a key, whatever it holds."""
    segment = quote(text, safe=" !#$&'()+,;=@[]{}~")
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
