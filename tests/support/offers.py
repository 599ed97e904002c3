"""What is made of a handshake request, so that two readers can be compared."""

from __future__ import annotations

from collections.abc import Callable

from gateway.wire.handshake import Offer, Policy, Rejected
from tests.support.wire import read_answer


def outcome(reader: Callable[[bytes, Policy], Offer], head: bytes, policy: Policy) -> object:
    """The offer with its answer, or the refusal."""
    try:
        offer = reader(head, policy)
    except Rejected as rejected:
        return rejected.reason, read_answer(rejected.response())
    offer.decline()
    answer = read_answer(offer.answer)
    # RFC 9110, 6.6.1: an answer of 1xx may have a date and need not.
    answer.headers.pop("date", None)
    return offer.token, offer.subprotocol, offer.forwarded_for, answer, offer.protocol is None
