"""What batches will be made of, before anybody trains: padding, bytes, what ``max_length`` cuts, what would be better.

``inspect`` computes it from lengths alone; ``terminal.show`` prints it, ``html.write`` writes a page that works
offline, ``plots.save`` writes images. matplotlib and rich are imported only by those that need them.

Example:
    >>> import pyarrow as pa
    >>> from dpo_collate.datasets import lengths
    >>> from dpo_collate.inspection import inspect
    >>> table = pa.table({"prompt_ids": [[1], [2, 3]], "chosen_ids": [[4, 5], [6]], "rejected_ids": [[7], []]})
    >>> from dpo_collate import PreferenceCollator
    >>> collator = PreferenceCollator("concatenated", inputs="split", pad_token_id=0)
    >>> found = inspect(lengths(table, collator), collator, batch_size=2)
    >>> found.choice(way="shuffled").padded, round(found.choice(way="shuffled").share, 2)
    (12, 0.17)
"""

from .figures import WAYS, Advice, BucketList, Choice, Cut, Distribution, Inspection, Least, Memory
from .inspecting import inspect

__all__ = [
    "WAYS",
    "Advice",
    "BucketList",
    "Choice",
    "Cut",
    "Distribution",
    "Inspection",
    "Least",
    "Memory",
    "inspect",
]
