"""Packages without what a server never uses, until something asks. In processes of their own: here all is loaded."""

import subprocess
import sys

import pytest

PREPARED = "from gateway.app.lean_packages import prepare; prepare(); import sys; "


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "name",
    ["aiohttp.client", "prometheus_client.exposition", "wsgiref", "csv", "zipfile", "idna.core", "_bz2", "_lzma"],
)
def test_a_gateway_does_not_load_them(name: str) -> None:
    code = "import gateway.app.serving; print('aiohttp.web' in sys.modules, 'prometheus_client.registry' in sys.modules"
    assert said(PREPARED + code + f", {name!r} in sys.modules)") == "True True False"


def test_a_gateway_does_not_load_the_runtime_of_cpp() -> None:
    code = (
        "import os, aiohttp.web; print('libstdc++' in open('/proc/self/maps').read(), 'FROZENLIST' in str(os.environ))"
    )
    assert said(PREPARED + code) == "False False"


@pytest.mark.parametrize(
    ("then", "answer"),
    [
        ("import importlib.metadata; print(importlib.metadata.version('aiohttp') > '3')", "True"),
        ("from importlib import metadata; print(metadata.version('aiohttp') > '3')", "True"),
        ("from yarl import URL; print(URL('http://b\u00fccher.example').raw_host)", "xn--bcher-kva.example"),
        ("import bz2; print(bz2.decompress(bz2.compress(b'calm')))", "b'calm'"),
        ("import lzma; print(lzma.decompress(lzma.compress(b'calm')))", "b'calm'"),
        (
            "from email.utils import parsedate_to_datetime as read; print(read('1 Jan 1970 00:01:00 +0000'))",
            "1970-01-01 00:01:00+00:00",
        ),
        ("from calendar import *; print(isleap(2028))", "True"),
    ],
)
def test_what_they_can_do_is_there(then: str, answer: str) -> None:
    assert said(PREPARED + "import gateway.app.serving; " + then) == answer


def test_two_threads_may_ask_first_at_once() -> None:
    code = (
        "from concurrent.futures import ThreadPoolExecutor as Pool; from threading import Barrier; import calendar\n"
        "both = Barrier(8)\n"
        "def ask(number):\n    both.wait()\n    return calendar.isleap(number)\n"
        "print(list(Pool(8).map(ask, range(2020, 2028))))"
    )
    assert said(PREPARED + code) == str([True, False, False, False] * 2)


def test_the_names_of_the_metrics_are_there_when_they_are_asked_for() -> None:
    code = "import prometheus_client.registry; from prometheus_client import Counter, generate_latest; print(Counter)"
    assert "Counter" in said(PREPARED + code)


@pytest.mark.parametrize(
    "then",
    [
        "from aiohttp import ClientSession; print(ClientSession.__name__)",
        "import aiohttp; print(aiohttp.ClientSession.__name__)",
        "from aiohttp import web; from aiohttp import ClientSession; print(ClientSession.__name__)",
        "import aiohttp.client; print(aiohttp.client.ClientSession.__name__)",
        "from aiohttp import *; print(ClientSession.__name__)",
    ],
)
def test_its_names_are_there_when_they_are_asked_for(then: str) -> None:
    assert said(PREPARED + "import aiohttp.web; " + then) == "ClientSession"


def test_what_is_not_there_is_an_error_as_ever() -> None:
    code = PREPARED + "import aiohttp\ntry: aiohttp.nothing\nexcept AttributeError as error: print(error)"
    assert "nothing" in said(code)


def test_it_comes_too_late_where_aiohttp_is_loaded() -> None:
    assert said(
        "import aiohttp; from gateway.app.lean_packages import prepare; prepare(); print(aiohttp.ClientSession)"
    )
