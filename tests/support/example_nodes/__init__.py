"""Small graphs for every class of node; tests/models/test_every_node.py holds all of them to the same rules."""

from __future__ import annotations

from . import continuous_losses, foreign, layers, losses, recurrent, various
from .example import NodeExample

__all__ = ["EXAMPLES", "NodeExample"]

EXAMPLES: dict[str, NodeExample] = {
    **continuous_losses.EXAMPLES,
    **foreign.EXAMPLES,
    **layers.EXAMPLES,
    **losses.EXAMPLES,
    **recurrent.EXAMPLES,
    **various.EXAMPLES,
}
