"""Turning captions and images into tar shards."""
