"""Names of metrics in Amazon CloudWatch that more than their writer has to know."""

from __future__ import annotations

from typing import Final

NAMESPACE: Final = "Heiwa"
# The dimension `role`: of processes that hold devices, and of those that only manage workflows.
GATEWAY: Final = "gateway"
MANAGER: Final = "manager"
# The 99th percentile of a minute: the upper bound of the histogram's bucket that holds it.
ACK_P99: Final = "heiwa_ack_p99_seconds"
