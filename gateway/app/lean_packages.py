"""Packages and modules without what a server never uses.

`import aiohttp.web` runs the package's `__init__`, which loads the client as well: 4.4 MB in each process. That of
prometheus_client loads HTTP servers of the standard library: 1 MB. Others are imported by who is named beside them for
what does not happen here: 1.2 MB together. `prepare` puts a module in the place of each that runs when the first of its
own names is asked for, as `from aiohttp import ClientSession` does. Submodules are loaded as ever.

frozenlist, which aiohttp has for its signals, needs the runtime of C++ unless it does without its extension: 1 MB.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

NAMES = (
    "aiohttp",
    "prometheus_client",
    # websockets, for versions that were not released.
    "importlib.metadata",
    # yarl, for hosts that are not ASCII.
    "idna",
    # shutil, for archives.
    "bz2",
    "lzma",
    # email, for time zones.
    "calendar",
)
_PLAIN = "FROZENLIST_NO_EXTENSIONS"
_VERSION = re.compile(r'^__version__ = "(.+)"$', re.MULTILINE)


def prepare() -> None:
    """Call it before anything imports them; afterwards it does nothing, as where a package is built otherwise."""
    for name in NAMES:
        if name not in sys.modules:
            _prepare(name)
    # Jobs of workflows inherit the environment: the word is taken back.
    if _PLAIN not in os.environ:
        os.environ[_PLAIN] = "1"
        import_module("frozenlist")
        del os.environ[_PLAIN]


def _prepare(name: str) -> None:
    spec = find_spec(name)
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return
    module = module_from_spec(spec)
    version = _VERSION.search(spec.loader.get_source(name) or "")
    if version is not None:
        # A submodule asks its package for it.
        module.__dict__["__version__"] = version[1]
    module.__dict__["__getattr__"] = _lazily(module, spec.loader)
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def _lazily(module: ModuleType, loader: SourceFileLoader) -> Callable[[str], Any]:
    # Two threads may ask at once; what the module asks itself while it runs is not there yet.
    lock = RLock()
    running: list[bool] = []

    def get(name: str) -> Any:
        # The import system looks for an attribute before it looks for a submodule.
        if (name.startswith("__") and name != "__all__") or _is_submodule(module, name):
            raise AttributeError(name)
        with lock:
            if not running:
                running.append(True)
                loader.exec_module(module)
                if module.__dict__.get("__getattr__") is get:
                    del module.__dict__["__getattr__"]
        # It may have brought a `__getattr__` of its own.
        if module.__dict__.get("__getattr__") is get:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}", name=name, obj=module)
        return getattr(module, name)

    return get


def _is_submodule(module: ModuleType, name: str) -> bool:
    return hasattr(module, "__path__") and find_spec(f"{module.__name__}.{name}") is not None
