"""Losses: from a recipe to a function of embeddings (or logits) and labels."""
