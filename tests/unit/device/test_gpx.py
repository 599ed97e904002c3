import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.device.gpx import MAX_DEPTH, Fix, GpxError, Recording, parse, time_ms

TRACKS = Path(__file__).parents[3] / "loadtest" / "tracks"
NAMESPACE_10 = "http://www.topografix.com/GPX/1/0"
NAMESPACE_11 = "http://www.topografix.com/GPX/1/1"


def gpx(body: str, namespace: str = NAMESPACE_11) -> bytes:
    return f'<?xml version="1.0"?><gpx xmlns="{namespace}">{body}</gpx>'.encode()


@pytest.mark.parametrize("namespace", [NAMESPACE_10, NAMESPACE_11])
def test_both_versions_are_read(namespace: str) -> None:
    body = '<trk><trkseg><trkpt lat="1" lon="2"><ele>3.5</ele><time>2010-08-05T14:23:59Z</time></trkpt></trkseg></trk>'
    assert parse(gpx(body, namespace)).fixes == [Fix(1.0, 2.0, 3.5, 1281018239000)]


def test_only_track_points_count() -> None:
    body = (
        '<wpt lat="9" lon="9"><time>2010-08-05T14:23:59Z</time></wpt>'
        '<rte><rtept lat="8" lon="8"/></rte>'
        "<trk><trkseg/><trkseg></trkseg>"
        '<trkseg><trkpt lat="1" lon="2"/></trkseg><trkseg><trkpt lat="3" lon="4"/></trkseg></trk>'
        '<trk><trkseg><trkpt lat="5" lon="6"/></trkseg></trk>'
    )
    assert [(fix.lat, fix.lon) for fix in parse(gpx(body)).fixes] == [(1, 2), (3, 4), (5, 6)]


def track(points: str) -> bytes:
    return gpx(f"<trk><trkseg>{points}</trkseg></trk>")


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ('lat="91" lon="0"', "lat is '91', not within ±90"),
        ('lat="0" lon="-180.5"', "lon is '-180.5', not within ±180"),
        ('lat="0"', "lon is missing"),
        ('lat="nan" lon="0"', "lat is 'nan', not a number"),
        ('lat="inf" lon="0"', "lat is 'inf', not a number"),
        ('lat="1e400" lon="0"', "lat is '1e400', not a number"),
        ('lat="35,5" lon="0"', "lat is '35,5', not a number"),
        ('lat="1_0" lon="0"', "lat is '1_0', not a number"),
        ('lat="１０" lon="0"', "lat is '１０', not a number"),
        ("", "lat is missing"),
    ],
)
def test_points_that_cannot_be_used_are_counted_and_named(attributes: str, why: str) -> None:
    found = parse(track(f'\n<trkpt {attributes}/>\n<trkpt lat="1" lon="2"/>'))
    assert found == Recording([Fix(1, 2, None, None)], 1, [f"line 2: {why}"])


def test_only_the_first_few_of_many_are_named() -> None:
    found = parse(track("\n<trkpt/>" * 1000))
    assert (found.fixes, found.left_out) == ([], 1000)
    assert found.why == [f"line {line}: lat is missing" for line in (2, 3, 4)]


def test_numbers_as_recorders_write_them() -> None:
    found = parse(track('<trkpt lat=" +1.50 " lon="-.5"><ele>1.2E+3</ele></trkpt>'))
    assert found.fixes == [Fix(1.5, -0.5, 1200.0, None)]


def test_values_in_sections_of_characters_are_read() -> None:
    body = "<ele><![CDATA[ -6.5537536E-4 ]]></ele><time><![CDATA[2010-08-05T14:23:59Z]]></time>"
    assert parse(track(f'<trkpt lat="1" lon="2">{body}</trkpt>')).fixes == [Fix(1, 2, -6.5537536e-4, 1281018239000)]


def test_blank_lines_before_the_declaration_are_counted_and_else_ignored() -> None:
    head = '\r\n\n  <?xml version="1.0" encoding="Big5"?>\n<gpx><trk><name>淡水河</name>'
    document = head + "<trkseg>\n<trkpt/>{}</trkseg></trk></gpx>"
    assert parse(document.format("").encode("big5")) == Recording([], 1, ["line 5: lat is missing"])
    with pytest.raises(GpxError, match="line 5: not well-formed XML: mismatched tag"):
        parse(document.format("<ele>").encode("big5"))
    with pytest.raises(GpxError, match="line 4: the bytes are not Big5"):
        parse(document.encode("euc_jp").replace(b"<trkseg>", b"\xff<trkseg>"))


def test_the_first_of_two_values_counts() -> None:
    body = "<ele>12</ele><ele>13</ele><time>2010-08-05T14:23:59Z</time><time>1999-01-01T00:00:00Z</time>"
    assert parse(track(f'<trkpt lat="1" lon="2">{body}</trkpt>')).fixes == [Fix(1, 2, 12.0, 1281018239000)]
    # Text within a child of a child is none of the child's.
    nested = "<ele>1<x>9</x>2</ele>"
    assert parse(track(f'<trkpt lat="1" lon="2">{nested}</trkpt>')).fixes[0].altitude_m == 12.0


@pytest.mark.parametrize(
    "extensions",
    [
        "<extensions><gpxtpx:hr>120</gpxtpx:hr></extensions>",
        "<extensions><a:b><c:d e:f='1'/></a:b></extensions>",
        "<x:time>1999-01-01T00:00:00Z</x:time>",
    ],
)
def test_a_prefix_that_nobody_declared_is_somebody_elses(extensions: str) -> None:
    body = f'<trkpt lat="1" lon="2">{extensions}<ele>5</ele><time>2010-08-05T14:23:59Z</time></trkpt>'
    assert parse(track(body)).fixes == [Fix(1, 2, 5.0, 1281018239000)]


def test_gpx_may_have_a_prefix_and_others_the_default() -> None:
    body = (
        f'<g:gpx xmlns:g="{NAMESPACE_11}" xmlns="urn:x"><g:trk><g:trkseg><g:trkpt lat="1" lon="2"><ele>9</ele>'
        "<g:ele>5</g:ele></g:trkpt><trkpt lat='3' lon='4'/></g:trkseg></g:trk></g:gpx>"
    )
    assert parse(body.encode()).fixes == [Fix(1, 2, 5.0, None)]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ('<gpx xmlns="urn:another"/>', "namespace urn:another, not of http"),
        (f'<gpx xmlns="{NAMESPACE_11}/"/>', f"namespace {NAMESPACE_11}/, not of http"),
        (f'<g:gpx xmlns:g="urn:g" xmlns="{NAMESPACE_11}"/>', "namespace urn:g, not"),
        ("<g:gpx/>", "g:gpx, whose prefix is not declared"),
        ("<kml/>", "kml, not gpx"),
    ],
)
def test_another_root_is_refused_by_its_name(document: str, why: str) -> None:
    with pytest.raises(GpxError, match=why):
        parse(document.encode())


def test_elements_without_end_are_refused() -> None:
    with pytest.raises(GpxError, match=f"line 1: more than {MAX_DEPTH} elements"):
        parse(b"<gpx>" + b"<a>" * 1_000_000)


POINT = '<trkpt lat="1" lon="2"><ele>5</ele></trkpt>'


@pytest.mark.parametrize(
    ("encoding", "codec", "name"),
    [
        ("Shift_JIS", "cp932", "鴨川 ①〜"),
        ("shift-jis", "shift_jis", "表示"),  # whose second bytes look like ASCII
        ("x-sjis", "cp932", "鴨川"),
        ("Windows-31J", "cp932", "鴨川"),
        ("EUC-JP", "euc_jp", "鴨川"),
        ("ISO-2022-JP", "iso2022_jp", "鴨川"),
        ("GBK", "gbk", "长城"),
        ("GB2312", "gbk", "長城"),  # not in GB 2312, but written under its name
        ("GB18030", "gb18030", "长城 😀"),
        ("Big5", "big5", "淡水河 功"),
        ("EUC-KR", "cp949", "한강 뷁"),
        ("ISO-8859-15", "iso8859_15", "Œuvre €"),
        ("windows-1252", "cp1252", "Œuvre €"),
        ("KOI8-R", "koi8_r", "Нева"),
        ("UTF-16", "utf-16", "鴨川"),
        ("utf-8", "utf-8", "鴨川"),
        ("UTF-8", "utf-8-sig", "鴨川"),
        ("Shift_JIS", "utf-8-sig", "鴨川"),  # the mark is right
        ("UTF-16", "utf-8-sig", "鴨川"),
        ("utf-16", "utf-8", "鴨川"),  # written by programs that made a string first
    ],
)
def test_encodings_are_read(encoding: str, codec: str, name: str) -> None:
    trk = f"<trk><name>{name}</name><trkseg>{POINT}</trkseg></trk>"
    document = f"<?xml version='1.0' encoding='{encoding}'?><gpx>{trk}</gpx>"
    assert parse(document.encode(codec)).fixes == [Fix(1, 2, 5.0, None)]


@pytest.mark.parametrize(
    "encoding", ["ibm037", "hz-gb-2312", "johab", "hex", "bz2_codec", "rot13", "utf-7", "idna", "EBCDIC-XX", "x" * 40]
)
def test_an_encoding_that_is_not_read_is_named(encoding: str) -> None:
    document = f'<?xml version="1.0" encoding="{encoding}"?><gpx><trk><trkseg>{POINT}</trkseg></trk></gpx>'
    with pytest.raises(GpxError, match=f"encoding {encoding} is not read; readable are UTF-8"):
        parse(document.encode())


def test_bytes_of_another_encoding_are_refused_by_line() -> None:
    document = '<?xml version="1.0" encoding="EUC-JP"?>\n<gpx>\n<trk><name>鴨川</name></trk></gpx>'
    with pytest.raises(GpxError, match="line 3: the bytes are not EUC-JP"):
        parse(document.encode("cp932"))


@given(st.sampled_from(["Shift_JIS", "EUC-JP", "GBK", "Big5", "EUC-KR", "ISO-2022-JP", "x"]), st.binary(max_size=100))
def test_no_bytes_of_any_encoding_raise_anything_else(encoding: str, payload: bytes) -> None:
    with contextlib.suppress(GpxError):
        parse(f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + payload)


def test_extensions_of_others_do_not_overwrite_what_was_recorded() -> None:
    body = (
        '<trk><trkseg><trkpt lat="1" lon="2"><time>2010-08-05T14:23:59Z</time>'
        '<extensions><x:time xmlns:x="urn:x">1999-01-01T00:00:00Z</x:time></extensions>'
        '<x:time xmlns:x="urn:x">1999-01-01T00:00:00Z</x:time></trkpt></trkseg></trk>'
    )
    assert parse(gpx(body)).fixes[0].time_ms == 1281018239000


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
        ("2010-08-05t14:23:59z", 1281018239000),
        ("2010-08-05T24:00:00Z", 1281052800000),
        ("2010-12-31T24:00:00.000+09:00", 1293807600000),
        ("9999-12-31T24:00:00Z", 253402300800000),
        ("2016-12-31T23:59:60Z", 1483228800000),
        ("2010-08-05T14:23Z", 1281018180000),
        ("2010-08-05 14:23:59,25 +0200", 1281011039250),
        ("2022-03-27T15:32:37.504+02:00[Europe/Brussels]", 1648387957504),
        ("2010-08-05T14:23:59Z[UTC][u-ca=gregory]", 1281018239000),
        ("2010-08-05T14:23:59Z[", None),
        ("0000-03-13T09:11:26Z", None),
        ("2010-08-05T24:00:01Z", None),
        ("2010-08-05T24:00:00.1Z", None),
        ("2010-08-05T25:00:00Z", None),
        ("2010-08-05T14:60:00Z", None),
        ("2010-08-05T14:23:59+24:00", None),
        ("２０１０-08-05T14:23:59Z", None),
        ("2010-08-05T14:23:59." + "9" * 5000, None),
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
    fixes = parse((TRACKS / name).read_bytes()).fixes
    assert (len(fixes), sum(fix.time_ms is not None for fix in fixes)) == (points, timed)
