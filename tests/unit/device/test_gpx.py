import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.device.gpx import Fix, GpxError, parse, time_ms

TRACKS = Path(__file__).parents[3] / "loadtest" / "tracks"
NAMESPACE_10 = "http://www.topografix.com/GPX/1/0"
NAMESPACE_11 = "http://www.topografix.com/GPX/1/1"


def gpx(body: str, namespace: str = NAMESPACE_11) -> bytes:
    return f'<?xml version="1.0"?><gpx xmlns="{namespace}">{body}</gpx>'.encode()


@pytest.mark.parametrize("namespace", [NAMESPACE_10, NAMESPACE_11])
def test_both_versions_are_read(namespace: str) -> None:
    body = '<trk><trkseg><trkpt lat="1" lon="2"><ele>3.5</ele><time>2010-08-05T14:23:59Z</time></trkpt></trkseg></trk>'
    assert parse(gpx(body, namespace)) == [Fix(1.0, 2.0, 3.5, 1281018239000)]


def test_only_track_points_count() -> None:
    body = (
        '<wpt lat="9" lon="9"><time>2010-08-05T14:23:59Z</time></wpt>'
        '<rte><rtept lat="8" lon="8"/></rte>'
        "<trk><trkseg/><trkseg></trkseg>"
        '<trkseg><trkpt lat="1" lon="2"/></trkseg><trkseg><trkpt lat="3" lon="4"/></trkseg></trk>'
        '<trk><trkseg><trkpt lat="5" lon="6"/></trkseg></trk>'
    )
    assert [(fix.lat, fix.lon) for fix in parse(gpx(body))] == [(1, 2), (3, 4), (5, 6)]


@pytest.mark.parametrize(
    "attributes", ['lat="91" lon="0"', 'lat="0" lon="181"', 'lat="0"', 'lat="nan" lon="0"', 'lat="x" lon="0"', ""]
)
def test_points_off_the_globe_are_left_out(attributes: str) -> None:
    body = f'<trk><trkseg><trkpt {attributes}/><trkpt lat="1" lon="2"/></trkseg></trk>'
    assert [(fix.lat, fix.lon) for fix in parse(gpx(body))] == [(1, 2)]


def test_extensions_of_others_do_not_overwrite_what_was_recorded() -> None:
    body = (
        '<trk><trkseg><trkpt lat="1" lon="2"><time>2010-08-05T14:23:59Z</time>'
        '<extensions><x:time xmlns:x="urn:x">1999-01-01T00:00:00Z</x:time></extensions>'
        '<x:time xmlns:x="urn:x">1999-01-01T00:00:00Z</x:time></trkpt></trkseg></trk>'
    )
    assert parse(gpx(body))[0].time_ms == 1281018239000


def test_a_document_type_is_refused_before_anything_expands() -> None:
    lines = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a0 "aaaaaaaaaa">{lines}]><gpx>&a9;</gpx>'
    with pytest.raises(GpxError, match="document type"):
        parse(bomb.encode())
    outside = '<!DOCTYPE gpx SYSTEM "file:///etc/passwd"><gpx/>'
    with pytest.raises(GpxError, match="document type"):
        parse(outside.encode())


@pytest.mark.parametrize("payload", [b"", b"not xml", b"<gpx>", b"<kml></kml>", b"\xff\xfe\x00", b"<gpx>&x;</gpx>"])
def test_what_is_no_gpx_is_said_so(payload: bytes) -> None:
    with pytest.raises(GpxError):
        parse(payload)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1901-12-13T20:45:52.2073437Z", -2147483647793),
        ("2010-08-05T14:23:59.5Z", 1281018239500),
        ("2010-08-05T16:23:59+02:00", 1281018239000),
        (" 2010-08-05T14:23:59 ", 1281018239000),
        ("", None),
        ("yesterday", None),
        ("2010-13-05T14:23:59Z", None),
        ("0001-01-01T00:00:00+23:59", -62135683140000),
    ],
)
def test_times(text: str, expected: int | None) -> None:
    assert time_ms(text) == expected


@given(st.binary(max_size=200))
def test_no_payload_raises_anything_else(payload: bytes) -> None:
    with contextlib.suppress(GpxError):
        parse(payload)


@given(st.text(max_size=40))
def test_no_time_raises(text: str) -> None:
    assert time_ms(text) is None or isinstance(time_ms(text), int)


@pytest.mark.parametrize(
    ("name", "points", "timed"),
    [
        ("korita-zbevnica.gpx", 871, 513),
        ("cerknicko-jezero.gpx", 296, 296),
        ("Mojstrovka.gpx", 184, 184),
        ("around-visnjan-with-car.gpx", 104, 104),
    ],
)
def test_the_recorded_tracks(name: str, points: int, timed: int) -> None:
    fixes = parse((TRACKS / name).read_bytes())
    assert (len(fixes), sum(fix.time_ms is not None for fix in fixes)) == (points, timed)
