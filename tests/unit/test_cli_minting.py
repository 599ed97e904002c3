import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.minting import duration_s


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("24h", 86_400), ("7d", 604_800), (" 5s ", 5)]
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text, "--ttl") == seconds


@pytest.mark.parametrize("text", ["", "0", "-5s", "5w", "s", "1e9", "99999d", "5 s", "٣s", "1h30m"])
def test_what_is_no_duration_names_the_option(text: str) -> None:
    with pytest.raises(SettingsError, match="--ttl"):
        duration_s(text, "--ttl")


@given(st.text(max_size=12))
def test_no_text_raises_anything_else(text: str) -> None:
    with contextlib.suppress(SettingsError):
        assert duration_s(text, "--ttl") > 0
