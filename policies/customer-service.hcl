# The support desk's assistant: one role of the engine, and no parameters, so that a key is exactly what the role says.
path "ai-keys/creds/customer-service" {
  capabilities = ["read"]
  denied_parameters = {
    "*" = []
  }
}

# The end of its own leases; renewal is in the policy "default".
path "sys/leases/revoke/ai-keys/creds/customer-service/*" {
  capabilities = ["update"]
}
