# Made when it is needed and gone within the hour; the alarm is on its login in the audit log.
approle "break-glass" {
  token_policies = ["break-glass"]

  token_ttl              = "15m"
  token_max_ttl          = "30m"
  token_explicit_max_ttl = "30m"

  secret_id_ttl      = "10m"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
