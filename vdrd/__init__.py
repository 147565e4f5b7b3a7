"""vdrd."""
