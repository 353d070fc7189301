"""The table of codes is whole, in keeping with itself, and what people read is made from it."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.contract import Fault
from events import reference
from events.codes import CODES, LAB, again_of, fault_of, fault_told, told

ROOT = Path(__file__).parents[3]
STEPS = ("provision", "run", "collect")
PLACES = ("processors/worker", "processors/scheduler", "processors/saga", "adapters")
NAMED = {"Cut", "Fault", "Outcome", "AttemptEnded", "AttemptFinished", "ExecutionFinished"}
NAMED |= {"StopAttempt"}
ARGUMENT = {"_failed": 0, "give_up": 1, "end_early": 1, "_fault": 1, "_say_not_begun": 2}
"""Functions that take a code, and as which argument."""
ASSIGNED = {"CODE", "code", "report_fault"}
"""What codes are kept in."""


def product_codes() -> dict[str, str]:
    """Return each code that the product gives to the end of an attempt or execution, and where."""
    paths = sorted(path for place in PLACES for path in (ROOT / place).rglob("*.py"))
    trees = {path: ast.parse(path.read_text()) for path in paths}
    known = dict(pair for tree in trees.values() for pair in constants(tree))
    found: dict[str, str] = {}
    for path, tree in trees.items():
        for code in codes_in(tree, known):
            found.setdefault(code, str(path.relative_to(ROOT)))
    return found


def constants(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """Yield the names that a module gives to texts."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            yield ast.unparse(node.targets[0]), node.value


def codes_in(tree: ast.Module, known: Mapping[str, ast.expr]) -> Iterator[str]:
    of_classes = [
        each for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for each in node.body
    ]
    for node in ast.walk(tree):
        given: Iterator[ast.expr] = iter(())
        if isinstance(node, ast.Call):
            given = codes_of_call(node)
        elif isinstance(node, ast.FunctionDef) and node.name in ("_refusal", "run"):
            given = codes_returned(node)
        elif isinstance(node, ast.Assign) and node not in of_classes:
            given = iter([node.value] if last_name(node.targets[0]) in ASSIGNED else [])
        for each in given:
            yield from texts(known.get(last_name(each), each))


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


def codes_of_call(node: ast.Call) -> Iterator[ast.expr]:
    name = last_name(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    is_said = name in NAMED or "fault" in given
    if is_said and "code" in given:
        yield given["code"]
    if name in ARGUMENT:
        yield from node.args[ARGUMENT[name] :][:1]


def codes_returned(node: ast.FunctionDef) -> Iterator[ast.expr]:
    for each in ast.walk(node):
        if isinstance(each, ast.Tuple) and len(each.elts) == 2:
            yield each.elts[0]


def texts(node: ast.expr) -> Iterator[str]:
    """Yield what an expression can be: a text, or one for each step."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value:
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))
    elif isinstance(node, ast.JoinedStr) and ast.unparse(node.values[0]).find("step") >= 0:
        end = node.values[-1]
        assert isinstance(end, ast.Constant)
        yield from (f"{step}{end.value}" for step in STEPS)


def test_every_code_of_the_product_is_in_the_table() -> None:
    found = product_codes()
    assert {"exit_code", "worker_lost", "provision_timeout", "glob_refused", "no_slot"} <= set(
        found
    )
    assert {"state_unusable", "lease_lost", "no_workspace", "store_unavailable"} <= set(found)
    assert {"attempt_unknown", "fence_fell", "report_missing", "guardian_lost"} <= set(found)
    assert {"limit_exceeded", "no_user", "no_such_adapter", "cases_failed"} <= set(found)
    # A fault of the test in `collect` leaves the exit code standing: it is no code of an end.
    missing = set(found) - set(CODES) - {"workspace_removed", "unknown_adapter", "broken_adapter"}
    missing -= {"other_machine"}  # Of a teardown, which gives no code.
    missing -= {"copy_failed"}  # Of a bench: the code of its fault is that of the step.
    assert missing == set(), {code: found[code] for code in missing}


def test_the_page_is_what_the_table_says() -> None:
    there = reference.CODES_PAGE.read_text()
    assert there == reference.codes_page(), "run `.venv/bin/python -m events.reference`"


@pytest.mark.parametrize("name", sorted(CODES))
def test_what_is_tried_again_is_the_labs_or_a_failure(name: str) -> None:
    code = CODES[name]
    if code.again in ("error", "free"):
        assert code.fault in LAB
    if code.again == "failure":
        assert code.fault == "test"
    if code.fault in LAB:
        assert code.again != "never"
        assert fault_of("error", name) == code.fault
    assert code.meaning.endswith(".")
    assert code.next_step


def test_adapters_and_the_table_use_the_same_words() -> None:
    assert set(Fault.__args__) == {*LAB, "asker", "test"}  # type: ignore[attr-defined]


def test_facts_that_do_not_say_whose_fault_it_was_are_read_through_the_table() -> None:
    assert fault_told("error", "provision_failed", "") == "bench"
    assert fault_told("error", "collect_failed", "") == "store", "it may have been the store"
    assert fault_told("error", "collect_failed", "bench") == "bench"
    assert fault_told("error", "no word of ours", "") == "worker"
    assert fault_told("failed", "exit_code", "") == "test"
    assert fault_told("failed", "worker_lost", "") == "test", "a failure is never the lab's"
    assert fault_told("passed", "passed", "") == fault_told("cancelled", "lease_lost", "") == ""


def test_what_another_attempt_costs() -> None:
    assert again_of("error", "state_unusable", "worker") == "free"
    assert again_of("error", "a word of an adapter", "network") == "error"
    assert again_of("failed", "a word of an adapter", "test") == "failure"
    assert again_of("failed", "a word of an adapter", "asker") == "never"
    assert again_of("failed", "cannot_start", "test") == "never"


def test_whose_fault_it_is_is_said_in_a_few_words() -> None:
    assert told("bench", bench="b1", worker="w1") == "the lab's: bench b1"
    assert told("worker", bench="b1", worker="w1") == "the lab's: worker w1"
    assert told("store") == "the lab's: store of artifacts"
    assert told("network") == "the lab's: network"
    assert told("test") == "the test's"
    assert told("asker").startswith("yours")
    assert told("") == ""
