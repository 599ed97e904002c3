"""HEALTHCHECK of the image: whether the process lives, asked where it never speaks TLS. ECS does not use it."""

import os
import sys
from http.client import HTTPConnection

host, _, port = os.environ.get("HEIWA_LISTEN__OPERATIONS", "127.0.0.1:8081").partition(",")[0].rpartition(":")
connection = HTTPConnection(host.strip("[]"), int(port), timeout=4)
connection.request("GET", "/livez")
sys.exit(connection.getresponse().status != 200)
