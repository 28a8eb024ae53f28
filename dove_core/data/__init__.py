"""From a dataset release to batches."""
