import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.identity.minting import Minter, duration_s
from gateway.settings.load import load


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


@pytest.mark.parametrize("option", ["--sub", "--account", "--class"])
@pytest.mark.parametrize("letter", ["\0", "\n", "\x7f", "\x9b"])
def test_no_token_is_minted_that_would_be_refused(tmp_path: Path, option: str, letter: str) -> None:
    minter = Minter(load(None, {}, [f"data.folder={tmp_path}"]).settings)
    names = {"--sub": "lamp", "--account": "acme", "--class": "tiny"} | {option: f"la{letter}mp"}
    with pytest.raises(SettingsError, match=f"{option}: holds a control character"):
        minter.mint(names["--sub"], names["--account"], "", names["--class"], 1.75e9, 60)


def test_scopes_are_separated_by_spaces_only(tmp_path: Path) -> None:
    minter = Minter(load(None, {}, [f"data.folder={tmp_path}"]).settings)
    with pytest.raises(SettingsError, match="--scope"):
        minter.mint("lamp", "acme", "location:write\tadmin", "", 1.75e9, 60)
