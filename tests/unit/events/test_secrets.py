"""What looks like a secret is told from what does not, and never shown."""

import pytest

from events.secrets import MASK, is_secret, names_only, secrets_fault


@pytest.mark.parametrize(
    "name",
    [
        *("API_TOKEN", "token", "MyToken", "GITHUB_TOKEN", "DB_PASSWORD", "PGPASSWD"),
        *("CLIENT_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "X_CREDENTIALS"),
        *("APIKEY", "my_api_key", "SSH_PRIVATE_KEY"),
        *("DB_PASS", "pass", "MYSQL_PWD", "KEY_PASSPHRASE", "DEPLOY_SSH_KEY", "BEARER"),
    ],
)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)
    what, hint = secrets_fault({"MODE": "fast", name: "hunter2"})
    assert what.startswith(f"{name} would stand in the journal")
    assert f"--allow-env {name}" in hint
    assert f"{name}_FILE=" in hint
    assert "hunter2" not in what + hint
    assert secrets_fault({name: ""}) == ("", "")


@pytest.mark.parametrize(
    "name",
    ["MODE", "PATH", "DB_PASSWORD_FILE", "TOKEN_DIR", "KEYBOARD", "PWD", "OLDPWD", "COMPASS"],
)
def test_what_is_none_is_not_refused(name: str) -> None:
    assert not is_secret(name)
    assert secrets_fault({name: "x"}) == ("", "")


def test_only_names_are_shown() -> None:
    assert names_only({"A": "1", "API_TOKEN": "hunter2"}) == {"A": MASK, "API_TOKEN": MASK}
