"""Damaged weights of every architecture: a ModelError or a Graph that is well formed, never another exception, and soon."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import numpy as np
import pytest
import test_archs_carn
import test_archs_cunet
import test_archs_dense
import test_archs_ecbsr
import test_archs_hourglass
import test_archs_imdn
import test_archs_lapsrn
import test_archs_others
import test_archs_plksr
import test_archs_rcan
import test_archs_rdn
import test_archs_rfdn
import test_archs_span
from torch_check import seeded, tensors_of

from fastsr import archs
from fastsr.archs.weights import Weights
from fastsr.errors import ModelError

NETWORKS = {
    "RCAN": (test_archs_rcan.Edsr, 8, 4, 2, 2, 2),
    "RCAN of BasicSR": (test_archs_rcan.Basic, 8, 4, 2, 2, 2, 255),
    "CARN": (test_archs_carn.Carn, 8, 2),
    "CARN-M": (test_archs_carn.Carn, 8, 2, False, 4),
    "IMDN": (test_archs_imdn.Imdn, 16, 3, 2),
    "IMDN_AS": (test_archs_imdn.Imdn, 16, 3, 4, 3, True),
    "RDN": (test_archs_rdn.Yjn, 2, 3, 8, 8, 2, 3),
    "LapSRN": (test_archs_lapsrn.Twtygqyy, 8, 2, 2),
    "RFDN": (test_archs_rfdn.Rfdn, 8, 2, 2),
    "RLFN": (test_archs_rfdn.Rlfn, 8, 8, 4, 2, 2),
    "SPAN": (test_archs_span.Span, 8, 2, 255),
    "PAN": (test_archs_span.Pan, 8, 6, 2, 2),
    "CUNet": (test_archs_cunet.Cunet, 2),
    "vgg_7": (test_archs_cunet.Chain, False, 1),
    "MDSR": (test_archs_others.Mdsr, 8, 2, (2, 3), 2),
    "DRRN": (test_archs_others.Drrn, 8, 9, 1),
    "DBPN": (test_archs_dense.Dbpn, 6, 3, 2),
    "D-DBPN": (test_archs_dense.Ddbpn, 8, 4, 3, 2),
    "MSRN": (test_archs_dense.Msrn, 6, 2, 2, 255),
    "SRDenseNet": (test_archs_dense.SrDenseNet, 3, 2, 2, 1),
    "BSRN": (test_archs_rfdn.Bsrn, 8, 2, 2, "u"),
    "ECBSR": (test_archs_ecbsr.Ecbsr, 6, 2, 2, "prelu", True),
    "hourglass": (test_archs_hourglass.Hourglass, 1, 8, 4, 2, 2),
    "RealPLKSR": (test_archs_plksr.Plksr, 8, 4, 5, 2, 2),
}


def damaged(tensors: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """One tensor away, of another shape, scalar, of integers, under another's name, or cut."""
    rng = np.random.default_rng(seed)
    out = dict(tensors)
    name, other = rng.choice(list(out), 2)
    t = out[name]
    kind = seed % 8
    if kind == 0:
        del out[name]
    elif kind == 1:
        out[name] = np.ones(tuple(rng.integers(1, 6, t.ndim)), np.float32)
    elif kind == 2:
        out[name] = np.float32(1).reshape(())
    elif kind == 3:
        out[name] = t.reshape(-1)
    elif kind == 4:
        out[name], out[other] = out[other], out[name]
    elif kind == 5:
        out[name] = t[: max(1, len(t) // 2)] if t.ndim else t
    elif kind == 6:
        out[name] = np.zeros(t.shape[::-1], np.int64)
    else:
        out[name] = np.ones((1, 1, 1, 1), np.float32)
    return out


@pytest.mark.parametrize("network", NETWORKS)
def test_damaged(network):
    make, *args = NETWORKS[network]
    tensors = tensors_of(seeded(make, *args))
    start, messages = time.monotonic(), []
    for seed in range(32):
        try:
            graph = archs.graph_of(damaged(tensors, seed), Path("net_x2.pth"))
        except ModelError as e:
            messages.append(str(e))
        else:
            graph.validate()
    assert len(messages) > 10
    assert max(map(len, messages)) < 1500
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("network", NETWORKS)
def test_recognition_of_tiny_parts(network):
    """No architecture's detect falls over the first few tensors of another."""
    make, *args = NETWORKS[network]
    tensors = tensors_of(seeded(make, *args))
    for n in (1, 2, 3, 5, 8):
        w = Weights(dict(list(tensors.items())[:n]))
        for arch in archs.ARCHS:
            assert arch.detect(w) in (True, False)


def test_absurd_sizes():
    """What would need absurd memory is refused before it is made."""
    span = tensors_of(seeded(test_archs_span.Span, 8, 2, 255))
    wide = {f"block_1.c1_r.conv.{k}.weight": shape for k, shape in enumerate(((1, 60000, 1, 1), (1, 1, 3, 3), (60000, 1, 1, 1)))}
    rcan = tensors_of(seeded(test_archs_rcan.Yjn, 8, 4, 1, 1, 2))
    plksr = tensors_of(seeded(test_archs_plksr.Plksr, 8, 4, 5, 2, 2))
    ecbsr = tensors_of(seeded(test_archs_ecbsr.Ecbsr, 6, 2, 2, "relu", False))
    for tensors, shapes in (
        (span, wide),
        (rcan, {"sf.weight": (8, 40000, 3, 3)}),
        (rcan, {f"upscale.{k}.weight": (32, 8, 3, 3) for k in range(24)}),
        (plksr, {"feats.1.channel_mixer.2.weight": (1, 16, 3, 3), "feats.1.refine.weight": (60000, 1, 1, 1), "feats.1.norm.weight": (60000,)}),
        (ecbsr, {"backbone.1.conv1x1_3x3.k0": (1, 60000, 1, 1), "backbone.1.conv1x1_3x3.k1": (60000, 1, 3, 3)}),
    ):
        start = time.monotonic()
        with contextlib.suppress(ModelError):
            archs.graph_of(tensors | {n: np.zeros(shape, np.float32) for n, shape in shapes.items()}, Path("net.pth")).validate()
        assert time.monotonic() - start < 10
