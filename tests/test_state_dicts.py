"""Which dictionary of a checkpoint is the network's, under which names, and what normalised weights come to."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch_files import Call, Global, Storages, legacy_file, zip_file

from fastsr.errors import ModelError
from fastsr.importers import pytorch

NET = ("conv.weight", "conv.bias", "body.0.weight", "body.0.bias")
JUDGE = ("conv0.weight", "conv0.bias", "linear.weight")


def numbers(mark: float, names: tuple[str, ...] = NET, size: int = 4) -> dict[str, np.ndarray]:
    """Tensors that all hold `mark`, by which a test knows them again."""
    return {name: np.full((size, 2), mark, np.float32) for name in names}


def under(prefix: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{prefix}.{k}": v for k, v in tensors.items()}


def read(root: Any) -> dict[str, np.ndarray]:
    storages = Storages()
    return pytorch.tensors_of(io.BytesIO(zip_file(storages.tree(root), storages)))


OPTIMIZER = {"state": {0: {"exp_avg": np.ones((400, 4), np.float32), "step": 3}}, "param_groups": [{"lr": 0.1, "params": [0, 1]}]}
SCALAR = np.array(1, np.float32)
ONE, TWO, BAD = numbers(1), numbers(2), numbers(9, JUDGE, 40)

CASES: dict[str, Any] = {
    "plain": ONE,
    "params": {"params": ONE},
    "params and averages": {"params": TWO, "params_ema": ONE},
    "state_dict": {"epoch": 3, "arch": "x", "state_dict": ONE, "optimizer": OPTIMIZER},
    "model": {"model": ONE, "optimizer_state": {"x": BAD}},
    "model_state_dict": {"model_state_dict": ONE, "optimizer_state_dict": OPTIMIZER, "loss": 0.1},
    "upscaler": {"upscaler": ONE, "grad_scaler": {"x": BAD}, "scaler": {"x": BAD}},
    "two levels": {"checkpoint": {"model": {"state_dict": ONE}}},
    "generator and discriminator": {"netG": ONE, "netD": BAD},
    "letters": {"g": TWO, "d": BAD, "g_ema": ONE, "g_optim": OPTIMIZER, "d_optim": OPTIMIZER},
    "states": {"g_state": ONE, "d_state": BAD},
    "several discriminators": {"netG_state_dict": ONE, "netD_A": BAD, "netD_B": BAD, "vgg": BAD},
    "averages": {"model": TWO, "ema": ONE},
    "averages deeper": {"model": TWO, "ema": {"decay": 0.99, "shadow": ONE}},
    "averages of timm": {"state_dict": TWO, "state_dict_ema": ONE},
    "hardly any averages": {"model": ONE, "ema": {"conv.bias": np.full(2, 9, np.float32)}},
    "DataParallel": under("module", ONE),
    "compiled": {"params": under("_orig_mod", under("module", ONE))},
    "lightning": {"state_dict": under("model", ONE), "hyper_parameters": {"a": 1}, "callbacks": {"x": BAD}, "optimizer_states": [OPTIMIZER]},
    "lightning gan": {"state_dict": {**under("generator", ONE), **under("discriminator", BAD)}},
    "lightning gan, other order": {"state_dict": {**under("discriminator", BAD), **under("generator", ONE)}},
    "lightning letters": {"state_dict": {**under("D", BAD), **under("G", ONE)}},
    "lightning losses": {"state_dict": {**under("net", ONE), **under("vgg_loss", BAD), **under("lpips", BAD)}},
    "losses beside layers": {**ONE, **under("perceptual_loss", BAD)},
    "lightning metrics": {"state_dict": {**under("net", ONE), "val_psnr.total": SCALAR, **under("train_lpips.net", BAD)}},
    "generator beside others": {"state_dict": {**under("generator.module", ONE), **under("feature_extractor", numbers(9, ("x.weight",), 2))}},
    "lightning averages": {"state_dict": {**under("net", TWO), **under("ema_net", ONE)}},
    "ema_pytorch": {"initted": SCALAR, "step": SCALAR, **under("online_model", TWO), **under("ema_model", ONE)},
    "AveragedModel": {"n_averaged": SCALAR, **under("module", ONE)},
    "names without dots": {**under("model", TWO), "model_ema.decay": SCALAR, **under("model_ema", {k.replace(".", ""): v for k, v in ONE.items()})},
    "counters": {**under("module", {**ONE, "body.0.total_ops": np.ones(1)}), "total_ops": np.ones(1), "total_params": np.ones(1)},
    "num_batches_tracked": {**ONE, "body.1.num_batches_tracked": np.array(3)},
    "tuple": (ONE, {"lr": 1}),
    "list": [{"epoch": 1}, {"net": ONE}],
    "layers": {layer: {kind: ONE[f"{layer}.{kind}"] for kind in ("weight", "bias")} for layer in ("conv", "body.0")},
    "buffers of preprocessing": {"mean": np.full(3, 9, np.float32), "state_dict": ONE},
    "bytes as names": {k.encode(): v for k, v in ONE.items()},
}


@pytest.mark.parametrize("case", CASES)
def test_the_network_is_found(case: str) -> None:
    value = CASES[case]
    storages = Storages()
    tree = [storages.tree(v) for v in value] if isinstance(value, (list, tuple)) else storages.tree(value)
    got = pytorch.tensors_of(io.BytesIO(zip_file(type(value)(tree), storages)))
    assert list(got) == list(NET)
    assert all((a == 1).all() for a in got.values())


def test_objects_with_weights() -> None:
    """Dictionaries of other classes, and objects that hold weights in an attribute."""
    storages = Storages()
    tree = storages.tree(ONE)
    for root in (
        Call(Global("made_up", "Dict"), (), pairs=tree),
        Call(Global("made_up", "Trainer"), (), {"model": tree, "lr": 1}, by="newobj"),
        {"ema": Call(Global("made_up", "Average"), (), {"shadow": tree}, by="newobj"), "model": storages.tree(TWO)},
    ):
        got = pytorch.tensors_of(io.BytesIO(zip_file(root, storages)))
        assert list(got) == list(NET) and all((a == 1).all() for a in got.values())


@pytest.mark.parametrize("prefix", ["", "module.", "generator.", "model.module."])
def test_a_sequence_keeps_its_name(prefix: str) -> None:
    """The layers of old ESRGAN networks are "model.0", "model.1.sub.0.RDB1.conv1.0" and so on."""
    names = ("model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight")
    assert tuple(read({prefix + k: v for k, v in numbers(1, names).items()})) == names
    assert tuple(read({f"module.{k}": v for k, v in numbers(1, ("0.weight", "2.weight")).items()})) == ("0.weight", "2.weight")


NOTHING: dict[str, tuple[Any, str]] = {
    "settings": ({"epoch": 3, "lr": 0.1}, "no named weights \\(but 'epoch', 'lr'\\)"),
    "a number": (3, "no named weights"),
    "a list of arrays": ([1, 2, 3], "no named weights"),
    "optimizer": ({"optimizer": OPTIMIZER}, "no named weights"),
    "discriminator": ({"netD": BAD}, "judges pictures"),
    "discriminator by names": ({"state_dict": under("discriminator", BAD)}, "judges pictures"),
    "empty": ({"state_dict": {}}, "no named weights"),
}


@pytest.mark.parametrize("case", NOTHING)
def test_nothing_to_run(case: str) -> None:
    root, words = NOTHING[case]
    with pytest.raises(ModelError, match=words):
        read(root)


def test_what_may_belong_to_the_network_stays() -> None:
    """An architecture that does not know it says so; without it the picture would be wrong."""
    for root in (
        {"encoder": numbers(1), "decoder": numbers(1, size=40)},
        {**under("encoder", numbers(1)), **under("generator", numbers(1, size=40))},
        {**under("model", numbers(1)), "scale": SCALAR},
        {**under("encoder", numbers(1)), **under("generator", numbers(1)), **under("discriminator", BAD)},
    ):
        got = read(root)
        assert len(got) == 8 or "scale" in got
        assert not any(k.startswith("discriminator") for k in got)


def test_only_the_weights_are_read() -> None:
    """A storage that the network does not need may be damaged."""
    storages = Storages()
    root = storages.tree({"params": ONE, "netD": BAD})
    for key, flat in storages.data.items():
        if (flat == 9).all():
            storages.data[key] = flat[:3]
    assert list(pytorch.tensors_of(io.BytesIO(zip_file(root, storages)))) == list(NET)


# ---- normalised weights ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="torch is not installed, with which normalised weights are compared")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("new", [False, True])
@pytest.mark.parametrize("kind", ["weight", "weight dim None", "weight dim 1", "spectral"])
@pytest.mark.parametrize("layer", ["Conv2d", "ConvTranspose2d", "as many in as out", "as many in as out, transposed", "one output"])
def test_normalised_weights(kind: str, layer: str, new: bool, torch: Any) -> None:
    nn = torch.nn
    torch.manual_seed(3)
    conv = {
        "Conv2d": nn.Conv2d(3, 5, 3),
        "ConvTranspose2d": nn.ConvTranspose2d(3, 5, 4, stride=2),
        "as many in as out": nn.Conv2d(8, 8, 3),
        "as many in as out, transposed": nn.ConvTranspose2d(8, 8, 3),
        "one output": nn.Conv2d(1, 1, 3),
    }[layer]
    old_norm, new_norm = nn.utils.weight_norm, nn.utils.parametrizations.weight_norm
    if kind == "spectral":
        conv = (nn.utils.parametrizations.spectral_norm if new else nn.utils.spectral_norm)(conv)
        for _ in range(3):
            conv(torch.rand(1, conv.in_channels, 9, 9))
        conv.eval()
    else:
        dim = {"weight": 0, "weight dim None": None, "weight dim 1": 1}[kind]
        conv = new_norm(conv, dim=dim) if new else old_norm(conv, dim=dim)
    net = nn.Sequential(conv, nn.PReLU()).eval()
    net(torch.rand(1, conv.in_channels, 9, 9))
    expected = conv.weight.detach().numpy()
    out = io.BytesIO()
    torch.save(net.state_dict(), out)
    got = pytorch.tensors_of(out)
    assert set(got) == {"0.weight", "0.bias", "1.weight"}
    np.testing.assert_allclose(got["0.weight"], expected, rtol=2e-6, atol=1e-7)


DAMAGED: dict[str, dict[str, Any]] = {
    "no v": {"a.weight_g": np.ones((2, 1), np.float32)},
    "no g": {"a.weight_v": np.ones((2, 1), np.float32)},
    "shapes": {"a.weight_g": np.ones((3, 1), np.float32), "a.weight_v": np.ones((2, 4), np.float32)},
    "axes": {"a.weight_g": np.ones(2, np.float32), "a.weight_v": np.ones((2, 4), np.float32)},
    "zero": {"a.weight_g": np.ones((2, 1), np.float32), "a.weight_v": np.zeros((2, 4), np.float32)},
    "no u": {"a.weight_orig": np.ones((2, 4), np.float32)},
    "u": {"a.weight_orig": np.ones((2, 4), np.float32), "a.weight_u": np.ones(3, np.float32)},
    "v": {"a.weight_orig": np.ones((2, 4), np.float32), "a.weight_u": np.ones(2, np.float32), "a.weight_v": np.ones(3, np.float32)},
    "norm": {"a.weight_orig": np.ones((2, 4), np.float32), "a.weight_u": np.zeros(2, np.float32), "a.weight_v": np.ones(4, np.float32)},
    "overflow": {
        "a.weight_orig": np.full((2, 4), 1e38, np.float32),
        "a.weight_u": np.full(2, 1e-38, np.float32),
        "a.weight_v": np.full(4, 1e-38, np.float32),
    },
    "integers": {"a.weight_orig": np.ones((2, 4), np.int64), "a.weight_u": np.zeros(2, np.int64)},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_normalised_weights(case: str) -> None:
    with pytest.raises(ModelError, match=r"normalised weight 'a\.weight'"):
        read(DAMAGED[case])


def test_through_the_architectures(shared: Path, tmp_path: Path) -> None:
    """One real network in all forms and wrappings: the same graph."""
    from fastsr.importers import load_graph, safetensors

    path = shared / "models" / "torch" / "realesr-animevideov3.safetensors"
    weights = safetensors.tensors_of(path.read_bytes())
    expected = load_graph(path)
    small = {f"module.{k}": v for k, v in weights.items()}
    for k, (form, root) in enumerate([(zip_file, {"params_ema": weights}), (legacy_file, small), (zip_file, {"state_dict": under("net_g", small)})]):
        storages = Storages()
        other = tmp_path / f"model{k}.pth"
        other.write_bytes(form(storages.tree(root), storages))
        graph = load_graph(other)
        assert [(n.op, n.attrs) for n in graph.nodes] == [(n.op, n.attrs) for n in expected.nodes] and graph.feed == expected.feed
        assert all(np.array_equal(graph.constants[c], expected.constants[c]) for c in expected.constants)
        assert graph.meta["source"] == other.name


BOMBS = """
import sys
sys.path[:0] = [{tests!r}]
import numpy as np
from limits import peak_megabytes
from fastsr.importers import state_dict
wide, one = np.broadcast_to(np.float32(0.5), (4000, 4000)), np.float32(1)
before = peak_megabytes()
for parts in ({{"g": np.full((4000, 1), one), "v": wide}}, {{"orig": wide, "u": np.full(4000, one)}}):
    assert np.isfinite(state_dict.combined(parts)).all()
    del parts
assert np.isfinite(state_dict.combined({{"orig": wide.reshape(-1, 1), "u": np.full(16_000_000, one)}})).all()
print(peak_megabytes() - before)
"""


def test_normalised_weights_are_computed_in_parts() -> None:
    """64 MB of weights that a small file can ask for, in a process of its own: no copies in double precision are made."""
    code = BOMBS.format(tests=str(Path(__file__).parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 280, "two weights of 64 MB, the vector u, and what is made of one"
