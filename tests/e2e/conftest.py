"""The system that all tests of the installed `teo` share."""

import os
from collections.abc import Iterator

import pytest

from api.auth.principal import Principal
from api.auth.token_file import new_token, write_token_file
from tests.e2e.lab import BENCHES, Lab, until


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("teo")
    env = {key: value for key, value in os.environ.items() if not key.startswith("TEO_")}
    env["TEO_POOL"] = "lab-a"
    env["TEO_CONFIG"] = str(folder / "config" / "config.yaml")
    if os.geteuid() != 0:
        env["TEO_INSPECTABLE"] = "1"  # Tests look at what its roles have open.
    data = folder / "data"
    data.mkdir(mode=0o700)
    mine, bobs = new_token(), new_token()
    people = {
        mine: Principal(actor="ann", roles=("admin",)),
        bobs: Principal(actor="bob", roles=("user",)),
    }
    write_token_file(data / "tokens.json", people)
    (data / "token").write_text(mine)
    system = Lab(folder, env, bobs)
    up = system.teo("up", "--detach", "--data-dir", str(data), "--port", "0")
    try:
        assert up.returncode == 0, up.stderr
        assert f"`teo down --data-dir {data}` stops it" in up.stderr
        assert mine not in up.stderr + (data / "logs" / "up.log").read_text()
        applied = system.teo("bench", "apply", "-f", "-", stdin=BENCHES)
        assert applied.returncode == 0, applied.stderr
        until(
            lambda: all(b["state"] == "idle" for b in system.json("bench", "list")),
            "all benches idle",
        )
        yield system
    finally:
        system.ok("down", "--data-dir", str(folder / "data"))
