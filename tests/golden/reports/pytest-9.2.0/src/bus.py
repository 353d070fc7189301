"""A passing, a failing, a skipped and two erring cases, for pytest."""

import pytest


@pytest.fixture
def power():
    raise RuntimeError("no power")


@pytest.fixture
def lamp():
    yield
    raise RuntimeError("lamp stayed on")


def test_ok():
    pass


def test_bad():
    assert 1 == 2, "\x1b[31mred\x1b[0m"


@pytest.mark.skip(reason="no hardware")
def test_skipped():
    pass


@pytest.mark.xfail(reason="known")
def test_known():
    raise AssertionError


def test_set_up(power):
    pass


def test_tear_down(lamp):
    pass


def test_both(lamp):
    raise AssertionError("first")


@pytest.mark.parametrize("text", ["Prüfstand", "a/b"])
def test_texts(text):
    pass
