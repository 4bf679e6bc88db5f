"""The ablation that an override of post-processing carries, so that it gets into the record of each run with it."""

import hashlib
import json
from typing import Any

#: Its id in the config
ABLATION = "ablation"


def digest_steps(steps: Any) -> str:
    """Return a digest of the steps of post-processing in a config.

    Example:
        >>> digest_steps([{"_target_": "A", "_desc_": "why"}]) == digest_steps([{"_target_": "A"}])
        True
    """
    kept = [{key: value for key, value in step.items() if key != "_desc_"} for step in steps or []]
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()[:16]
