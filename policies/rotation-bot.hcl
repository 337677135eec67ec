# The bot that rotates: it hands out new secret ids for the apps' AppRoles, takes old ones away, and ends a role's
# leases so that apps come back for new keys. It reads no keys and no role ids: it cannot log in as what it serves.

# A secret id leaves only wrapped, for whoever unwraps it first, within minutes. Bounds are the AppRole's own.
path "auth/approle/role/ml-engineer/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1m"
  max_wrapping_ttl = "15m"
  allowed_parameters = {
    "metadata" = []
  }
}
path "auth/approle/role/customer-service/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1m"
  max_wrapping_ttl = "15m"
  allowed_parameters = {
    "metadata" = []
  }
}
path "auth/approle/role/analytics/secret-id" {
  capabilities     = ["update"]
  min_wrapping_ttl = "1m"
  max_wrapping_ttl = "15m"
  allowed_parameters = {
    "metadata" = []
  }
}

# Which secret ids there are, by accessor, and the end of one.
path "auth/approle/role/+/secret-id/" {
  capabilities = ["list"]
}
path "auth/approle/role/+/secret-id-accessor/lookup" {
  capabilities = ["update"]
}
path "auth/approle/role/ml-engineer/secret-id-accessor/destroy" {
  capabilities = ["update"]
}
path "auth/approle/role/customer-service/secret-id-accessor/destroy" {
  capabilities = ["update"]
}
path "auth/approle/role/analytics/secret-id-accessor/destroy" {
  capabilities = ["update"]
}

# All keys of a role at once.
path "ai-keys/roles/" {
  capabilities = ["list"]
}
path "ai-keys/roles/+" {
  capabilities = ["read"]
}
path "sys/leases/lookup/ai-keys/*" {
  capabilities = ["list", "sudo"]
}
path "sys/leases/revoke-prefix/ai-keys/creds/*" {
  capabilities = ["update", "sudo"]
}
