"""A real OpenSearch node on this machine, from Maven Central, for tests and load tests."""
