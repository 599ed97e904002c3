"""What all endpoints of the stand-in cloud have in common: where they listen, and what their callers have to know."""

from __future__ import annotations

from aiohttp import web

from loadtest.cloud.place import REGION
from loadtest.processes.ports import free_port


class Listening:
    """An application on a free port of 127.0.0.1; opened again, it is on the same one."""

    def __init__(self) -> None:
        self._port = free_port()
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """`http://127.0.0.1:…`."""
        return f"http://127.0.0.1:{self._port}"

    async def open(self, application: web.Application) -> None:
        """Listen."""
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True).start()

    async def close(self) -> None:
        """Refuse connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None


def caller(access_key: str | None = "AKIAHEIWA", **urls: str) -> dict[str, str]:
    """Variables of a process that is to call services at these addresses, by the SDK's names of services, and nothing
    else. `access_key` None: it has to get its credentials elsewhere."""
    found = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in urls.items()}
    found |= {
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_REGION": REGION,
    }
    if access_key is not None:
        found |= {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": "not-a-real-secret"}
    return found
