"""What all tests have in common."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A loaded machine is no defect: what hangs is ended by the timeout of the test. A failure prints how to repeat it.
settings.register_profile("heiwa", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("heiwa")
