"""The checkers of the product (`processors/audit`), for whoever looks for them here."""

from processors.audit.checkers import (
    CHECKERS,
    Checker,
    Violated,
    check_journal,
    check_letters,
    check_results,
    gangs_are_all_or_nothing,
    held_benches_are_in_use,
    infrastructure_is_not_a_test_failure,
    journal_is_dense_and_whole,
    one_attempt_per_bench,
    one_holder_and_rising_fences,
    one_outcome_per_command,
    one_verdict_per_execution,
    time_and_inputs_go_forward,
    words_are_of_the_one_who_was_asked,
)

__all__ = [
    "CHECKERS",
    "Checker",
    "Violated",
    "check_journal",
    "check_letters",
    "check_results",
    "gangs_are_all_or_nothing",
    "held_benches_are_in_use",
    "infrastructure_is_not_a_test_failure",
    "journal_is_dense_and_whole",
    "one_attempt_per_bench",
    "one_holder_and_rising_fences",
    "one_outcome_per_command",
    "one_verdict_per_execution",
    "time_and_inputs_go_forward",
    "words_are_of_the_one_who_was_asked",
]
