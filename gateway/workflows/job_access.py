"""What a job is given so that it can speak for its attempt."""

from __future__ import annotations

from gateway.workflows.names import attempt_secret


class JobAccess:
    """`url` is where jobs reach the listener for them; "": there is none, and jobs are given nothing."""

    def __init__(self, url: str, key: bytes) -> None:
        self._url = url
        self._key = key

    @property
    def is_on(self) -> bool:
        """Whether jobs can speak for their attempts."""
        return bool(self._url)

    def environment(self, public: str) -> dict[str, str]:
        """Variables for the environment of a job, the secret among them: never for a log."""
        if not self._url:
            return {}
        return {"HEIWA_JOBS_URL": self._url, "HEIWA_ATTEMPT_SECRET": attempt_secret(self._key, public)}

    def callback(self, public: str) -> dict[str, str]:
        """Headers for a service that says later how an attempt ended."""
        if not self._url:
            return {}
        secret = attempt_secret(self._key, public)
        return {
            "Heiwa-Callback": f"{self._url}/api/v1/attempts/{public}/finish",
            "Heiwa-Callback-Authorization": f"Bearer {secret}",
        }
