"""`make opensearch`: a node until Ctrl-C, with its data in `.cache/opensearch`."""

from __future__ import annotations

import signal
import sys

from loadtest.opensearch.install import CACHE, MissingError, major
from loadtest.opensearch.node import Node

PORT = 9200


def main() -> int:
    """Exit code: 0 after SIGINT or SIGTERM, 2 when something is missing, 1 when it did not start."""
    port = int(sys.argv[1]) if len(sys.argv) > 1 else PORT
    try:
        # What a version wrote, an older one does not read.
        node = Node(CACHE / f"data-{major()}", port)
        node.start()
    except (MissingError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, MissingError) else 1
    # Not before: the node would inherit the mask.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    print(f"OpenSearch runs at {node.url} (data in {node.folder}); Ctrl-C stops it.")
    print(f"  export HEIWA_LOCATIONS__OPENSEARCH_URL={node.url}", flush=True)
    signal.sigwait(signals)
    node.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
