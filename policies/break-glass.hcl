# For the night of a leak: ends keys, logins and tokens at once, and gives none. Its AppRole's secret id works once.

# Every key of the engine, or of one role; with force also where the relay does not answer.
path "sys/leases/revoke-prefix/ai-keys/*" {
  capabilities = ["update", "sudo"]
}
path "sys/leases/revoke-force/ai-keys/*" {
  capabilities = ["update", "sudo"]
}
path "sys/leases/lookup/ai-keys/*" {
  capabilities = ["list", "sudo"]
}

# How revocations go, and what was revoked by force without the relay.
path "ai-keys/leases" {
  capabilities = ["read"]
}

# Whose a leaked key is, and the end of it; all leases of a role, an entity, a login or a token.
path "ai-keys/leak" {
  capabilities = ["update"]
}
path "ai-keys/revoke" {
  capabilities = ["update"]
}

# Keys at the relay that no lease knows, however many, and also when the database was put back from an older copy.
path "ai-keys/tidy" {
  capabilities = ["read", "update"]
}

# A role of the engine, so that nobody gets another key of it.
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/+" {
  capabilities = ["read", "delete"]
}

# Secret ids and whole AppRoles, so that nobody logs in again.
path "auth/approle/role/" {
  capabilities = ["list"]
}
path "auth/approle/role/+" {
  capabilities = ["read", "delete"]
}
path "auth/approle/role/+/secret-id/" {
  capabilities = ["list"]
}
path "auth/approle/role/+/secret-id-accessor/lookup" {
  capabilities = ["update"]
}
path "auth/approle/role/+/secret-id-accessor/destroy" {
  capabilities = ["update"]
}

# Tokens that are out, by accessor, and all that one login method gave.
path "auth/token/accessors/" {
  capabilities = ["list", "sudo"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
path "auth/token/revoke-accessor" {
  capabilities = ["update"]
}
path "sys/leases/revoke-prefix/auth/approle/*" {
  capabilities = ["update", "sudo"]
}
