"""`vdr store COMMAND`: commands that work directly on a storage, without any server. One file per command."""
