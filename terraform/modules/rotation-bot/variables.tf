variable "mount" {
  type        = string
  description = "Where the engine is mounted: the output `path` of the module `engine`."
  default     = "ai-keys"
  nullable    = false

  validation {
    condition     = can(regex("^[^/\\s](.*[^/\\s])?$", var.mount))
    error_message = "mount must be the engine's path without slashes at the ends, such as \"ai-keys\"."
  }
}

variable "name" {
  type        = string
  description = "Name of the bot's roles in the auth methods."
  default     = "rotation-bot"
  nullable    = false
}

variable "policy_name" {
  type        = string
  description = "Name of the bot's policy."
  default     = "rotation-bot"
  nullable    = false
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
  description = "The entry there, without `data/`. Null: the bot does not rotate the management key."
  default     = "aikeys/relay"

  validation {
    condition     = var.kv_name == null || try(can(regex("^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$", var.kv_name)) && !startswith(var.kv_name, "data/"), false)
    error_message = "kv_name must be the name of one entry without data/, * and slashes at the ends, such as \"aikeys/relay\"."
  }
}

variable "apps" {
  type        = list(string)
  description = "AppRoles whose secret ids the bot hands out and takes away, by name."
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for app in var.apps : can(regex("^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$", app))])
    error_message = "apps must be names of AppRoles, one to an element and without *."
  }
  validation {
    condition     = !contains(var.apps, var.name)
    error_message = "apps must not hold the bot itself: it could make itself a login without an end."
  }
}

variable "apps_mount" {
  type        = string
  description = "Where the AppRole method of the apps is enabled."
  default     = "approle"
  nullable    = false
}

variable "approle" {
  type        = any
  description = "An AppRole for the bot: see the module `login`. Null: none."
  default     = null
}

variable "kubernetes" {
  type        = any
  description = "A Kubernetes role for the bot: see the module `login`. Null: none."
  default     = null
}

variable "jwt" {
  type        = any
  description = "A JWT role for the bot: see the module `login`. Null: none."
  default     = null
}
