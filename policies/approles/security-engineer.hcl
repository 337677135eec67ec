# On duty: a shift at most.
approle "security-engineer" {
  token_policies = ["security-engineer"]

  token_ttl     = "1h"
  token_max_ttl = "8h"

  secret_id_ttl      = "1h"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
