# The sidecar itself: periodic, so that it runs for as long as it renews; some workers and restarts on one secret id.
approle "sidecar" {
  token_policies = ["sidecar"]

  token_ttl    = "1h"
  token_period = "24h"

  secret_id_ttl      = "24h"
  secret_id_num_uses = 10

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
