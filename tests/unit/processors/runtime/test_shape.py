"""Data to JSON values and back, exactly and in one form only."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.runtime.shape import shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    name: str
    at: datetime | None = None


@dataclass(slots=True)
class Whole:
    parts: dict[str, Part]
    pairs: dict[tuple[str, ...], list[tuple[int, int, str]]]
    names: set[str]
    numbers: frozenset[int]
    labels: Mapping[str, str]
    size: float
    cause: tuple[str, str] | None
    cache: dict[str, int] = field(default_factory=dict, compare=False)


texts = st.text(max_size=5)
times = st.datetimes(timezones=st.just(UTC))
wholes = st.builds(
    Whole,
    parts=st.dictionaries(texts, st.builds(Part, name=texts, at=st.none() | times), max_size=4),
    pairs=st.dictionaries(
        st.lists(texts, max_size=3).map(tuple),
        st.lists(st.tuples(st.integers(), st.integers(), texts), max_size=2),
        max_size=3,
    ),
    names=st.sets(texts),
    numbers=st.frozensets(st.integers()),
    labels=st.dictionaries(texts, texts),
    size=st.floats(allow_nan=False),
    cause=st.none() | st.tuples(texts, texts),
)


@given(wholes)
def test_what_is_dumped_comes_back_exactly(whole: Whole) -> None:
    text = json.dumps(shape_of(Whole).dump(whole))
    back = shape_of(Whole).load(json.loads(text))
    assert back == whole
    assert list(back.parts) == list(whole.parts), "orders stay"
    assert list(back.pairs) == list(whole.pairs)
    for part in back.parts.values():
        assert part.at is None or part.at.tzinfo is UTC
    assert json.dumps(shape_of(Whole).dump(back)) == text, "one form only"


def test_caches_are_left_out() -> None:
    whole = Whole({}, {}, set(), frozenset(), {}, 1.0, None, cache={"a": 1})
    assert shape_of(Whole).load(shape_of(Whole).dump(whole)).cache == {}


def test_another_number_of_fields_is_refused() -> None:
    raw = shape_of(Part).dump(Part(name="n"))
    with pytest.raises(ValueError, match="has 2 fields, not 3"):
        shape_of(Part).load([*raw, 1])


@pytest.mark.parametrize("hint", [object, int | str, bytes, list[complex]])
def test_a_type_without_a_shape_is_refused_at_once(hint: Any) -> None:
    with pytest.raises(TypeError):
        shape_of(hint)


def test_every_change_of_a_type_changes_the_text_of_its_shape() -> None:
    @dataclass
    class Other:
        name: str
        at: datetime

    texts = {shape_of(each).text for each in (Part, Other, Whole, dict[str, int], dict[str, str])}
    assert len(texts) == 5
