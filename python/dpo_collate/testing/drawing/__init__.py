"""What Hypothesis draws: layouts, collators, batches, tables, and every kind of object."""
