# The support desk's assistant.
approle "customer-service" {
  token_policies = ["customer-service"]

  token_ttl     = "20m"
  token_max_ttl = "12h"

  secret_id_ttl      = "24h"
  secret_id_num_uses = 5

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
}
