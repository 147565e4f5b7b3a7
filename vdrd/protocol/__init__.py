"""The wire protocol without I/O:

frames, greeting, connection states, errors as messages. No sockets, no clocks, no trio.
"""
