"""A lineage as a person reads it: a tree, one thing a line, and what is gone in so many words."""

import io

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from genloom_platform.models.lineage import Node

DIGITS = 12
"""As many of a digest as tell it from others."""
WIDTH = 96
"""Of plain text."""
SHORT = ("weights", "digest", "tracking")


def tree(node: Node) -> Tree:
    """A node and what it was made from, for a terminal."""
    return _grow(node, None)


def text(node: Node) -> str:
    """The same as plain text."""
    buffer = io.StringIO()
    Console(file=buffer, width=WIDTH, no_color=True, highlight=False).print(tree(node))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines())


def _grow(node: Node, above: Tree | None) -> Tree:
    label = Text.assemble((f"{node.kind} ", "dim"), (node.name, "bold"))
    if node.gone:
        label.append(f"  gone: {node.gone}", "yellow")
    for name, value in node.facts.items():
        shown = value[:DIGITS] if name in SHORT else value[:19] if _is_time(value) else value
        label.append(f"  {name} {shown}", "dim")
    grown = above.add(label) if above else Tree(label)
    for origin in node.origins:
        _grow(origin, grown)
    return grown


def _is_time(value: str) -> bool:
    return value[4:5] == "-" and value[10:11] == "T"
