"""What all simulations share: silence, without changing the logging of other tests."""

from collections.abc import Iterator

import pytest
import structlog

from processors.worker import state_dir
from tests.sim import disks


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Drop all logs of the simulated processes."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    yield
    structlog.configure(**before)


@pytest.fixture(autouse=True)
def _disks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give workers disks that fill."""
    monkeypatch.setattr(state_dir, "_write_durably", disks.write_durably)
    yield
    disks.FULL.clear()
