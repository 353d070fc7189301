"""A word that nothing can ever match is a typing error, and no empty list."""

import pytest
from pydantic import ValidationError

from api.models import queries

CASES = [
    (queries.BenchesQuery, "state", queries.BENCH_STATES),
    (queries.WorkersQuery, "state", queries.WORKER_STATES),
    (queries.ReservationsQuery, "status", queries.RESERVATION_STATUSES),
    (queries.ExecutionsQuery, "status", queries.EXECUTION_STATUSES),
    (queries.ExecutionsQuery, "verdict", queries.VERDICTS),
    (queries.DeadLettersQuery, "kind", queries.LETTER_KINDS),
    (queries.DeadLettersQuery, "status", queries.LETTER_STATUSES),
]


@pytest.mark.parametrize(("query", "name", "known"), CASES)
def test_a_list_knows_its_words(query, name, known):
    assert getattr(query(**{name: ", ".join(known)}), name) == ",".join(known)
    with pytest.raises(ValidationError, match="'bogus' is none of"):
        query(**{name: f"{known[0]},bogus"})
