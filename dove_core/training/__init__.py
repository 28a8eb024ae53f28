"""From shards to a checkpoint."""
