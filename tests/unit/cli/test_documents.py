"""Files are read strictly, and each error names the file and the line."""

import pytest

from cli.benches import _health_of, _pool_of
from cli.documents import read_documents
from cli.problems import BadUsage
from cli.run_spec import RunSpec, read_spec

GOOD = """\
pool: lab-a
benches:
  - name: bench-1
    labels: {board: rpi4, rev: 1.10, on: yes}
    adapter: mock
    config: {delay_s: 0.5, steps: [1, null, true], when: 2026-01-01}
---
pool: lab-b
benches: [{name: b, adapter: m}]
"""


def pools(tmp_path, text):
    path = tmp_path / "benches.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return [_pool_of(document) for document in read_documents(str(path))]


def test_a_bench_file_keeps_labels_as_they_are_written(tmp_path):
    (first, benches), (second, others) = pools(tmp_path, GOOD)
    assert (first, second) == ("lab-a", "lab-b")
    assert others == [{"name": "b", "labels": {}, "adapter": "m", "config": {}}]
    assert benches == [
        {
            "name": "bench-1",
            "labels": {"board": "rpi4", "rev": "1.10", "on": "yes"},
            "adapter": "mock",
            "config": {"delay_s": 0.5, "steps": [1, None, True], "when": "2026-01-01"},
        }
    ]


def health(tmp_path, text):
    path = tmp_path / "health.yaml"
    path.write_text(text)
    (document,) = read_documents(str(path))
    _pool_of(document)
    return _health_of(document)


POOL = "pool: a\nbenches: [{name: b, adapter: m}]\n"


def test_a_bench_file_may_have_the_pools_rule_for_sick_benches(tmp_path):
    assert health(tmp_path, POOL) == {}
    assert health(tmp_path, f"{POOL}health:\n") == {}
    rule = health(tmp_path, f"{POOL}health: {{errors_max: 0, window: 1m30s}}\n")
    assert rule == {"health": {"errors_max": 0, "window_s": 90.0}}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("{errors_max: 3}", "key 'window' is missing"),
        ("{errors_max: -1, window: 10m}", "-1 is less than 0"),
        ("{errors_max: 1.5, window: 10m}", "no whole number"),
        ("{errors_max: 3, window: 10}", "has no unit"),
        ("{errors_max: 3, window: 10m, windw: 1m}", "unknown key 'windw'; did you mean 'window'?"),
        ("3 in 10m", "a mapping was expected"),
    ],
)
def test_a_wrong_rule_is_told_with_its_line(tmp_path, rule, said):
    with pytest.raises(BadUsage, match=r"health.yaml:3: ") as told:
        health(tmp_path, f"{POOL}health: {rule}\n")
    assert said in str(told.value)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("pool: a\nbenches: [\n", 3, "no YAML"),
        ("pool: a\nbenches: []\npoool: b\n", 3, "unknown key 'poool'; did you mean 'pool'?"),
        ("pool: a\n", 1, "key 'benches' is missing"),
        ("pool: a\nbenches:\n- name: b\n", 3, "key 'adapter' is missing"),
        ("pool: a\npool: b\nbenches: []\n", 2, "there twice"),
        ("pool: a\nbenches: {}\n", 2, "a list was expected, not a mapping"),
        ("pool: a\nbenches: []\n", 2, "the pool has no benches"),
        ("pool: [a]\nbenches: [{name: b, adapter: m}]\n", 1, "a text was expected, not a list"),
        ("pool: a\nbenches:\n- {name: b, adapter: m}\n- {name: b, adapter: m}\n", 4, "twice"),
        ("pool: a\nbenches:\n- name: b\n  adapter: m\n  config: x\n", 5, "a mapping was expected"),
        (
            "pool: a\nbenches:\n- name: b\n  adapter: m\n  config: {x: .inf}\n",
            5,
            "is not in JSON",
        ),
        (b"pool: a\n\xff\n", 2, "not UTF-8"),
    ],
)
def test_an_error_names_file_and_line(tmp_path, text, line, said):
    with pytest.raises(BadUsage) as refused:
        pools(tmp_path, text)
    assert f"benches.yaml:{line}: " in str(refused.value)
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


def test_a_bomb_of_aliases_is_refused(tmp_path):
    layers = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    layers += [
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]"
        for old, new in zip("abcdef", "bcdefg", strict=True)
    ]
    config = "".join(f"    {layer}\n" for layer in layers)
    with pytest.raises(BadUsage, match="too big"):
        pools(tmp_path, f"pool: a\nbenches:\n- name: b\n  adapter: m\n  config:\n{config}")


def test_an_alias_of_itself_is_refused(tmp_path):
    with pytest.raises(BadUsage, match="too deep"):
        pools(tmp_path, "pool: a\nbenches:\n- {name: b, adapter: m, config: &c {again: *c}}\n")


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n", "null\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    with pytest.raises(BadUsage, match="nothing in it"):
        pools(tmp_path, text)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadUsage, match=r"gone\.yaml: cannot be read: No such file"):
        list(read_documents(str(tmp_path / "gone.yaml")))


def spec(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return read_spec(str(path))


def test_a_run_file_and_flags_over_it(tmp_path):
    read = spec(
        tmp_path,
        "pool: lab-a\nselector: [board=rpi4, site=muc]\ncommand: pytest -q 'a b'\ntimeout: 10m\n"
        "retries: 0\nenv: {A: 1, B: two}\njunit: r.xml\nartifacts: ['*.log']\n"
        "verdict: report\n",
    )
    body = read.over(env={"B": "2"}, retries=1, pool=None).body()
    assert body == {
        "pool": "lab-a",
        "selector": "board=rpi4,site=muc",
        "retries": 1,
        "run": {
            "command": ["pytest", "-q", "a b"],
            "env": {"A": "1", "B": "2"},
            "timeout_s": 600.0,
            "junit": ["r.xml"],
            "artifacts": ["*.log"],
            "verdict_by": "report",
        },
    }
    assert read.body()["retries"] == 0


def test_what_was_not_given_is_left_to_the_server():
    assert RunSpec(command=("true",)).body() == {"run": {"command": ["true"]}}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("command: [a]\ntimeout: 600\n", 2, "has no unit"),
        ("comand: [a]\n", 1, "did you mean 'command'"),
        ("command: [a]\nretries: many\n", 2, "no whole number"),
        ("command: [a]\nretries: -1\n", 2, "less than 0"),
        ("command: 'a \"b'\n", 1, "No closing quotation"),
        ("command: [a]\nselector: a b\n", 2, "no label name"),
        ("command: [a]\njunit: ../x\n", 2, "climbs out"),
        ("command: [a]\nverdict: tests\n", 2, "use one of both, exit-code, report"),
        ("command: [a]\n---\ncommand: [b]\n", 3, "a run is one document"),
    ],
)
def test_an_error_in_a_run_file_names_the_line(tmp_path, text, line, said):
    with pytest.raises(BadUsage) as refused:
        spec(tmp_path, text)
    assert f"run.yaml:{line}: " in str(refused.value)
    assert said in str(refused.value)
