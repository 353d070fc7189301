"""Starts `teo` without the protections that a variable names: what is left must do, or fail."""

import os
from typing import Any

from adapters.contract import Handle
from adapters.local.adapter import LocalAdapter
from processors.worker.contact import Contact

WITHOUT = "TEO_TEST_WITHOUT"
SELF_FENCING = "self-fencing"
"""A worker believes that it is heard, whatever the log says."""
TEARDOWN = "teardown"
"""A worker says that a bench is clean and did nothing: as one that cannot reach the other's."""
AGES_S = 1e6


def fence_nothing() -> None:
    """Let no worker give up by itself."""
    begin: Any = Contact.__init__

    def without_end(self: Contact, *, sent_at: float, deadline_s: float) -> None:
        begin(self, sent_at=sent_at, deadline_s=max(deadline_s, AGES_S))

    Contact.__init__ = without_end  # type: ignore[method-assign]


def tear_nothing_down() -> None:
    """Leave everything as it is."""

    async def teardown(_self: LocalAdapter, _handle: Handle) -> None:
        """Do nothing."""

    LocalAdapter.teardown = teardown  # type: ignore[method-assign]


WAYS = {SELF_FENCING: fence_nothing, TEARDOWN: tear_nothing_down}

if __name__ == "__main__":
    for protection in os.environ[WITHOUT].split():
        WAYS[protection]()
    from cli.main import main

    main()
