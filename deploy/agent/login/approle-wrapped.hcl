# Login by AppRole with a secret id that is delivered wrapped: whoever carries it sees only a token for one unwrapping,
# and if somebody else unwraps it first, the agent's own try fails and says so.
#
# The agent reads and deletes the file, then keeps the secret id in memory for its next logins. After a restart it needs
# a new wrapped one.
pid_file = "agent.pid"

auto_auth {
  method "approle" {
    # Where the method is enabled; "auth/approle" is what it is called unless you choose otherwise.
    mount_path = "auth/approle"

    config = {
      role_id_file_path   = "role-id"
      secret_id_file_path = "wrapped-secret-id"

      # A wrapping token of any other origin is refused. Write your AppRole's name for "demo".
      secret_id_response_wrapping_path = "auth/approle/role/demo/secret-id"
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
