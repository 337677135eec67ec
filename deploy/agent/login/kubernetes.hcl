# Login with the pod's service account. The token is a projected one with the audience that the role asks for: see the
# volume "vault-token" in ../kubernetes/app/agent-sidecar.yaml.
pid_file = "agent.pid"

auto_auth {
  method "kubernetes" {
    mount_path = "auth/kubernetes"

    config = {
      role       = "demo"
      token_path = "/var/run/secrets/vault/token"
    }
  }

  # For run-and-revoke: with this token end all leases that were read with it.
  sink "file" {
    config = {
      path = "token"
      mode = 0600
    }
  }
}
