"""The `elektronn` command: one module a verb."""
