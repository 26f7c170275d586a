"""Transformers, whose attention between pixels fastsr cannot compute: recognised to say so."""

from __future__ import annotations

from ..errors import ModelError
from ..graph import Graph
from .weights import Weights

NAME = "a transformer"
PAPER = "Liang et al., SwinIR, ICCV Workshops 2021, and its successors"
FED = "not at all"

REFUSES = True
"""What is recognised here is of no other architecture either."""

SIGNS = {
    "ATD": (r".*\.attn_atd\..*",),
    "HAT": (r".*\.overlap_attn\.qkv\.weight",),
    "Swin2SR": (r".*\.attn\.logit_scale", r".*\.cpb_mlp\..*"),
    "DRCT": (r"layers\.\d+\.swin1\..*",),
    "RGT": (r"layers\.\d+\.blocks\.\d+\.gamma", r".*\.attn\.attns\.\d+\..*"),
    "DAT": (r".*\.attn\.attns\.\d+\..*",),
    "Omni-SR": (r"residual_layer\.0\.residual_layer\.0\.layer\.\d+\.fn\..*",),
    "SRFormer": (r".*\.attn\.aligned_relative_position_index",),
    "SwinIR": (r"layers\.\d+\.residual_group\.blocks\.\d+\.attn\.qkv\.weight",),
    "Restormer": (r".*\.attn\.qkv_dwconv\.weight", r".*\.attn\.temperature"),
    "IPT": (r"body\.encoder\.layers\.\d+\.self_attn\..*",),
    "a Swin transformer": (r".*relative_position_bias_table",),
    "a vision transformer": (r".*(self_attn\.in_proj_weight|attn\.qkv\.weight|attn\.to_qkv\.weight)",),
}
"""Architecture -> names of which all are among its weights."""


def detect(w: Weights) -> bool:
    """By the names of attention between pixels."""
    return _which(w) is not None


def build(w: Weights) -> Graph:
    """Always a ModelError that names the architecture."""
    raise ModelError(
        f"weights of {_which(w)}, a network that compares pixels with each other (attention): fastsr runs networks of convolutions, such as "
        "Real-ESRGAN, SPAN or RCAN"
    )


def _which(w: Weights) -> str | None:
    return next((name for name, patterns in SIGNS.items() if all(w.has(p) for p in patterns)), None)
