# The sidecar of `aikeys dev`. Bound to no address: where the Vault of --upstream sees it come from is not known.
approle "aikeys-dev" {
  token_policies = ["aikeys-dev-sidecar", "aikeys-dev-more"]

  token_ttl    = "1h"
  token_period = "24h"

  secret_id_ttl      = "768h"
  secret_id_num_uses = 0

  secret_id_bound_cidrs = []
  token_bound_cidrs     = []
}
