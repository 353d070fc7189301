"""Why an ask that waits cannot be served now, whoever else is before it. Reads only."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field

from events.selector import Selector, parse
from projections.values import of_text

OUT = ("offline", "quarantined")
BENCHES_NAMED_MAX = 3
REASON_CHARS_MAX = 200


@dataclass(slots=True)
class Waiting:
    """What the benches of pools can serve at one moment; for the asks of one answer."""

    db: sqlite3.Connection
    _benches: dict[str, list[tuple[str, dict[str, str], str, str]]] = field(default_factory=dict)
    _known: dict[tuple[str, str], str] = field(default_factory=dict)

    def why(self, pool: str, selectors: Sequence[str]) -> str:
        """Return why no bench can serve one of `selectors` now; empty: one can, or is in use."""
        return next(filter(None, (self._why(pool, each) for each in selectors)), "")

    def _why(self, pool: str, selector: str) -> str:
        key = (pool, selector)
        if key not in self._known:
            self._known[key] = self._looked_up(pool, parse(selector), selector)
        return self._known[key]

    def _looked_up(self, pool: str, wanted: Selector, selector: str) -> str:
        fit = [each for each in self._of(pool) if wanted.matches(each[1])]
        if not fit:
            asked = f"matches {selector!r} any more" if selector else "is there any more"
            return f"no bench of pool {pool} {asked}: label one so, or cancel"
        if any(state not in OUT for _, _, state, _ in fit):
            return ""
        said = [_told(name, state, reason) for name, _, state, reason in fit[:BENCHES_NAMED_MAX]]
        more = f"; and {len(fit) - len(said)} more" if len(fit) > len(said) else ""
        return f"no bench can serve it now: {'; '.join(said)}{more}"

    def _of(self, pool: str) -> list[tuple[str, dict[str, str], str, str]]:
        if pool not in self._benches:
            rows = self.db.execute(
                "SELECT name, labels, state, reason FROM benches WHERE pool = ? ORDER BY name",
                (pool,),
            )
            self._benches[pool] = [
                (name, of_text(labels), state, reason) for name, labels, state, reason in rows
            ]
        return self._benches[pool]


def _told(name: str, state: str, reason: str) -> str:
    return f"{name} is {state}" + (f" ({reason[:REASON_CHARS_MAX]})" if reason else "")
