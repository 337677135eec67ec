# A nightly job: one login and one run for each secret id.
approle "analytics" {
  token_policies = ["analytics"]

  token_ttl     = "1h"
  token_max_ttl = "4h"

  secret_id_ttl      = "24h"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
