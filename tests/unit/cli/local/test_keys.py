"""The token of a folder is one that the API takes, whatever a power cut made of the files."""

import asyncio
import stat

import pytest

from api.auth.principal import Principal
from api.auth.token_file import TokenFile, TokenFileRefused, new_token, write_token_file
from cli.local.keys import ready_token

BOB = Principal(actor="bob", roles=("user",))


def ready(folder):
    return asyncio.run(ready_token(folder))


def who(folder, token):
    return asyncio.run(TokenFile(folder / "tokens.json").authenticate(token))


def test_a_token_is_made_once_and_for_its_user_alone(tmp_path):
    token = ready(tmp_path)
    assert who(tmp_path, token).roles == ("admin",)
    assert ready(tmp_path) == token
    assert {stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()} == {0o600}


@pytest.mark.parametrize("torn", [b"", b"\n", b"\0" * 48, None], ids=repr)
def test_a_token_that_a_power_cut_took_is_made_anew_and_others_are_kept(tmp_path, torn):
    bobs = new_token()
    write_token_file(tmp_path / "tokens.json", {bobs: BOB})
    (tmp_path / "token").write_bytes(torn or b"")
    if torn is None:
        (tmp_path / "token").unlink()
    token = ready(tmp_path)
    assert (tmp_path / "token").read_text() == f"{token}\n"
    assert who(tmp_path, token).roles == ("admin",)
    assert who(tmp_path, bobs) == BOB


@pytest.mark.parametrize("torn", [b"", b"\0" * 200], ids=repr)
def test_what_the_api_knows_is_made_anew_from_the_token(tmp_path, torn):
    token = ready(tmp_path)
    (tmp_path / "tokens.json").write_bytes(torn)
    assert ready(tmp_path) == token
    assert who(tmp_path, token).roles == ("admin",)


def test_a_token_that_was_taken_back_is_not_let_in_again(tmp_path):
    before = ready(tmp_path)
    write_token_file(tmp_path / "tokens.json", {new_token(): BOB})
    token = ready(tmp_path)
    assert token != before
    assert who(tmp_path, before) is None
    assert who(tmp_path, token).roles == ("admin",)


def test_what_a_person_must_mend_is_refused_and_left_as_it_is(tmp_path):
    ready(tmp_path)
    (tmp_path / "tokens.json").write_text('{"tokens": [')
    with pytest.raises(TokenFileRefused, match=r"tokens\.json"):
        ready(tmp_path)
    assert (tmp_path / "tokens.json").read_text() == '{"tokens": ['


def test_a_user_whose_name_no_token_file_takes_has_another(tmp_path, monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "DOMAIN\\jürgen")
    assert who(tmp_path, ready(tmp_path)).actor == "local"


@pytest.mark.parametrize("torn", [b"teo_y6p\n", b"\xff\xfe" * 24], ids=repr)
def test_what_is_left_of_a_torn_token_is_not_let_in(tmp_path, torn):
    ready(tmp_path)
    (tmp_path / "tokens.json").write_bytes(b"")
    (tmp_path / "token").write_bytes(torn)
    token = ready(tmp_path)
    assert len(token) == len(new_token())
    assert who(tmp_path, torn.decode("ascii", "replace").strip()) is None
    assert who(tmp_path, token).roles == ("admin",)
