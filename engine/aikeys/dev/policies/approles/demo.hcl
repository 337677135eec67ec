# The app that is shown, and the one that you try.
approle "demo" {
  token_policies = ["demo"]

  token_ttl     = "20m"
  token_max_ttl = "1h"

  secret_id_ttl      = "768h"
  secret_id_num_uses = 0

  secret_id_bound_cidrs = []
  token_bound_cidrs     = []
}
