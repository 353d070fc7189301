"""Files are stored before they are named; limits become notes; cases go out in parts."""

import asyncio
import hashlib
import io
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import BinaryIO, cast

import pytest

from adapters.contract import Collected, Found, FoundKind, Refused
from adapters.junit.report import DETAILS_CHARS_MAX, MESSAGE_CHARS_MAX
from events.shared import AttemptRef, Case
from processors.artifacts.files import FileStore, inline
from processors.artifacts.store import ArtifactStoreUnavailable, Source, StoredArtifact
from processors.worker.cases import LARGE_BYTES_MIN, Cases, read_cases
from processors.worker.evidence import PATH_BYTES_MAX, Evidence, Keeper, parts_of
from processors.worker.faults import NotRead
from processors.worker.masking import Masker
from processors.worker.settings import EvidenceLimits
from processors.worker.verdict import Seen

REF = AttemptRef(execution_id="exe", attempt=2)
LIMITS = replace(EvidenceLimits(), upload_backoff_s=0.0)
MASK = Masker({"X_TOKEN": "hunter2"}, ("*TOKEN*",))


def kept(
    root: Path,
    *found: Found,
    limits: EvidenceLimits = LIMITS,
    store: FileStore | None = None,
    asks_report: bool = False,
    evidence: Evidence | None = None,
    refused: tuple[Refused, ...] = (),
) -> Evidence:
    store = store or FileStore(root / "store", offload=inline)
    evidence = evidence or Evidence(Cases(limits, MASK))
    keeper = Keeper(REF, pool="lab", store=store, limits=limits, masker=MASK)
    collected = Collected(found=found, refused=refused)
    asyncio.run(keeper.keep(collected, evidence, asks_report=asks_report))
    return evidence


def junit(text: str, path: str = "r.xml") -> Found:
    return Found(kind="junit", path=path, size_bytes=len(text), data=text.encode())


def blob(path: str, data: bytes = b"x") -> Found:
    return Found(kind="artifact", path=path, size_bytes=len(data), data=data)


def test_a_file_is_both_once(tmp_path: Path) -> None:
    text = '<testsuite><testcase name="a hunter2"/></testsuite>'
    as_blob = blob("r.xml", text.encode())
    evidence = kept(tmp_path, as_blob, junit(text), as_blob)
    assert [(a.path, a.kind) for a in evidence.artifacts] == [("r.xml", "junit")]
    assert evidence.artifacts[0].sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert [case.name for case in evidence.cases.kept] == ["a ***"]


def test_a_secret_is_masked_where_a_text_of_a_report_is_cut(tmp_path: Path) -> None:
    for at in range(DETAILS_CHARS_MAX - 20, DETAILS_CHARS_MAX + 2):
        body = "x" * at + "hunter2" + "y" * 10
        message = "x" * (at - DETAILS_CHARS_MAX + MESSAGE_CHARS_MAX) + "hunter2" + "y" * 10
        failure = f'<failure message="{message}">{body}</failure>'
        text = f'<testsuite><testcase name="a">{failure}</testcase></testsuite>'
        (case,) = kept(tmp_path, junit(text)).cases.kept
        assert "hunt" not in case.message + case.details, at
    refused = Refused(path="a-hunt…", code="x", reason="is not a file")
    assert "hunt" not in "".join(
        kept(tmp_path, refused=(refused,)).added_to(Seen(), verdict_by="both").notes
    )


@pytest.mark.parametrize("text", ["<no", "<html/>", '<!DOCTYPE a [<!ENTITY b "c">]><testsuite/>'])
def test_a_report_that_cannot_be_read_is_a_note_and_kept_all_the_same(
    tmp_path: Path, text: str
) -> None:
    evidence = kept(tmp_path, junit(text))
    assert "JUnit file 'r.xml' cannot be read" in evidence.notes[0]
    assert [a.kind for a in evidence.artifacts] == ["junit"]
    assert evidence.report_fault == "report_unreadable"


def test_a_report_that_was_asked_for_is_missed(tmp_path: Path) -> None:
    assert kept(tmp_path, blob("a"), asks_report=True).report_fault == "report_missing"
    assert kept(tmp_path, blob("a")).report_fault == ""
    good = junit("<testsuite/>")
    assert kept(tmp_path, good, asks_report=True).report_fault == ""
    empty = Found(kind="junit", path="r.xml", size_bytes=0)
    assert kept(tmp_path, empty, asks_report=True).report_fault == "report_unreadable"
    gone = Found(kind="junit", path="r.xml", size_bytes=9, local_path=tmp_path / "gone.xml")
    assert kept(tmp_path, gone, asks_report=True).report_fault == "report_unreadable"


def test_what_stood_before_the_fault_of_a_report_counts(tmp_path: Path) -> None:
    text = "<testsuite><testcase name='hunter2'><failure/></testcase><testcase name='b'/><cut"
    evidence = kept(
        tmp_path, junit(text), junit("<testsuite><testcase name='c'/></testsuite>", "s")
    )
    assert evidence.notes[0].endswith("; 2 cases before that are counted")
    assert [(c.name, c.status) for c in evidence.cases.kept] == [
        ("***", "failed"),
        ("b", "passed"),
        ("c", "passed"),
    ]
    assert evidence.report_fault == "report_unreadable"


def test_cases_that_failed_are_kept_before_those_that_passed(tmp_path: Path) -> None:
    good = "".join(f'<testcase name="{n}"/>' for n in range(5))
    bad = '<testcase name="bad"><failure/></testcase>'
    flaky = '<testcase name="flaky"><flakyFailure/></testcase>'
    files = [f"<testsuite>{text}</testsuite>" for text in (good, good + bad + good, flaky)]
    found = [junit(text, f"{number}.xml") for number, text in enumerate(files)]
    evidence = kept(tmp_path, *found, limits=replace(LIMITS, cases_max=3))
    assert [case.name for case in evidence.cases.kept] == ["0", "bad", "flaky"]
    assert (evidence.cases.totals.passed, evidence.cases.totals.failed) == (16, 1)
    assert (evidence.cases.count, evidence.cases.flaky) == (17, 1)
    assert "14 cases over the limit are counted but not listed" in evidence.notes


class Slow(io.BytesIO):
    """A report that never ends, and takes its time."""

    def __init__(self) -> None:
        super().__init__(b"<testsuite>")
        self.is_closed_by_its_reader = threading.Event()

    def fileno(self) -> int:
        return 0

    def read(self, size: int | None = -1) -> bytes:
        time.sleep(0.01)
        return super().read(size) or b"<testcase name='a'/>"

    def close(self) -> None:
        self.is_closed_by_its_reader.set()


def test_reports_that_are_not_read_in_time_are_the_worker_s_fault_and_kept(tmp_path: Path) -> None:
    """They are within all limits, so it is no fault of the test, and of no store and no bench."""
    slow = Slow()
    (tmp_path / "r.xml").write_text("<testsuite/>")
    opened = iter([lambda: slow, lambda: (tmp_path / "r.xml").open("rb")])
    report = Found(kind="junit", path="r.xml", size_bytes=12, open=lambda: next(opened)())
    evidence = Evidence(Cases(LIMITS, MASK))
    limits = replace(LIMITS, reports_s=0.2)
    with pytest.raises(NotRead) as caught:
        kept(tmp_path, blob("a"), report, limits=limits, evidence=evidence)
    assert (caught.value.code, caught.value.fault) == ("report_not_read", "worker")
    assert slow.is_closed_by_its_reader.wait(5), "nobody reads on"
    assert [each.path for each in evidence.artifacts] == ["a", "r.xml"]


def test_large_reports_are_read_in_turns_and_small_ones_beside_them(tmp_path: Path) -> None:
    large = [
        Found(kind="junit", path="r.xml", size_bytes=LARGE_BYTES_MIN, open=Slow) for _ in range(3)
    ]
    opened = []

    def small() -> BinaryIO:
        opened.append(True)
        path = tmp_path / "small.xml"
        path.write_text("<testsuite><testcase name='b'/></testsuite>")
        return path.open("rb")

    async def scene() -> None:
        reading = [
            asyncio.ensure_future(read_cases(Slow, MASK, name="r", size_bytes=LARGE_BYTES_MIN))
            for _ in large
        ]
        read = await read_cases(small, MASK, name="s", size_bytes=10)
        assert read.report.totals == {"passed": 1}
        for each in reading:
            each.cancel()
        await asyncio.wait(reading)
        read = await read_cases(small, MASK, name="s", size_bytes=LARGE_BYTES_MIN)
        assert read.report.totals == {"passed": 1}, "their turns are over"

    asyncio.run(scene())
    assert len(opened) == 2


def test_a_report_that_was_left_out_leaves_no_pass(tmp_path: Path) -> None:
    text = "<testsuite><testcase name='a'/></testsuite>"
    collected = Collected(
        found=(junit(text),),
        refused=(Refused(path="s.xml", code="unreadable", reason="cannot be read"),),
        has_all_reports=False,
    )
    for asks_report, fault in ((True, "report_unreadable"), (False, "")):
        evidence = Evidence(Cases(LIMITS, MASK))
        store = FileStore(tmp_path / "store", offload=inline)
        keeper = Keeper(REF, pool="lab", store=store, limits=LIMITS, masker=MASK)
        asyncio.run(keeper.keep(collected, evidence, asks_report=asks_report))
        assert evidence.report_fault == fault


def test_more_reports_than_are_read_leave_no_pass(tmp_path: Path) -> None:
    text = "<testsuite><testcase name='a'/></testsuite>"
    limits = replace(LIMITS, reports_bytes_max=len(text))
    evidence = kept(tmp_path, junit(text), junit(text, "s"), limits=limits)
    assert evidence.report_fault == "report_unreadable"
    assert evidence.cases.totals.passed == 1
    assert "bytes of reports" in evidence.notes[0]


@pytest.mark.parametrize("path", ["../up", "/etc/passwd", "a/../../b", ""])
def test_a_path_that_climbs_is_not_kept(tmp_path: Path, path: str) -> None:
    evidence = kept(tmp_path, blob(path))
    assert evidence.artifacts == []
    assert "out of the workspace" in evidence.notes[0]


def test_odd_names_are_kept(tmp_path: Path) -> None:
    names = ["a b/%2e.txt", "caf\xe9\n.bin", "back\\slash", "bad\udcff"]
    evidence = kept(tmp_path, *map(blob, names))
    assert evidence.notes == []
    assert sorted(a.path for a in evidence.artifacts) == sorted([*names[:3], "bad\\xff"])
    assert len({a.uri for a in evidence.artifacts}) == 4


@pytest.mark.parametrize(
    "path",
    [
        "電源投入後の起動時間測定結果スクリーンショット画像一覧表第一版.png",
        "電" * 85,
        "n" * 255,
        "deep/" * 800 + "x",
        "~" + "0" * 64,
    ],
)
def test_any_name_the_file_system_takes_is_kept(tmp_path: Path, path: str) -> None:
    evidence = kept(tmp_path, blob(path, b"content"))
    assert evidence.notes == []
    (artifact,) = evidence.artifacts
    assert artifact.path == path
    store = FileStore(tmp_path / "store", offload=inline)

    async def read() -> bytes:
        return b"".join([chunk async for chunk in store.open(artifact.uri)])

    assert asyncio.run(read()) == b"content"


def test_a_path_that_no_address_can_hold_is_kept_under_a_shorter_one(tmp_path: Path) -> None:
    long = "folder/" * 1_000
    evidence = kept(tmp_path, blob(long + "x.bin"), blob(long + "y/x.bin"))
    first, second = (each.path for each in evidence.artifacts)
    assert first.startswith("long-path-")
    assert first.endswith("/x.bin")
    assert first != second
    assert len(first.encode()) <= PATH_BYTES_MAX
    assert len({each.uri for each in evidence.artifacts}) == 2


def test_names_that_look_alike_stay_two(tmp_path: Path) -> None:
    evidence = kept(tmp_path, blob("a\\xff", b"1"), blob("a\udcff", b"22"), blob("\ud800", b"333"))
    assert {each.path: each.size_bytes for each in evidence.artifacts} == {
        "a\\xff": 1,
        "a\\xff~2": 2,
        "\\ud800": 3,
    }
    assert len({each.uri for each in evidence.artifacts}) == 3


def test_a_file_is_read_by_what_opens_it_and_one_that_is_gone_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text('<testsuite><testcase name="a"/></testsuite>')

    def gone() -> BinaryIO:
        raise FileNotFoundError(2, "No such file")

    def found(kind: FoundKind, path: str, opened: Callable[[], BinaryIO]) -> Found:
        return Found(kind=kind, path=path, size_bytes=5, open=opened)

    def report() -> BinaryIO:
        return (tmp_path / "r.xml").open("rb")

    evidence = kept(
        tmp_path,
        found("junit", "r.xml", report),
        found("artifact", "b", gone),
        found("junit", "c.xml", gone),
        found("artifact", "d", report),
    )
    assert [each.path for each in evidence.artifacts] == ["d", "r.xml"]
    assert evidence.cases.totals.passed == 1
    assert [note.partition(":")[0] for note in evidence.notes] == [
        "JUnit file 'c.xml' cannot be read",
        "'b' not kept",
        "'c.xml' not kept",
    ]


def test_limits_become_notes(tmp_path: Path) -> None:
    few = replace(LIMITS, artifacts_max=2)
    evidence = kept(tmp_path, *(blob(str(n)) for n in range(5)), limits=few)
    assert len(evidence.artifacts) == 2
    assert evidence.notes == ["more than 2 files: the rest not kept"]
    small = replace(LIMITS, artifacts_bytes_max=10)
    evidence = kept(tmp_path, blob("a", b"x" * 6), blob("b", b"x" * 6), limits=small)
    assert [a.path for a in evidence.artifacts] == ["a"]
    short = replace(LIMITS, artifacts_list_bytes_max=400)
    evidence = kept(tmp_path, *(blob(str(n)) for n in range(9)), limits=short)
    assert 0 < len(evidence.artifacts) < 9
    cases = "".join(f'<testcase name="{n}"/>' for n in range(5))
    capped = replace(LIMITS, cases_max=2)
    evidence = kept(tmp_path, junit(f"<testsuite>{cases}</testsuite>"), limits=capped)
    assert (evidence.cases.totals.passed, len(evidence.cases.kept)) == (5, 2)


class Moody(FileStore):
    """Unavailable the first `bad` times."""

    def __init__(self, root: Path, bad: int) -> None:
        super().__init__(root, offload=inline)
        self.bad = bad

    async def put(self, source: Source, key: str) -> StoredArtifact:
        self.bad -= 1
        if self.bad >= 0:
            raise ArtifactStoreUnavailable("later")
        return await super().put(source, key)


def test_a_store_that_is_away_is_asked_again(tmp_path: Path) -> None:
    assert kept(tmp_path, blob("a"), store=Moody(tmp_path / "s", bad=4)).artifacts
    with pytest.raises(ArtifactStoreUnavailable):
        kept(tmp_path, blob("a"), store=Moody(tmp_path / "s", bad=5))


def test_parts_of_cases() -> None:
    def case(size: int) -> Case:
        text = "x" * size
        return Case(
            suite="", classname="", name="", status="passed", duration_s=0, message="", details=text
        )

    assert [len(part) for part in parts_of([case(0)] * 1201, LIMITS)] == [500, 500, 201]
    assert [len(part) for part in parts_of([case(200_000)] * 5, LIMITS)] == [2, 2, 1]
    assert list(parts_of([], LIMITS)) == []


def test_a_report_that_is_opened_is_read_bit_by_bit(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_text("<testsuite><testcase name='a hunter2'/></testsuite>")
    asked: list[int] = []

    class Watched(FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(-1 if size is None else size)
            return super().read(size) or b""

    report = Found(
        kind="junit",
        path="r.xml",
        size_bytes=52,
        open=lambda: cast(BinaryIO, Watched(tmp_path / "r.xml")),
    )
    evidence = kept(tmp_path, report, asks_report=True)
    assert [case.name for case in evidence.cases.kept] == ["a ***"]
    assert (evidence.report_fault, [each.path for each in evidence.artifacts]) == ("", ["r.xml"])
    assert asked
    assert all(0 <= size <= 1 << 20 for size in asked), "never all of it at once"


def test_a_file_that_is_opened_and_has_a_secret_in_its_name_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    found = [
        Found(kind="artifact", path=path, size_bytes=1, open=lambda: (tmp_path / "f").open("rb"))
        for path in ("of-hunter2", "plain")
    ]
    evidence = kept(tmp_path, *found)
    assert [each.path for each in evidence.artifacts] == ["plain"]
    assert "its name holds a secret" in evidence.notes[0]
