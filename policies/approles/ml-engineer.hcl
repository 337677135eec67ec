# A service of the team "search"; for another team copy the file under another name and change the metadata.
approle "ml-engineer" {
  token_policies = ["ml-engineer"]

  # Renewed while the service runs, a new login twice a day.
  token_ttl     = "20m"
  token_max_ttl = "12h"

  # Delivered wrapped; a deployment of some replicas logs in with it, the next one gets its own.
  secret_id_ttl      = "24h"
  secret_id_num_uses = 20

  secret_id_bound_cidrs = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]
  token_bound_cidrs     = ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]

  # Fills {{identity.entity.metadata.team}} in the policy.
  entity {
    metadata = {
      team = "search"
    }
  }
}
