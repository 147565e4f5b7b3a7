"""The public REST API: one route per call of the registry, OpenAPI, problem documents, idempotency keys."""
