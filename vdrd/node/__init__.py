"""The node: owns storages, serves data channels, runs what needs no agent, exports points. Knows no users and
no catalog."""
