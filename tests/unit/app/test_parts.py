"""How the files of a process are shared out."""

import pytest

from gateway.adapters.sqlite.readers import MAX_READERS
from gateway.app.parts import connections_maximum, index_readers
from gateway.errors import SettingsError
from gateway.settings.model import Connections, Settings


@pytest.mark.parametrize(
    ("limit", "readers", "connections"),
    [(66, 2, 1), (128, 2, 48), (256, 4, 138), (1024, 12, 690), (65_536, MAX_READERS, 65_174)],
)
def test_searches_take_a_small_part_of_the_files_beyond_the_reserve(limit: int, readers: int, connections: int) -> None:
    settings = Settings()
    assert index_readers(settings, limit) == readers
    assert connections_maximum(settings, limit) == connections


def test_what_does_not_fit_is_said_at_start() -> None:
    with pytest.raises(SettingsError, match=r"6 files of the index .* the limit of 256"):
        connections_maximum(Settings(connections=Connections(maximum=139)), 256)
    with pytest.raises(SettingsError):
        connections_maximum(Settings(), 64)
