"""The WHERE of a list: conditions on columns named in this package, values always bound."""

from collections.abc import Sequence
from typing import Self


class Filter:
    """Conditions that must all hold."""

    def __init__(self) -> None:
        self._terms: list[str] = []
        self._values: list[str | int] = []

    @property
    def text(self) -> str:
        """The clause, empty if there is no condition."""
        return f"WHERE {' AND '.join(self._terms)}" if self._terms else ""

    @property
    def values(self) -> tuple[str | int, ...]:
        """What is bound to the clause, in order."""
        return tuple(self._values)

    def holds(self, term: str) -> Self:
        """Add a condition that binds nothing."""
        self._terms.append(term)
        return self

    def equal(self, column: str, value: str | None) -> Self:
        """Require a value, unless it is None."""
        if value is not None:
            self._terms.append(f"{column} = ?")
            self._values.append(value)
        return self

    def is_number(self, column: str, value: int) -> Self:
        """Require a number."""
        self._terms.append(f"{column} = ?")
        self._values.append(value)
        return self

    def any_of(self, column: str, values: Sequence[str]) -> Self:
        """Require one of the values, unless there are none."""
        if values:
            self._terms.append(f"{column} IN ({', '.join('?' * len(values))})")
            self._values.extend(values)
        return self

    def after(self, columns: Sequence[str], key: Sequence[str | int]) -> Self:
        """Require what follows `key` in ascending order of `columns`."""
        return self._compare(columns, ">", key)

    def before(self, columns: Sequence[str], key: Sequence[str | int]) -> Self:
        """Require what follows `key` in descending order of `columns`."""
        return self._compare(columns, "<", key)

    def _compare(self, columns: Sequence[str], operator: str, key: Sequence[str | int]) -> Self:
        places = ", ".join("?" * len(key))
        self._terms.append(f"({', '.join(columns)}) {operator} ({places})")
        self._values.extend(key)
        return self
