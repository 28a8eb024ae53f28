"""Bringing a release: one verified file after another."""
