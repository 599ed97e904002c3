"""Programs that run two durable steps on other engines; each runs in an environment of its own."""
