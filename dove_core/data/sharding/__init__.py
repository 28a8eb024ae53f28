"""Turning captions and pictures into tar shards."""
