"""Selectors, ids and variables are checked before anything is sent."""

import pytest

from cli import arguments
from cli.client import segment
from cli.problems import BadUsage
from cli.run_spec import RunSpec, read_spec


def test_selectors_are_joined_into_one():
    assert arguments.selector(["board=rpi4", " site in (muc, ber) "]) == (
        "board=rpi4,site in (muc, ber)"
    )
    assert arguments.selector(None) == ""


@pytest.mark.parametrize("text", ["=x", "a b", "k in (", "board=rpi 4", "", "  "])
def test_a_malformed_selector_is_refused(text):
    with pytest.raises(BadUsage) as refused:
        arguments.selector([text])
    assert refused.value.exit_code == 2


def test_what_somebody_wrote_is_never_told_as_the_next_step():
    with pytest.raises(BadUsage) as refused:
        arguments.selector(["board=a; curl evil"])
    assert "board=a; curl evil" in refused.value.what
    assert refused.value.next_step.startswith("use letters, digits")


@pytest.mark.parametrize("text", ["", "exe-", "res-1", "exe-../x", "exe-1/2"])
def test_what_is_no_execution_id_is_refused(text):
    with pytest.raises(BadUsage, match="no id of an execution"):
        arguments.execution_id(text)


def test_variables():
    assert arguments.environment(["A=1", "B=x=y", "C="]) == {"A": "1", "B": "x=y", "C": ""}
    for pair in ("A", "=1"):
        with pytest.raises(BadUsage, match="NAME=VALUE"):
            arguments.environment([pair])


def test_a_secret_is_refused_with_what_to_do():
    with pytest.raises(BadUsage, match="--env: API_TOKEN would stand") as refused:
        arguments.environment(["API_TOKEN=hunter2"])
    assert refused.value.exit_code == 2
    assert "--allow-env API_TOKEN" in refused.value.next_step
    assert "hunter2" not in str(refused.value)


def test_sizes():
    assert arguments.size("512M", name="--memory-max") == 512 << 20
    assert arguments.size("1.5GiB", name="--memory-max") == 3 << 29
    assert arguments.size("4096", name="--memory-max") == 4096
    with pytest.raises(BadUsage, match="--memory-max: 'much' is no size"):
        arguments.size("much", name="--memory-max")


def test_a_run_file_has_limits_and_no_secret(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("command: [a]\nmemory_max: 512M\nprocesses_max: 64\ndisk_max: 1G\n")
    run = read_spec(str(file)).body()["run"]
    assert run["memory_max_bytes"] == 512 << 20
    assert (run["processes_max"], run["disk_max_bytes"]) == (64, 1 << 30)
    file.write_text("command: [a]\nenv: {API_TOKEN: hunter2}\n")
    with pytest.raises(BadUsage, match="API_TOKEN would stand"):
        read_spec(str(file))
    file.write_text("command: [a]\nmemory_max: lots\n")
    with pytest.raises(BadUsage, match="is no size"):
        read_spec(str(file))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("..", "%2E%2E"),
        (".", "%2E"),
        ("a/b", "a%2Fb"),
        ("...", "..."),
        ("\udcff", "%ED%B3%BF"),
        ("a\n", "a%0A"),
    ],
)
def test_a_name_is_one_segment_of_a_path_and_leads_nowhere_else(name, said):
    assert segment(name) == said


@pytest.mark.parametrize(
    "asked", [{"memory_max_bytes": 1}, {"disk_max_bytes": 1 << 60}, {"processes_max": 1 << 30}]
)
def test_a_limit_the_server_would_refuse_is_refused_before_it_is_sent(asked):
    with pytest.raises(BadUsage) as refused:
        RunSpec(command=("a",), **asked).check()
    assert refused.value.next_step.startswith("it is from ")
    RunSpec(command=("a",), memory_max_bytes=1 << 20, processes_max=1).check()
