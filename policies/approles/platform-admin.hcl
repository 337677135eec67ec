# An administrator's session: an hour of work for one secret id, asked for when it is needed.
approle "platform-admin" {
  token_policies = ["platform-admin"]

  token_ttl     = "30m"
  token_max_ttl = "1h"

  secret_id_ttl      = "15m"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
