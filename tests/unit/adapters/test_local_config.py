"""A bench reaches what its worker gives, and nothing beside."""

from pathlib import Path

import pytest

from adapters.contract import AdapterError, Allowed, Bench, InvalidConfig, Limits
from adapters.local.config import local_config
from events.limits import LIMIT_BYTES_MAX, LIMIT_PROCESSES_MAX


def config(allowed: Allowed = Allowed(), **keys: object) -> object:  # noqa: B008 - it is frozen.
    return local_config(Bench(name="b", config=keys), allowed)


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("CAN_BUS", ("CAN_BUS",)),
        ("CAN_BUS", ("CAN_*",)),
        ("CAN_*", ("CAN_*",)),
        ("CAN_*", ("*",)),
        ("CAN_X_*", ("CAN_*",)),
    ],
)
def test_variables_the_worker_gives_may_be_passed_on(asked: str, given: tuple[str, ...]) -> None:
    config(Allowed(env=given), pass_env=[asked])


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("*", ()),
        ("*", ("CAN_*",)),
        ("TEO_TOKEN", ("CAN_*",)),
        ("CAN*", ("CAN_*",)),
        ("CA?_X", ("CAN_*",)),
        ("[A-Z]*", ("A*",)),
        ("can_bus", ("CAN_*",)),
        ("CAN_*", ("CAN_?",)),
        ("C*", ("C[!D]",)),
        ("*", ("?",)),
    ],
)
def test_other_variables_are_refused_with_the_flag_that_gives_them(
    asked: str, given: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidConfig, match="pass_env") as refused:
        config(Allowed(env=given), pass_env=[asked])
    assert f"--allow-env {asked}" in str(refused.value)


@pytest.mark.parametrize("key", ["directory", "copy"])
def test_folders_are_those_the_worker_gives(tmp_path: Path, key: str) -> None:
    given, secret = tmp_path / "rigs", tmp_path / "rigs" / "lab"
    (tmp_path / "else").mkdir()
    (given / "round").parent.mkdir()
    (given / "round").symlink_to(given / "round")
    (given / "a" / "b").mkdir(parents=True)
    secret.mkdir()
    (given / "link").symlink_to("/etc")
    (given / "back").symlink_to(secret)
    allowed = Allowed(folders=(given,), secret_folders=(secret,))
    config(allowed, **{key: str(given / "a" / "b")})
    for wrong in (*(tmp_path / "else", Path("/etc"), given / "link", given / ".." / "else"),):
        with pytest.raises(InvalidConfig, match="--allow-dir"):
            config(allowed, **{key: str(wrong)})
    for ours in (secret, secret / "worker", given, given / "back"):
        with pytest.raises(InvalidConfig, match="of this lab itself"):
            config(allowed, **{key: str(ours)})
    with pytest.raises(InvalidConfig, match="leads nowhere"):
        config(allowed, **{key: str(given / "round")})
    with pytest.raises(InvalidConfig, match="reach none"):
        config(Allowed(), **{key: str(given)})


def test_limits_are_sizes_and_numbers() -> None:
    found = local_config(
        Bench(name="b", config={"memory_max": "512M", "processes_max": 9, "disk_max": 4096})
    )
    assert found.limits == Limits(memory_max_bytes=512 << 20, processes_max=9, disk_max_bytes=4096)
    for key, value in (
        *(("memory_max", "lots"), ("memory_max", True), ("disk_max", 0), ("disk_max", [1])),
        *(("processes_max", "9"), ("processes_max", 0), ("processes_max", True)),
        *(("user", ""), ("user", 7), ("privileges", "all"), ("privileges", True)),
    ):
        with pytest.raises(InvalidConfig, match=key):
            local_config(Bench(name="b", config={key: value}))


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
@pytest.mark.parametrize("key", ["directory", "copy", "user", "pass_env"])
def test_a_text_that_no_system_takes_is_refused_by_its_key(key: str, text: str) -> None:
    value = [text] if key == "pass_env" else text if key == "user" else f"/{text}"
    with pytest.raises(InvalidConfig, match=rf"config\.{key} holds"):
        local_config(Bench(name="b", config={key: value}))


@pytest.mark.parametrize("name", ["x" * 300, "/".join(["x" * 200] * 40)])
def test_a_path_that_is_too_long_is_refused_as_any_other_that_is_not_there(name: str) -> None:
    config = local_config(
        Bench(name="b", config={"directory": f"/{name}"}), Allowed(folders=(Path("/"),))
    )
    with pytest.raises(AdapterError) as caught:
        config.check_folders()
    assert caught.value.code == "directory_missing"


def test_a_limit_that_the_kernel_does_not_take_is_refused_before_a_test_meets_it() -> None:
    for key, most in (
        ("memory_max", LIMIT_BYTES_MAX),
        ("disk_max", LIMIT_BYTES_MAX),
        ("processes_max", LIMIT_PROCESSES_MAX),
    ):
        local_config(Bench(name="b", config={key: most}))
        with pytest.raises(InvalidConfig, match=key):
            local_config(Bench(name="b", config={key: most + 1}))


def test_the_smaller_of_two_limits_holds() -> None:
    one = Limits(memory_max_bytes=5, processes_max=None, disk_max_bytes=9)
    other = Limits(memory_max_bytes=7, processes_max=3)
    assert one.within(other) == Limits(memory_max_bytes=5, processes_max=3, disk_max_bytes=9)
