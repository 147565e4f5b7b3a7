"""Connections between the programs: TLS, the own CA, enrolment, control links, data channels.

Knows sockets and clocks; knows nothing of hosts, jobs or storages.
"""
