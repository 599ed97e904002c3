"""aiohttp without what a server never uses.

`import aiohttp.web` runs the package's `__init__`, which loads the client as well: 4.4 MB in each process. `prepare`
puts a package in its place whose `__init__` runs when the first of its own names is asked for, as
`from aiohttp import ClientSession` does. Submodules are loaded as ever.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from importlib.abc import SourceLoader
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

NAME = "aiohttp"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def prepare() -> None:
    """Call it before anything imports aiohttp; afterwards it does nothing, as where aiohttp is built otherwise."""
    if NAME in sys.modules:
        return
    spec = find_spec(NAME)
    if spec is None or not isinstance(spec.loader, SourceLoader):
        return
    version = _VERSION.search(spec.loader.get_source(NAME) or "")
    if version is None:
        return
    package = module_from_spec(spec)
    # A submodule asks its package for it.
    package.__dict__["__version__"] = version[1]
    package.__dict__["__getattr__"] = _lazily(package, spec.loader)
    sys.modules[NAME] = package


def _lazily(package: ModuleType, loader: SourceLoader) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        # The import system looks for an attribute before it looks for a submodule.
        if (name.startswith("__") and name != "__all__") or find_spec(f"{NAME}.{name}") is not None:
            raise AttributeError(name)
        del package.__dict__["__getattr__"]
        loader.exec_module(package)
        return getattr(package, name)

    return get
