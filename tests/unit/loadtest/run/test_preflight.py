from pathlib import Path

import pytest

from gateway.errors import SettingsError
from loadtest.run.preflight import check_tracks


def test_tracks_are_read_before_a_run(tmp_path: Path) -> None:
    (tmp_path / "a.gpx").write_text('<gpx><trk><trkseg><trkpt lat="1" lon="2"/>\n<trkpt/></trkseg></trk></gpx>')
    assert check_tracks(str(tmp_path)) == [f"{tmp_path}/a.gpx: 1 point left out (line 2: lat is missing)"]
    assert check_tracks("recorded") == check_tracks("") == []


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b'<?xml version="1.0" encoding="hex"?><gpx/>', "the encoding hex is not read"),
        ('<?xml version="1.0" encoding="Big5"?><gpx>鴨川</gpx>'.encode("euc_jp")[:-8], "Big5|not well-formed"),
        (b'<gpx><trk><trkseg><trkpt lat="x" lon="2"/></trkseg></trk></gpx>', "can be used: 1 point left out .line 1"),
        (b"<gpx/>", "has no track points$"),
    ],
)
def test_a_track_that_cannot_be_used_is_named(tmp_path: Path, payload: bytes, why: str) -> None:
    file = tmp_path / "b.gpx"
    file.write_bytes(payload)
    with pytest.raises(SettingsError, match=f"b.gpx.*({why})") as caught:
        check_tracks(str(tmp_path))
    assert str(caught.value).startswith("fleet.tracks")
    with pytest.raises(SettingsError, match="cannot read"):
        check_tracks(str(tmp_path / "missing.gpx"))
