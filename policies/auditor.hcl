# Reads how everything is set up and what is out; changes nothing and sees no key. It does not read the token accessors.
path "ai-keys/config" {
  capabilities = ["read"]
}
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/+" {
  capabilities = ["read"]
}
# How revocations go, and which keys at the relay no lease knows.
path "ai-keys/leases" {
  capabilities = ["read"]
}
path "ai-keys/tidy" {
  capabilities = ["read"]
}

path "sys/mounts" {
  capabilities = ["read"]
}
path "sys/mounts/ai-keys/tune" {
  capabilities = ["read"]
}
path "sys/auth" {
  capabilities = ["read"]
}
path "sys/audit" {
  capabilities = ["read", "sudo"]
}
path "sys/policies/acl/" {
  capabilities = ["list"]
}
path "sys/policies/acl/+" {
  capabilities = ["read"]
}
path "sys/quotas/rate-limit/" {
  capabilities = ["list"]
}
path "sys/quotas/rate-limit/+" {
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

path "auth/approle/role/" {
  capabilities = ["list"]
}
path "auth/approle/role/+" {
  capabilities = ["read"]
}
path "identity/entity/id/" {
  capabilities = ["list"]
}
path "identity/entity/id/+" {
  capabilities = ["read"]
}

# What a token may do, to answer "who could have".
path "sys/capabilities-accessor" {
  capabilities = ["update"]
}
