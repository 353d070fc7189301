"""Numbers that are too large for any table are refused, whatever carries them."""

from pathlib import Path

import pytest

from tests.unit.api.lab import Lab, in_lab
from tests.unit.api.test_problems import check

HUGE = "9" * 5_000


@pytest.mark.parametrize("number", ["1" + "0" * 30, str(2**63), HUGE, "-1", "0", "1e3", "1.5"])
@pytest.mark.parametrize(
    "path",
    ["logs?since_line=", "logs?attempt=", "logs?limit=", "artifacts?attempt=", "cases?attempt="],
)
def test_a_number_that_names_nothing_is_refused(tmp_path: Path, path: str, number: str) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = (await lab.submit())["id"]
        answer = await lab.call("GET", f"/v1/executions/{execution}/{path}{number}")
        check(answer, 422, "invalid_query", path.partition("?")[2].rstrip("="))

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("size", [HUGE, "9" * 19, "999999999999"])
def test_a_content_length_of_any_digits_is_a_body_that_is_too_large(
    tmp_path: Path, size: str
) -> None:
    async def scene(lab: Lab) -> None:
        headers = {"Content-Length": size, "Content-Type": "application/json"}
        answer = await lab.call("POST", "/v1/executions", {}, headers=headers)
        check(answer, 413, "body_too_large", "allowed")

    in_lab(scene, tmp_path)


@pytest.mark.parametrize("number", [HUGE, "9" * 20])
def test_ids_and_places_of_any_digits_are_nobodys(tmp_path: Path, number: str) -> None:
    async def scene(lab: Lab) -> None:
        await lab.benches("bench-1")
        execution = (await lab.submit())["id"]
        for path in (
            f"/v1/executions/{execution}/artifacts/{number}/a.bin",
            f"/v1/dead-letters/0-{number}",
            f"/v1/dead-letters/{number}-0",
            f"/schemas/ids/{number}",
            f"/subjects/teo.ExecutionSubmitted/versions/{number}",
        ):
            answer = await lab.call("GET", path)
            assert answer.status_code in (404, 422), (path, answer.status_code)
        for headers in ({"Last-Event-ID": f"0:{number}"}, {"Last-Event-ID": f"{number}.1"}):
            answer = await lab.call("GET", "/v1/events", headers=headers)
            assert answer.status_code == 422
        answer = await lab.call("GET", f"/v1/pools?min_position=0:{number}")
        assert answer.status_code == 422

    in_lab(scene, tmp_path)
