"""Contexts: the order of sources, tokens in files of their own, no token for another server."""

import stat

import pytest

from cli import contexts
from cli.problems import BadUsage

HERE = "http://127.0.0.1:8080"


@pytest.fixture
def env(tmp_path):
    return {"TEO_CONFIG": str(tmp_path / "teo" / "config.yaml")}


def resolve(env, tmp_path, **given):
    flags = {"server": None, "token": None, "context": None, **given}
    return contexts.resolve(**flags, env=env, system_file=tmp_path / "system.yaml")


def test_a_written_context_is_used(env, tmp_path):
    contexts.write_context("local", server=HERE, token="s3cret", pool="lab-a", env=env)
    target = resolve(env, tmp_path)
    assert (target.server, target.token, target.context, target.pool) == (
        HERE,
        "s3cret",
        "local",
        "lab-a",
    )


def test_a_token_is_in_a_private_file_and_not_in_the_config(env):
    path = contexts.write_context("local", server=HERE, token="s3cret", env=env)
    token = path.parent / "tokens" / "local"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert "s3cret" not in path.read_text()
    assert sorted(each.name for each in path.parent.iterdir()) == ["config.yaml", "tokens"]


def test_flag_wins_over_env_over_user_file_over_system_file(env, tmp_path):
    (tmp_path / "system.yaml").write_text(
        f"current: local\ncontexts: {{local: {{server: '{HERE}'}}}}\n"
    )
    assert resolve(env, tmp_path).server == HERE
    contexts.write_context("mine", server="http://mine", token="m", env=env)
    assert resolve(env, tmp_path).server == "http://mine"
    assert resolve({**env, "TEO_CONTEXT": "local"}, tmp_path).server == HERE
    env = {**env, "TEO_SERVER": "http://env", "TEO_TOKEN": "e"}
    assert resolve(env, tmp_path).server == "http://env"
    by_flag = resolve(env, tmp_path, server="http://flag/", token="f")
    assert (by_flag.server, by_flag.token) == ("http://flag", "f")


def test_a_contexts_token_goes_to_its_own_server_only(env, tmp_path):
    contexts.write_context("local", server=HERE, token="s3cret", env=env)
    assert resolve(env, tmp_path, server="http://elsewhere").token is None
    assert resolve(env, tmp_path, server=f"{HERE}/").token == "s3cret"


def test_no_server_at_all_names_the_next_step(env, tmp_path):
    with pytest.raises(BadUsage, match="teo up"):
        resolve(env, tmp_path)


def test_clear_forgets_context_and_token(env, tmp_path):
    path = contexts.write_context("local", server=HERE, token="s3cret", env=env)
    assert contexts.clear("local", env=env)
    assert not contexts.clear("local", env=env)
    assert not (path.parent / "tokens" / "local").exists()
    with pytest.raises(BadUsage, match="no server"):
        resolve(env, tmp_path)


def test_writing_one_context_keeps_the_others(env):
    contexts.write_context("a", server="http://a", token=None, env=env)
    contexts.write_context("b", server="http://b", token=None, is_current=False, env=env)
    config = contexts.read(env)
    assert (config.current, sorted(config.contexts)) == ("a", ["a", "b"])
    contexts.use("b", env=env)
    assert contexts.read(env).current == "b"
    with pytest.raises(BadUsage, match="'c'"):
        contexts.use("c", env=env)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("contexts: [", "no YAML"),
        ("- a", "mapping was expected"),
        ("contexts: {a: {serve: x}}", "unknown key 'serve'"),
        ("contexts: {a: {}}", "no `server`"),
    ],
)
def test_a_broken_file_is_named(env, tmp_path, text, said):
    path = tmp_path / "teo" / "config.yaml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(BadUsage, match=said) as refused:
        resolve(env, tmp_path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("server", ["localhost:80", "ftp://x", "http://", "http://u:p@host"])
def test_what_is_no_address_is_refused(env, tmp_path, server):
    with pytest.raises(BadUsage, match="no address"):
        resolve(env, tmp_path, server=server)


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden"])
def test_a_name_stays_inside_the_folder(env, name):
    with pytest.raises(BadUsage, match="no name for a context"):
        contexts.write_context(name, server=HERE, token="t", env=env)


def test_a_file_that_cannot_be_written_names_the_next_step(env, tmp_path):
    (tmp_path / "teo").touch()
    for write in (
        lambda: contexts.write_context("local", server=HERE, token="s3cret", env=env),
        lambda: contexts.write_context("local", server=HERE, token=None, env=env),
    ):
        with pytest.raises(BadUsage, match="cannot be written") as refused:
            write()
        assert "TEO_CONFIG" in refused.value.next_step


def test_a_user_without_a_home_has_no_config(monkeypatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", nobody)
    assert str(contexts.user_file({})) == "/.config/teo/config.yaml"
