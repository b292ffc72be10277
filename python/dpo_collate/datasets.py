"""Hugging Face data sets as Arrow tables, and the lengths of samples: no token becomes a Python object.

``ArrowRows`` stands between a ``datasets.Dataset`` and a ``DataLoader``, which then hands the collator a table of the
rows of a batch in place of a list of dicts. ``lengths`` says how many tokens the rows of each sample have, for samplers
that put samples of like lengths together. ``docs/data.md`` has examples.

Neither torch nor datasets nor pyarrow is imported here: what is needed of them comes with the data.
"""

from ._arrow_rows import ArrowBatch, ArrowRows
from ._lengths import lengths

__all__ = ["ArrowBatch", "ArrowRows", "lengths"]
