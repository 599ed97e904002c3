"""What can be set, where a value may come from, and what is allowed."""
