"""Calls one address of a user's for a migration's hook: the process in an HTTP hook's pod."""
