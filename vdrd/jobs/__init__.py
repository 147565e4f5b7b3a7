"""Workflows of a node: a pure `plan()` and what carries it out. Knows storages and points, no links and no
daemons."""
