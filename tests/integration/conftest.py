"""A client of each listener, on fakes."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.api.application import build_operations, build_public
from tests.support.api import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    await made.close()


@pytest.fixture
async def operations(world: World) -> TestClient[web.Request, web.Application]:
    return await world.client(build_operations)


@pytest.fixture
async def public(world: World) -> TestClient[web.Request, web.Application]:
    return await world.client(build_public)
