"""`teo up` and `teo down` say how to reach the folder that is meant."""

import pytest

from cli.main import VERBS
from cli.root import build


def test_down_with_nothing_up_names_the_way_to_another_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        build(VERBS)(["down", "--data-dir", str(tmp_path)], prog_name="teo")
    assert not left.value.code
    said = capsys.readouterr().err
    assert f"nothing is up in {tmp_path}" in said
    assert "--data-dir, or TEO_DATA_DIR" in said
