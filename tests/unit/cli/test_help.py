"""Every verb explains itself in the reader's words."""

import re

import pytest

from cli.main import VERBS
from cli.root import build

PATHS = [
    [],
    *([name] for name in VERBS),
    *(["bench", verb] for verb in ("apply", "list", "show", "quarantine", "restore")),
    *(["serve", role] for role in ("api", "scheduler", "worker")),
    ["events", "tail"],
    ["projections", "rebuild"],
]


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help(path, capsys):
    with pytest.raises(SystemExit) as left:
        build(VERBS)([*path, "--help"], prog_name="teo")
    out = capsys.readouterr().out
    assert left.value.code in (None, 0)
    assert out.startswith(f"Usage: {' '.join(['teo', *path])}")
    options = out.partition("Options:")[2]
    if path:  # The root is built before any verb is loaded.
        assert not re.search(r" <\w", options), "a type of Python is no word of a reader"
    assert "--help" in options


def test_restore_says_that_nothing_is_cleaned(capsys):
    with pytest.raises(SystemExit):
        build(VERBS)(["bench", "restore", "--help"], prog_name="teo")
    assert "no teardown runs" in capsys.readouterr().out
