"""Random batches for as long as one likes: ``python -m dpo_collate.testing``."""
