"""The registry of close codes."""

from __future__ import annotations

import pytest

from gateway.wire import close_codes
from gateway.wire.close_codes import CLOSE_CODES, Fault, Reconnect, fault_of, name_of


def test_codes_and_names_are_one_to_one() -> None:
    assert all(code == entry.code for code, entry in CLOSE_CODES.items())
    assert len({entry.name for entry in CLOSE_CODES.values()}) == len(CLOSE_CODES) == len(close_codes._TABLE)
    assert all(1000 <= code <= 1015 or 4000 <= code <= 4999 for code in CLOSE_CODES)


def test_every_constant_is_in_the_table() -> None:
    constants = {value for name, value in vars(close_codes).items() if name.isupper() and isinstance(value, int)}
    assert len(constants) > 10
    assert constants <= set(CLOSE_CODES)


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013])
def test_the_standard_codes_of_the_protocol_are_there(code: int) -> None:
    assert code in CLOSE_CODES


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4408, 4409, 4429, 4503])
def test_our_own_codes_are_there(code: int) -> None:
    assert code in CLOSE_CODES


def test_what_the_protocol_says_about_some() -> None:
    assert CLOSE_CODES[4409].reconnect is Reconnect.NEVER
    assert CLOSE_CODES[4401].reconnect is Reconnect.NEW_TOKEN
    assert CLOSE_CODES[1012].reconnect is Reconnect.AFTER


def test_unknown_codes_can_only_be_the_peers() -> None:
    assert fault_of(3210) is Fault.PEER
    assert name_of(3210) == "other"
    assert fault_of(1006) is Fault.NETWORK
    assert name_of(4503) == "slow_consumer"
