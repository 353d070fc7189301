"""The deadline counts from sending, and what has lapsed stays lapsed."""

from processors.worker.contact import Contact


def test_counts_from_when_it_was_sent() -> None:
    contact = Contact(sent_at=100.0, deadline_s=6.0)
    assert contact.acknowledged(sent_at=101.0, now=104.0)
    assert contact.until == 107.0
    assert contact.is_fresh(106.9)
    assert not contact.is_fresh(107.0)


def test_an_old_acknowledgement_takes_nothing_back() -> None:
    contact = Contact(sent_at=100.0, deadline_s=6.0)
    contact.acknowledged(sent_at=103.0, now=104.0)
    contact.acknowledged(sent_at=101.0, now=104.5)
    assert contact.until == 109.0


def test_a_process_that_was_stopped_cannot_talk_itself_alive_again() -> None:
    contact = Contact(sent_at=100.0, deadline_s=6.0)
    assert not contact.acknowledged(sent_at=159.9, now=160.0)
    assert not contact.is_fresh(100.0)
    assert contact.left_s(100.0) == 0.0
    assert not contact.is_made
