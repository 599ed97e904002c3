#!/usr/bin/env bash
# CPython 3.11 (pyexpat with expat 2.5), and what stands on it: an XML file that declares a multi-byte encoding raises
# ValueError, which is no ExpatError and, in xml.etree, no ParseError. Who catches the parser's own errors only dies of a
# file in Shift_JIS, EUC-JP, GBK, Big5 or EUC-KR.
#
# Seen:
#   Shift_JIS ValueError multi-byte encodings are not supported
#   GBK ValueError multi-byte encodings are not supported
#   ISO-8859-15 ok
#   xml.etree ValueError
set -euo pipefail
python3 - <<'PY' | diff - <(sed -n 's/^#   //p' "$0")
import xml.etree.ElementTree as tree
from xml.parsers import expat

for encoding in ("Shift_JIS", "GBK", "ISO-8859-15"):
    document = f'<?xml version="1.0" encoding="{encoding}"?><a/>'.encode()
    try:
        expat.ParserCreate().Parse(document, True)
        print(encoding, "ok")
    except expat.ExpatError:
        print(encoding, "ExpatError")
    except ValueError as error:
        print(encoding, "ValueError", error)
try:
    tree.fromstring('<?xml version="1.0" encoding="Shift_JIS"?><a/>'.encode())
except tree.ParseError:
    print("xml.etree ParseError")
except ValueError:
    print("xml.etree ValueError")
PY
