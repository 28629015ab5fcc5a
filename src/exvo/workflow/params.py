"""Values as the ``params`` of a rule carry them, so that a job runs again exactly when one of them changes.

Snakemake 9.27 compares the ``repr`` of each parameter with those of the last run, as an unordered set. Therefore:

- The keys of a mapping are sorted, because another order is another ``repr``.
- All settings of a rule are in one mapping: two parameters that exchange their values would go unnoticed. Mappings with
  different keys, a digest and a number can be told apart in the set.
- A mapping is left alone, but Snakemake fills in wildcards in a text, or a list of texts, that no function returns.
"""

import json
from typing import Any


def as_param(value: Any) -> Any:  # noqa: ANN401 - a config value is of any type
    """Return a value in plain JSON types, with sorted keys in all mappings.

    Raises
    ------
    ValueError
        For NaN and infinity.
    TypeError
        For a value that is none of JSON.
    """
    return json.loads(json.dumps(value, sort_keys=True, allow_nan=False))
