"""``elektronn graph EXPERIMENT|MODEL [-o FILE]``: draw a network, with shapes, parameters, cost and fields of view."""

from __future__ import annotations

import argparse
import shutil
from dataclasses import asdict
from pathlib import Path

from . import DONE, USAGE
from .output import add_json, print_json, print_line, warn

ENDINGS = (".svg", ".html", ".dot", ".txt")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an experiment (file, or name in the zoo), a model file, or a run",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="a drawing as FILE.svg, a page to zoom and search as FILE.html, FILE.dot for Graphviz, or FILE.txt "
        "(default: text in the terminal)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Draw."""
    if args.output is not None and args.output.suffix.lower() not in ENDINGS:
        warn(f"--output {args.output}: a drawing is FILE{', FILE'.join(ENDINGS[:-1])} or FILE{ENDINGS[-1]}")
        return USAGE
    from elektronn_tui.models import draw_graph
    from elektronn_tui.models.drawing_facts import facts_of
    from elektronn_tui.models.drawing_text import text_of
    from elektronn_tui.training.opening import open_model

    model = open_model(args.model)
    if args.output is not None:
        draw_graph(model, args.output)
    facts = facts_of(model)
    if args.json:
        roles = {node.name: node.role for node in facts.nodes}
        nodes = [asdict(node.description) | {"role": roles[node.name], "share": node.share} for node in facts.nodes]
        print_json({"name": model.name, "params": model.param_count, "nodes": nodes})
    elif args.output is None:
        print_line(text_of(facts, shutil.get_terminal_size((80, 24)).columns))
    else:
        print_line(f"{args.output}: {len(facts.nodes)} nodes, {', '.join(facts.totals)}")
    return DONE
