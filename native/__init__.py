"""The C core, one thin wrapper per noun. Nothing here knows the product's Python packages."""
