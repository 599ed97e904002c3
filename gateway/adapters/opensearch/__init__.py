"""OpenSearch as the location index. Imported only when `locations.opensearch_url` is set."""
