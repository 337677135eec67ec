"""Policies and AppRoles as files: read them strictly, judge them as the servers do, compare them with a live Vault."""
