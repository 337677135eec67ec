# Who answers when a key has leaked: finds whose it was, ends it, and ends all leases of whoever lost it. It sees no key
# and closes no logins: that is break-glass's.
path "ai-keys/leak" {
  capabilities = ["update"]
}
path "ai-keys/revoke" {
  capabilities = ["update"]
}

# How revocations go: what is not refused yet, and how fast the others were.
path "ai-keys/leases" {
  capabilities = ["read"]
}

# What the key could do, and what else is out.
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/+" {
  capabilities = ["read"]
}
path "sys/leases/lookup/ai-keys/*" {
  capabilities = ["list", "sudo"]
}
path "sys/leases/lookup" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["ai-keys/*"]
  }
}

# Who stands behind the entity and the token accessor of a lease.
path "identity/entity/id/+" {
  capabilities = ["read"]
}
path "auth/token/lookup-accessor" {
  capabilities = ["update"]
}
