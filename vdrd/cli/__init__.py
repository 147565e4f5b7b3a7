"""The programs a person types: `vdr` (`main.py`) and the daemons' entry points (`daemon.py`)."""
