variable "path" {
  type        = string
  description = "Where the engine is mounted, without slashes at the ends."
  default     = "ai-keys"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*$", var.path))
    error_message = "path must consist of letters, digits, dots, dashes and underscores, with slashes only between names: \"ai-keys\" or \"teams/ai-keys\"."
  }
  validation {
    condition     = !contains(["sys", "auth", "identity", "cubbyhole", "audit"], split("/", var.path)[0])
    error_message = "path must not begin with sys, auth, identity, cubbyhole or audit: these are Vault's own."
  }
}

variable "engine_type" {
  type        = string
  description = "The engine's type as the Vault knows it."
  default     = "ai-keys"
  nullable    = false
}

variable "description" {
  type        = string
  description = "What the mount is for, as `vault secrets list` shows it."
  default     = "Short-lived AI keys"
  nullable    = false
}

variable "default_lease_ttl" {
  type        = number
  description = "Seconds that a key lives unless renewed, where its role says nothing."
  default     = 3600
  nullable    = false

  validation {
    condition     = var.default_lease_ttl >= 1 && floor(var.default_lease_ttl) == var.default_lease_ttl
    error_message = "default_lease_ttl must be a whole number of seconds, at least 1."
  }
}

variable "max_lease_ttl" {
  type        = number
  description = "Seconds that a key lives at most, renewals included, where its role says nothing."
  default     = 86400
  nullable    = false

  validation {
    condition     = var.max_lease_ttl >= 1 && floor(var.max_lease_ttl) == var.max_lease_ttl
    error_message = "max_lease_ttl must be a whole number of seconds, at least 1."
  }
  validation {
    condition     = var.max_lease_ttl >= var.default_lease_ttl
    error_message = "max_lease_ttl must not be less than default_lease_ttl."
  }
}

variable "relay" {
  type        = string
  description = "Which kind of relay it is."
  default     = "holysheep"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9_-]*$", var.relay))
    error_message = "relay must be the name of a relay driver in lower case, such as \"holysheep\"."
  }
}

variable "base_url" {
  type        = string
  description = "Address of the relay's API, such as https://relay.example/v1."
  nullable    = false

  validation {
    condition     = can(regex("^(https://[^/?#@\\s]+|http://(localhost|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]+)?)(/[^?#\\s]*)?$", var.base_url))
    error_message = "base_url must be an https:// address without user, query or fragment, such as \"https://relay.example/v1\"; http:// is for this machine itself only."
  }
}

variable "management_key" {
  type        = string
  description = "The relay's key for managing keys. Ephemeral: it is written to KV when `management_key_version` changes, and stored nowhere else."
  default     = null
  ephemeral   = true
  sensitive   = true

  validation {
    condition     = var.management_key == null || try(length(var.management_key) <= 4096 && can(regex("^[!-~]+$", var.management_key)), false)
    error_message = "management_key must be 1 to 4096 printable ASCII characters without spaces or line breaks."
  }
}

variable "management_key_version" {
  type        = number
  description = "Raise it whenever `management_key` changes. Null: the KV entry is not this module's to write."
  default     = null

  validation {
    condition     = var.management_key_version == null || (try(var.management_key_version >= 1, false) && try(floor(var.management_key_version) == var.management_key_version, false))
    error_message = "management_key_version must be a whole number from 1 on, or null."
  }
}

variable "management_key_field" {
  type        = string
  description = "Field of the KV entry that holds the management key."
  default     = "management_key"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9_.-]+$", var.management_key_field))
    error_message = "management_key_field must consist of letters, digits, underscores, dots and dashes."
  }
}

variable "kv_mount" {
  type        = string
  description = "The KV version 2 engine in which the management key stands."
  default     = "secret"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", var.kv_mount))
    error_message = "kv_mount must be the path of a KV version 2 engine without slashes at the ends, such as \"secret\"."
  }
}

variable "kv_name" {
  type        = string
  description = "The entry there, without `data/`."
  default     = "aikeys/relay"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", var.kv_name)) && !startswith(var.kv_name, "data/")
    error_message = "kv_name must be the name of an entry without data/ and without slashes at the ends, such as \"aikeys/relay\"."
  }
}

variable "signing_secret" {
  type        = string
  description = "Secret with which requests are signed, where the relay asks for it. Ephemeral, as `management_key` is."
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "signing_secret_version" {
  type        = number
  description = "The same number as `management_key_version` when this module writes `signing_secret`, null otherwise."
  default     = null
}

variable "signing_secret_field" {
  type        = string
  description = "Field of the KV entry that holds the signing secret. Null with no version: requests are not signed."
  default     = null
}

variable "signing_key_id" {
  type        = string
  description = "Id of the management key, which a signature names. Empty: the relay is asked for it."
  default     = ""
  nullable    = false
}

variable "signature_version" {
  type        = string
  description = "How requests are signed."
  default     = "v2"
  nullable    = false

  validation {
    condition     = contains(["v2", "v1"], var.signature_version)
    error_message = "signature_version must be \"v2\", or \"v1\" for a relay that knows no better."
  }
}

variable "connect_timeout" {
  type        = number
  description = "Seconds to wait for a connection to the relay."
  default     = 5
  nullable    = false

  validation {
    condition     = var.connect_timeout >= 1 && var.connect_timeout <= 90 && floor(var.connect_timeout) == var.connect_timeout
    error_message = "connect_timeout must be a whole number of seconds from 1 to 90."
  }
}

variable "request_timeout" {
  type        = number
  description = "Seconds to wait for an answer of the relay."
  default     = 30
  nullable    = false

  validation {
    condition     = var.request_timeout >= 1 && var.request_timeout <= 90 && floor(var.request_timeout) == var.request_timeout
    error_message = "request_timeout must be a whole number of seconds from 1 to 90."
  }
}

variable "ca_cert" {
  type        = string
  description = "Certificates in PEM form that the relay's certificate is checked against. Empty: the system's."
  default     = ""
  nullable    = false

  validation {
    condition     = var.ca_cert == "" || strcontains(var.ca_cert, "-----BEGIN CERTIFICATE-----")
    error_message = "ca_cert must hold one or more certificates in PEM form; read them with file()."
  }
}

variable "verify_connection" {
  type        = bool
  description = "Ask the relay whether it accepts the management key whenever the config is written."
  default     = true
  nullable    = false
}
