"""What a mock bench does, read from its `config`; never guesses what a word may have meant."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, NoReturn

from adapters.contract import Bench, InvalidConfig

StepName = Literal["check", "provision", "run", "collect", "teardown"]
STEPS: tuple[StepName, ...] = ("check", "provision", "run", "collect", "teardown")

LINES_MAX = 10_000_000
LINE_BYTES_MAX = 16_384
CASES_MAX = 100_000
ARTIFACT_BYTES_MAX = 256 << 20
CASE_STATUSES = ("passed", "failed", "error", "skipped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """How one step goes."""

    delay_s: float = 0.0
    """How long it takes; 0: no time at all."""
    fail: str = ""
    """The message of an `AdapterError`; empty: the step succeeds."""
    fail_times: int = 0
    """Only attempts up to this number fail, or hang; 0: all do."""
    is_retriable: bool = True
    """Whether the failure says that another try may help."""
    hang: bool = False
    """Never ends by itself."""

    def goes_wrong(self, attempt: int) -> bool:
        """Return whether what is scripted to go wrong does so in this attempt, from 1."""
        return self.fail_times == 0 or attempt <= self.fail_times


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a mock bench does. Each attempt number gives the same, however often it is asked."""

    check: Step = Step()
    provision: Step = Step()
    run: Step = Step()
    collect: Step = Step()
    teardown: Step = Step()
    exit_codes: tuple[int, ...] = (0,)
    """Exit code of attempt 1, 2, …; the last one stands for all that follow."""
    signal: int | None = None
    """The signal that ends the command instead of an exit code."""
    cannot_start: str = ""
    """Why the command cannot be started; empty: it can."""
    limit_exceeded: str = ""
    """Which limit the command is ended for, and what was measured; empty: it keeps within them."""
    lines: int = 0
    """Lines on stdout, written before `run.delay_s`."""
    line_bytes: int = 100
    """Length of each, bytes."""
    line_every_s: float = 0.0
    """Pause after each line."""
    stderr_every: int = 0
    """Each so many lines one goes to stderr; 0: none."""
    junit: Mapping[str, int]
    """How many cases end how; empty: no report."""
    artifacts: Mapping[str, int]
    """Path of each artifact and its size, bytes."""


_STEP_KEYS = {"delay_s", "fail", "fail_times", "is_retriable", "hang"}
_KEYS = {field.name for field in fields(Script)}


def script_of(bench: Bench) -> Script:
    """Return the script of `bench`. Raises `InvalidConfig`."""
    config = _Config(bench.name, bench.config)
    config.only(_KEYS)
    steps = {name: _step(bench.name, name, config.table(name)) for name in STEPS}
    junit = config.counts("junit", CASES_MAX)
    _Config(bench.name, junit, "junit.").only(set(CASE_STATUSES))
    return Script(
        **steps,
        exit_codes=config.codes("exit_codes"),
        signal=config.integer("signal", 0, 64) or None,
        cannot_start=config.text("cannot_start"),
        limit_exceeded=config.text("limit_exceeded"),
        lines=config.integer("lines", 0, LINES_MAX),
        line_bytes=config.integer("line_bytes", 100, LINE_BYTES_MAX),
        line_every_s=config.seconds("line_every_s"),
        stderr_every=config.integer("stderr_every", 0, LINES_MAX),
        junit=junit,
        artifacts=config.counts("artifacts", ARTIFACT_BYTES_MAX),
    )


def step_as_config(step: Step) -> dict[str, object]:
    """Return what `step_from` reads again: how a handle carries its teardown."""
    return {
        field.name: value
        for field in fields(Step)
        if (value := getattr(step, field.name)) != field.default
    }


def step_from(config: Mapping[str, object]) -> Step:
    """Return the step a handle carries. Raises `InvalidConfig`."""
    return _step("(handle)", "teardown", config)


def _step(bench: str, name: str, table: Mapping[str, object]) -> Step:
    config = _Config(bench, table, f"{name}.")
    config.only(_STEP_KEYS)
    return Step(
        delay_s=config.seconds("delay_s"),
        fail=config.text("fail"),
        fail_times=config.integer("fail_times", 0, 1000),
        is_retriable=config.flag("is_retriable", default=True),
        hang=config.flag("hang", default=False),
    )


class _Config:
    """Reads values of a JSON object and says which one is wrong."""

    def __init__(self, bench: str, values: Mapping[str, object], prefix: str = "") -> None:
        self._bench = bench
        self._values = values
        self._prefix = prefix

    def only(self, known: set[str]) -> None:
        if unknown := sorted(set(self._values) - known):
            raise InvalidConfig(
                f"bench {self._bench}: the mock adapter knows no config {self._prefix}{unknown[0]};"
                f" it knows {', '.join(sorted(known))}"
            )

    def table(self, key: str) -> Mapping[str, object]:
        value = self._values.get(key, {})
        return value if isinstance(value, dict) else self._wrong(key, "an object")

    def text(self, key: str) -> str:
        value = self._values.get(key, "")
        return value if isinstance(value, str) else self._wrong(key, "a text")

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._values.get(key, default)
        return value if isinstance(value, bool) else self._wrong(key, "true or false")

    def integer(self, key: str, default: int, most: int) -> int:
        value = self._values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most:
            return value
        return self._wrong(key, f"an integer from 0 to {most}")

    def seconds(self, key: str) -> float:
        value = self._values.get(key, 0.0)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9:
            return float(value)
        return self._wrong(key, "seconds, at least 0")

    def codes(self, key: str) -> tuple[int, ...]:
        value = self._values.get(key, [0])
        codes = [value] if isinstance(value, int) else value
        if (
            isinstance(codes, list)
            and codes
            and all(type(c) is int and 0 <= c < 256 for c in codes)
        ):
            return tuple(codes)
        return self._wrong(key, "a list of integers from 0 to 255")

    def counts(self, key: str, most: int) -> dict[str, int]:
        value = self.table(key)
        counts = _Config(self._bench, value, f"{self._prefix}{key}.")
        return {name: counts.integer(name, 0, most) for name in value}

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        value = json.dumps(self._values.get(key), default=repr)[:100]
        raise InvalidConfig(
            f"bench {self._bench}: config {self._prefix}{key} must be {wanted}, not {value}"
        )
