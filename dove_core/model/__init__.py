"""From pixels and words to embeddings and scores."""
