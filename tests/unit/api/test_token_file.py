"""Tokens in a file of one's own."""

import asyncio
from pathlib import Path

import pytest

from api.auth.principal import Principal, Role
from api.auth.token_file import (
    TokenFile,
    TokenFileRefused,
    digest_of,
    new_token,
    write_token_file,
)

ANN = Principal(actor="ann", roles=("user",))


def test_a_written_token_stands_for_its_principal_and_is_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    token, other = new_token(), new_token()
    write_token_file(path, {token: ANN, other: Principal(actor="olga", roles=("operator",))})
    tokens = TokenFile(path)
    assert asyncio.run(tokens.authenticate(token)) == ANN
    for wrong in ("", token[:-1], f"{token}x", digest_of(token), "x" * 10_000):
        assert asyncio.run(tokens.authenticate(wrong)) is None
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "tokens.json"
    write_token_file(path, {new_token(): ANN})
    path.chmod(mode)
    with pytest.raises(TokenFileRefused, match="chmod 600"):
        TokenFile(path)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("not json", "is not"),
        ("[]", "is not"),
        ('{"tokens": [{"actor": "ann", "roles": ["user"]}]}', "sha256"),
        ('{"tokens": [{"sha256": "ABC", "actor": "ann", "roles": ["user"]}]}', "64 hex"),
        (f'{{"tokens": [{{"sha256": "{"0" * 64}", "actor": "a b", "roles": ["user"]}}]}}', "a b"),
        (
            f'{{"tokens": [{{"sha256": "{"0" * 64}", "actor": "ann", "roles": ["king"]}}]}}',
            "viewer",
        ),
        (f'{{"tokens": [{{"sha256": "{"0" * 64}", "actor": "ann", "roles": []}}]}}', "roles"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, text: str, names: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(TokenFileRefused, match=names):
        TokenFile(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(TokenFileRefused, match=r"tokens\.json"):
        TokenFile(tmp_path / "tokens.json")


def test_reload_takes_what_is_new_and_keeps_what_was_if_refused(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    old, fresh = new_token(), new_token()
    write_token_file(path, {old: ANN})
    tokens = TokenFile(path)
    write_token_file(path, {fresh: ANN})
    tokens.reload()
    assert asyncio.run(tokens.authenticate(old)) is None
    assert asyncio.run(tokens.authenticate(fresh)) == ANN
    path.chmod(0o644)
    with pytest.raises(TokenFileRefused):
        tokens.reload()
    assert asyncio.run(tokens.authenticate(fresh)) == ANN


def test_a_role_may_what_lower_ones_may() -> None:
    assert Principal(actor="a", roles=("operator",)).may(Role.user)
    assert not Principal(actor="a", roles=("user",)).may(Role.operator)
    assert Principal(actor="a", roles=("viewer", "admin")).may(Role.admin)
    assert not Principal(actor="a", roles=()).may(Role.viewer)
    assert not Principal(actor="a", roles=("king",)).may(Role.viewer)
