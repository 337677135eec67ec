# Who runs the engine: its configuration, roles, TTLs and leases. It reads no keys, and nothing here leads to more
# rights: no policies, no login roles, no entities, no tokens, no mounts but this one's tuning. Those are Terraform's
# (or `aikeys provision`'s), under an identity of its own.

path "ai-keys/config" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/+" {
  capabilities = ["create", "read", "update", "patch", "delete"]
}
# How revocations go.
path "ai-keys/leases" {
  capabilities = ["read"]
}
# Keys at the relay that no lease knows, and their end; an unusual number of them, and those of a database that was
# given up, are break-glass's to end.
path "ai-keys/tidy" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "apply"         = []
    "plan"          = []
    "safety_buffer" = []
  }
}
# The end of all leases of a role, an entity, a login or a token.
path "ai-keys/revoke" {
  capabilities = ["update"]
}
# A key can be asked for by whoever needs one, never by who sets its limits.
path "ai-keys/creds/*" {
  capabilities = ["deny"]
}

path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/ai-keys" {
  capabilities = ["read"]
}
path "sys/mounts/ai-keys/tune" {
  capabilities = ["read", "update"]
  allowed_parameters = {
    "default_lease_ttl" = []
    "max_lease_ttl"     = []
    "description"       = []
  }
}

# What is out, and the end of it.
path "sys/leases/lookup" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["ai-keys/*"]
  }
}
path "sys/leases/lookup/ai-keys/*" {
  capabilities = ["list", "sudo"]
}
path "sys/leases/revoke" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["ai-keys/*"]
    "sync"     = []
  }
}
path "sys/leases/revoke-prefix/ai-keys/*" {
  capabilities = ["update", "sudo"]
}

# Who may log in, for looking after it: names, bounds and role ids. Secret ids are the rotation bot's to hand out, so
# that neither of the two can log in as an app.
path "auth/approle/role/" {
  capabilities = ["list"]
}
path "auth/approle/role/+" {
  capabilities = ["read"]
}
path "auth/approle/role/+/role-id" {
  capabilities = ["read"]
}
path "sys/policies/acl/" {
  capabilities = ["list"]
}
path "sys/policies/acl/+" {
  capabilities = ["read"]
}
