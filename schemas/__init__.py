"""Everything two processes must agree on: messages, the catalog's tables. Imports nothing of the product."""
