-- Version 2: which key domain of a storage holds the points of which tenant.

-- Numbers are given at a tenant's first backup and never again to another: chunks of a domain are readable by its tenant only.
CREATE TABLE key_domains (
    tenant_id TEXT PRIMARY KEY REFERENCES tenants,  -- the house
    domain    INTEGER NOT NULL UNIQUE               -- number of its key domain, the same in every storage; 0 is `default`'s
) STRICT, WITHOUT ROWID;
