"""What `teo fsck` compares, by what it is told."""

from pathlib import Path

from cli.fsck import _plan


def test_a_folder_in_which_nothing_runs_is_checked_on_its_own_kafka(tmp_path: Path) -> None:
    """`teo up` may be what does not come up: that is when it is asked for."""
    (tmp_path / "artifacts").mkdir()
    plan = _plan(None, "teo", [], [], tmp_path)
    assert (plan.kafka, plan.folder, plan.databases) == (None, tmp_path, ())
    assert plan.artifacts == tmp_path / "artifacts"
    (tmp_path / "projections.sqlite").touch()
    assert _plan(None, "teo", [], [], tmp_path).databases == (tmp_path / "projections.sqlite",)
    named = _plan("k:1", "teo", [], [], tmp_path)
    assert (named.kafka, named.folder, named.databases) == ("k:1", None, ())
