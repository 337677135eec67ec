# Runs for long: a periodic token, renewed within its period for as long as the bot lives and no longer.
approle "rotation-bot" {
  token_policies = ["rotation-bot"]

  token_ttl    = "1h"
  token_period = "1h"

  secret_id_ttl      = "1h"
  secret_id_num_uses = 1

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
