# Login with a JWT that the platform puts into a file and keeps fresh: a CI job's token, a cloud workload's, SPIFFE's.
pid_file = "agent.pid"

auto_auth {
  method "jwt" {
    mount_path = "auth/jwt"

    config = {
      path = "jwt"
      role = "demo"

      # The platform's file is read again at each login, after a restart too.
      remove_jwt_after_reading = false
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
