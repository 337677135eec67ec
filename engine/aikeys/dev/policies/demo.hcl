# What one app needs: its own keys, under leases that it may end early.
path "ai-keys/creds/demo" {
  capabilities = ["read", "create", "update"]
}

path "sys/leases/revoke" {
  capabilities = ["update"]
  allowed_parameters = {
    "lease_id" = ["ai-keys/creds/demo/*"]
    "sync"     = []
  }
}
