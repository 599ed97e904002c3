"""Which characters the bytes of an XML file are: what expat cannot read is made UTF-8 first."""

from __future__ import annotations

import codecs
import re

BOM = codecs.BOM_UTF8
# Expat knows UTF-8, UTF-16, ASCII and, through Python, the encodings of one byte a character. Of these others each is
# read as the larger one that programs really write under its name (WHATWG Encoding, 4.2).
_LARGER = {
    "shift_jis": "cp932",
    "cp932": "cp932",
    "euc_jp": "euc_jp",
    "iso2022_jp": "iso2022_jp",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb18030": "gb18030",
    "big5": "big5hkscs",
    "big5hkscs": "big5hkscs",
    "cp950": "cp950",
    "euc_kr": "cp949",
    "cp949": "cp949",
}
# Names that Python does not know.
_OTHER_NAMES = {
    "windows-31j": "cp932",
    "x-sjis": "cp932",
    "x-euc-jp": "euc_jp",
    "x-gbk": "gbk",
    "x-x-big5": "big5",
    "windows-936": "gbk",
    "windows-949": "cp949",
    "windows-950": "cp950",
}
_ASCII = bytes(range(0x20, 0x7F)).replace(b"\\", b"")
READABLE = "UTF-8, UTF-16, Shift_JIS, EUC-JP, ISO-2022-JP, GBK, GB18030, Big5, EUC-KR and those of one byte a character"
_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?\bencoding\s*=\s*["']([A-Za-z0-9._:-]{1,40})["']""")


class EncodingError(ValueError):
    """The file names an encoding that is not read, or its bytes are not of the one it names."""


def as_utf8(payload: bytes, lines_before: int = 0) -> bytes:
    """The same document as expat can read it; `lines_before`: of its file.

    Raises EncodingError naming the encoding.
    """
    match = _DECLARED.match(payload.removeprefix(BOM)[:400])
    if match is None:
        return payload
    if payload.startswith(BOM):
        # The mark is right more often than what a program always writes into its declaration.
        return _declared_utf8(payload.removeprefix(BOM), match)
    name = match[1].decode("ascii")
    codec = _codec(name)
    if codec is None:
        return payload
    try:
        return _declared_utf8(payload.decode(codec).encode(), match)
    except UnicodeDecodeError as error:
        line = lines_before + payload.count(b"\n", 0, error.start) + 1
        raise EncodingError(f"line {line}: the bytes are not {name}, the encoding that the file names") from error


def _codec(name: str) -> str | None:
    """Python's name of what an encoding is read as; None: expat reads it."""
    try:
        found = codecs.lookup(_OTHER_NAMES.get(name.lower(), name)).name
        if found in _LARGER:
            return _LARGER[found]
        if found.startswith(("utf-8", "utf-16", "utf-32")):
            # Two or four bytes a character it is not, or the declaration could not have been read.
            return "utf-8"
        # As expat asks for it: what every byte is. Those that are no text, or whose tags are not ASCII, end here, too.
        if len(bytes(range(256)).decode(found, "replace")) == 256 and _ASCII.decode(found) == _ASCII.decode():
            return None
    except (LookupError, ValueError):
        pass
    raise EncodingError(f"the encoding {name} is not read; readable are {READABLE}")


def _declared_utf8(payload: bytes, declaration: re.Match[bytes]) -> bytes:
    return payload[: declaration.start(1)] + b"UTF-8" + payload[declaration.end(1) :]
