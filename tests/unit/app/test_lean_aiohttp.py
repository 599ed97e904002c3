"""aiohttp without its client, until something asks for it. In processes of their own: here it is loaded already."""

import subprocess
import sys

import pytest

PREPARED = "from gateway.app.lean_aiohttp import prepare; prepare(); import sys; "


def said(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_gateway_does_not_load_the_client() -> None:
    code = PREPARED + "import gateway.app.serving; print('aiohttp.web' in sys.modules, 'aiohttp.client' in sys.modules)"
    assert said(code) == "True False"


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
    assert said("import aiohttp; from gateway.app.lean_aiohttp import prepare; prepare(); print(aiohttp.ClientSession)")
