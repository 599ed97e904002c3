from collections.abc import AsyncIterator

import pytest

from tests.support.pipelines import Parts


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    made = Parts()
    yield made
    await made.pipeline.stop(5)
    assert made.pipeline.conservation() == 0
