"""The product's Python: values, formats, store, network, workflows, and the programs composed of them."""

__version__ = "0.1.0"
