"""The agent: one small daemon on a protected host. It reads and writes the host's files and disks for the
runs that the server starts, and sends chunks to nodes.
"""
