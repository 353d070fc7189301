"""One text for one mistake: CLI, API, scheduler and adapters refuse the same asks alike."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.contract import Adapter, AdapterError, Attempt, AttemptId, Bench
from adapters.grammar import (
    Wrong,
    wrong_command,
    wrong_globs,
    wrong_labels,
    wrong_name,
    wrong_variables,
)
from adapters.local import LocalAdapter
from adapters.mock import MockAdapter
from api.models.requests import BenchBody, ExecutionBody
from cli.problems import BadUsage
from cli.run_spec import RunSpec
from events import facts
from events.shared import RunSpec as Run
from tests.unit.processors.scheduler.history import benches, lab, submit

GLOBS = ("~/results/*", "a\\b", ".", "a\0b", "../x", "/abs", "", "x" * 1025, "a/" * 65 + "b")
RUNS: list[tuple[dict[str, Any], Wrong | None]] = [
    *(({"artifacts": (glob,)}, wrong_globs([glob])) for glob in GLOBS),
    *(({"junit": (glob,)}, wrong_globs([glob])) for glob in GLOBS),
    ({"artifacts": ("*",) * 101}, wrong_globs(["*"] * 101)),
    ({"command": ("echo", "a\0b")}, wrong_command(["echo", "a\0b"])),
    ({"command": ("echo", "x" * 131_072)}, wrong_command(["echo", "x" * 131_072])),
    ({"command": ("true",) * 1_001}, wrong_command(["true"] * 1_001)),
    ({"env": {"A B": ""}}, wrong_variables({"A B": ""})),
    ({"env": {"TEO_BENCH": "b"}}, wrong_variables({"TEO_BENCH": "b"})),
    ({"env": {"A": "\0"}}, wrong_variables({"A": "\0"})),
]
NAMES = [str(number) for number in range(len(RUNS))]


@pytest.mark.parametrize(("asked", "wrong"), RUNS, ids=NAMES)
def test_a_run_is_refused_alike_at_every_door(asked: dict[str, Any], wrong: Wrong | None) -> None:
    assert wrong is not None
    given = {"command": ("true",), **asked}
    with pytest.raises(BadUsage) as typed:
        RunSpec(**given).check()
    assert typed.value.what.endswith(wrong.what)
    assert (typed.value.next_step, typed.value.exit_code) == (wrong.next_step, 2)

    body = {key: list(value) if key != "env" else value for key, value in given.items()}
    with pytest.raises(ValidationError) as sent:
        ExecutionBody.model_validate({"run": body})
    (found,) = sent.value.errors()
    assert (found["type"], found["msg"]) == (wrong.code, str(wrong))

    run = Run(**{"env": {}, "timeout_s": 60.0, "junit": (), "artifacts": (), **given})
    history = lab("b1")
    (refused,) = history.ask(submit("e1", run=run))
    assert isinstance(refused, facts.CommandRejected)
    assert (refused.code, refused.reason) == (wrong.code, str(wrong))
    assert history.ledger.pools["lab"].executions == {}
    history.check()


@pytest.mark.parametrize("glob", GLOBS)
@pytest.mark.parametrize("kind", [LocalAdapter, MockAdapter])
def test_an_adapter_says_that_it_is_the_asker_s_fault(
    tmp_path: Path, kind: type[LocalAdapter | MockAdapter], glob: str
) -> None:
    """Such an ask comes from an older journal alone; it still must cost no bench."""
    adapter: Adapter = kind(tmp_path)
    attempt = Attempt(
        id=AttemptId(execution_id="exe_1", number=1, fence=1),
        bench=Bench(name="b"),
        command=("true",),
        timeout_s=1.0,
        artifacts=(glob,),
    )
    with pytest.raises(AdapterError) as caught:
        asyncio.run(adapter.provision(attempt))
    error = caught.value
    assert (error.code, error.fault, error.retriable) == ("glob_refused", "asker", False)
    assert str(error) == str(wrong_globs([glob]))


LABELS: list[dict[str, str]] = [{"a b": "c"}, {"a": 'x"y'}, {"a": "b\n"}, {"": "x"}]


@pytest.mark.parametrize("labels", LABELS)
def test_a_label_nobody_could_select_is_refused_alike(labels: dict[str, str]) -> None:
    wrong = wrong_labels(labels)
    assert wrong is not None
    with pytest.raises(ValidationError) as sent:
        BenchBody.model_validate({"name": "b", "adapter": "mock", "labels": labels})
    assert sent.value.errors()[0]["msg"] == str(wrong)
    history = lab("b1")
    asked = benches("b2")
    asked.benches[0].labels.clear()  # type: ignore[attr-defined]
    asked.benches[0].labels.update(labels)  # type: ignore[attr-defined]
    (refused,) = history.ask(asked)
    assert isinstance(refused, facts.CommandRejected)
    assert refused.reason == f"bench 'b2': {wrong}"


def test_a_name_no_bench_can_have_is_refused_alike() -> None:
    wrong = wrong_name("b 1", "bench")
    with pytest.raises(ValidationError) as sent:
        BenchBody.model_validate({"name": "b 1", "adapter": "mock"})
    assert sent.value.errors()[0]["msg"] == str(wrong)
    (refused,) = lab("b1").ask(benches("b 1"))
    assert isinstance(refused, facts.CommandRejected)
    assert refused.reason == str(wrong)
