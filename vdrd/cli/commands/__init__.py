"""`vdr COMMAND`: commands that ask the console's REST API. One file per command."""
