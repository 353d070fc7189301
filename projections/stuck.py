"""Why no bench can serve an ask that waits, from the benches as they are now. Read only.

An ask that no bench could serve is refused when it comes. Later its benches may be relabelled, or
go out of service: then it waits, and this says what for.
"""

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from events.errors import InvalidSelector
from events.matching import match_all
from events.selector import Selector, parse
from projections.values import of_text

OUT_OF_SERVICE = frozenset({"quarantined", "offline"})
"""States that do not pass by themselves; a bench that is held or cleaned is free again."""
NAMED_MAX = 3
"""So many benches are named with why they are out."""
REASON_CHARS_MAX = 200
LOOKS_MAX = 50_000
"""So many times one answer holds a bench against a selector: it takes the loop's time. What is
asked of after that says nothing in a list; alone it does."""


@dataclass(frozen=True, slots=True)
class _Bench:
    labels: Mapping[str, str]
    state: str
    reason: str


class Benches:
    """The benches of pools, each pool read once; made for one answer."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._pools: dict[str, Mapping[str, _Bench]] = {}
        self._said: dict[tuple[str, tuple[str, ...]], str] = {}
        self._looks = 0

    def why_stuck(self, pool: str, selectors: Sequence[str]) -> str:
        """Return why an ask for one bench of each selector cannot be served; empty: it can."""
        key = (pool, tuple(selectors))
        if key not in self._said:
            self._said[key] = self._why(pool, key[1], self._of(pool))
        return self._said[key]

    def why_stuck_inside(self, pool: str, reservation_id: str, selector: str) -> str:
        """Return why no bench of a granted reservation can serve an ask; empty: one can."""
        row = self._db.execute(
            "SELECT benches FROM reservations WHERE id = ? AND pool = ? AND status = 'granted'",
            (reservation_id, pool),
        ).fetchone()
        if row is None:
            return ""  # The reservation itself still waits, and says why.
        names = {name for name, _ in of_text(row[0])}
        benches = {name: bench for name, bench in self._of(pool).items() if name in names}
        return self._why(pool, (selector,), benches, of=f"reservation {reservation_id}")

    def _of(self, pool: str) -> Mapping[str, _Bench]:
        if pool not in self._pools:
            rows = self._db.execute(
                "SELECT name, labels, state, reason FROM benches WHERE pool = ? ORDER BY name",
                (pool,),
            )
            self._pools[pool] = {
                name: _Bench(of_text(labels), state, reason) for name, labels, state, reason in rows
            }
        return self._pools[pool]

    def _why(
        self, pool: str, selectors: Sequence[str], benches: Mapping[str, _Bench], of: str = ""
    ) -> str:
        try:
            wanted = [parse(text) for text in selectors]
        except InvalidSelector:
            return ""
        if self._looks > LOOKS_MAX:
            return ""
        self._looks += len(wanted) * len(benches)
        fitting = [_fitting(selector, benches) for selector in wanted]
        hint = f"teo bench list --pool {pool}"
        for text, names in zip(selectors, fitting, strict=True):
            if not names:
                where = of or f"pool {pool}"
                return (
                    f"no bench matches {text or 'any'} any more in {where}; `{hint}` shows the "
                    "labels there are: give a bench such labels, or cancel"
                )
        if match_all(fitting) is None:
            return (
                f"pool {pool} has too few benches any more for {len(selectors)} places at once; "
                f"`{hint}` shows them: add some, or cancel"
            )
        usable = [
            [name for name in names if benches[name].state not in OUT_OF_SERVICE]
            for names in fitting
        ]
        if match_all(usable) is not None:
            return ""
        short = next((names for names, left in zip(fitting, usable, strict=True) if not left), None)
        return _out(pool, short or sorted({name for names in fitting for name in names}), benches)


def _fitting(selector: Selector, benches: Mapping[str, _Bench]) -> list[str]:
    return [name for name, bench in benches.items() if selector.matches(bench.labels)]


def _out(pool: str, names: Collection[str], benches: Mapping[str, _Bench]) -> str:
    """Say which benches match and are out of service, and why."""
    out = [name for name in names if benches[name].state in OUT_OF_SERVICE]
    if len(names) == len(out) == 1:
        state = _state(benches[out[0]])
        return f"1 bench matches, it is {state}: teo bench show {out[0]} --pool {pool}"
    said = [f"{name} is {_state(benches[name])}" for name in out[:NAMED_MAX]]
    more = [f"{len(out) - NAMED_MAX} more"] if len(out) > NAMED_MAX else []
    all_ = "all are" if len(out) == len(names) else f"{len(out)} are"
    states = " or ".join(sorted({benches[name].state for name in out}))
    return (
        f"{len(names)} benches match, {all_} {states}: {', '.join([*said, *more])}; "
        f"teo bench list --pool {pool}"
    )


def _state(bench: _Bench) -> str:
    reason = bench.reason[:REASON_CHARS_MAX]
    return f"{bench.state} ({reason})" if reason else bench.state
