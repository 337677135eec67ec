# A review: a working day at most.
approle "auditor" {
  token_policies = ["auditor"]

  token_ttl     = "1h"
  token_max_ttl = "8h"

  secret_id_ttl      = "1h"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
