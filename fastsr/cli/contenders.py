"""The models that `fastsr eval` and `fastsr compare` are given, each loaded at the scales at which it is measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import shipped
from ..baselines import is_baseline
from ..errors import FastsrError
from .common import UsageError, check_model_name, is_shipped, label_of

if TYPE_CHECKING:
    from ..evaluation import Contender
    from ..model import Model
    from ..program import Program


def contenders(args: argparse.Namespace, names: Sequence[str], scales: Sequence[int]) -> list[Contender]:
    """Small scales first, of one scale in the order of `names`; args holds the options of the engine and --feed.

    scales: wanted ones, or none. Filters are taken at all of them, else at those of the other models, else at 2; networks that keep the size of
    enlarged pictures, and weights for several scales, at all of them, else at the one they have; those that come with fastsr at all of them for
    which there is one, else as `fastsr.load` takes them; of others they must have theirs. "bicubic" is the literature's.
    Raises FastsrError and what `fastsr.load` raises.
    """
    from ..evaluation import bicubic, contender
    from ..model import Model, fed, load_program

    def ready(program: Program) -> Model:
        return Model(program, args.backend, args.precision, args.threads, args.tile or None, args.device)

    def network(label: str, model: Model) -> Contender:
        return contender(label + "+" * (args.views > 1), model, views=args.views)

    if scales and min(scales) < 2:
        raise UsageError("--scale needs numbers of at least 2")
    for name in names:
        check_model_name(name)
    names = list(dict.fromkeys(names))
    labels = [label_of(name) for name in names]
    labels = [label if labels.count(label) == 1 else name for label, name in zip(labels, names)]
    found: dict[str, list[Contender]] = {}
    for label, name in zip(labels, names):
        if _is_filter(name):
            continue
        if is_shipped(name) and (there := [s for s in scales if s in shipped.scales(name)]):
            found[label] = [network(label, ready(load_program(name, s, dict(args.feed)))) for s in there]
            continue
        program = load_program(name, feed=dict(args.feed))
        model = ready(program)
        if scales and "scales" in program.meta:
            found[label] = [network(label, ready(load_program(name, scale, dict(args.feed)))) for scale in scales]
        elif scales and (program.feed.pre_scale > 1 or program.scale() == 1):
            found[label] = [network(label, ready(fed(program, {}, scale))) for scale in scales]
        elif scales and model.scale not in scales:
            wanted = " ".join(map(str, scales))
            raise FastsrError(f"'{name}' enlarges by {model.scale}, which --scale {wanted} leaves out: drop the model or --scale")
        else:
            found[label] = [network(label, model)]
    every = sorted({*scales, *(c.scale for models in found.values() for c in models)}) or [2]
    for label, name in zip(labels, names):
        if label not in found:
            found[label] = [bicubic(s) if name == "bicubic" else contender(label, ready(load_program(name, s)), filter=True) for s in every]
    return [c for s in every for label in labels for c in found[label] if c.scale == s]


def _is_filter(name: str) -> bool:
    return is_baseline(name) and not Path(name).exists()
