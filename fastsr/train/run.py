"""The whole of `fastsr train`: pictures, network, loop, export."""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import shipped
from ..atomic import explained, write_atomically
from ..errors import FastsrError, ModelError, PictureError
from ..files import held_out
from ..importers import safetensors
from ..model import load_program
from ..program import Program
from ..views import VIEWS
from . import contours, degrade, measure, pictures, pruned, state, teacher, tuned
from .batches import Patches
from .export import TOLERANCE, difference, export, probe_picture, save_weights
from .leakage import Guard
from .loop import Pace, Trainer
from .networks import Network, registry
from .recipes import COLOURS, MAX_SCALE, Recipe
from .report import Report, duration

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

DEGRADATIONS = ("bicubic", "photo")

CHOICES = {"act": ("prelu", "relu"), "tail": ("deconv", "shuffle")}
"""Options of architectures that are words."""

SETTLING = 32
"""Patches on which a fresh network is settled."""

VALID_EDGE = 512
"""Pixels to which the middle of these is cut."""


@dataclass(frozen=True)
class Job:
    """All that one training is told. data: folder of pictures; valid: another one for measurement. init: weights to begin with (.safetensors).
    exclude: folders of pictures that must not be trained on. bf16: None for where the processor is fast with it."""

    recipe: Recipe
    scale: int
    data: Path
    out: Path
    valid: Path | None = None
    exclude: tuple[Path, ...] = ()
    init: Path | None = None
    pace: Pace = field(default_factory=Pace)
    seed: int = 0
    bf16: bool | None = None
    device: str | None = None
    threads: int | None = None
    cache: Path | None = None
    keep_cache: bool = True
    degradation: str = "bicubic"
    half: bool = False
    restart: bool = False
    quiet: bool = False
    tensorboard: bool = False
    name: str = ""
    teacher: Path | None = None
    """A network, file or name, whose pictures are learnt from instead of the photographs."""
    teacher_views: int = 1
    """Turned and mirrored ones of each picture whose mean the teacher's picture is."""
    network: Network | None = None
    """Trained on instead of one that the recipe makes; `init` then tells where it is from."""

    prune: float | None = None
    """Share of the multiply-adds that is taken from the network, which is a `Tuned`, before it is trained."""
    int8: bool = False
    """Quantise the network, which is a `Tuned`, first, and train with the rounding in place."""


@dataclass(frozen=True)
class Outcome:
    """psnr and bicubic: mean dB on the pictures for measurement. weights, program: the files written. done: False when it was interrupted."""

    done: bool
    steps: int
    psnr: float | None
    bicubic: float | None
    weights: Path | None
    program: Path | None
    signal: int = 0
    """That interrupted it."""

    @property
    def exit_code(self) -> int:
        """0 when it is done, 128 and the signal's number when it was interrupted."""
        return 0 if self.done else 128 + self.signal


def train(job: Job) -> Outcome:
    """Train, or go on with a training in the same folder, and export.

    Raises FastsrError for what cannot be trained or read, OSError for files that cannot be written.
    """
    try:
        job.out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise explained(e, f"cannot make the folder '{job.out}'") from e
    with state.alone(job.out):
        report = Report(job.out, job.quiet, job.tensorboard)
        try:
            return _train(job, report)
        finally:
            report.close()


def _train(job: Job, report: Report) -> Outcome:
    recipe = job.recipe
    if job.degradation not in DEGRADATIONS:
        raise FastsrError(f"degradation '{job.degradation}': choose {' or '.join(DEGRADATIONS)}")
    if recipe.colour not in COLOURS:
        raise FastsrError(f"colour '{recipe.colour}': choose y or rgb")
    if not 0 <= recipe.contours <= 1:
        raise FastsrError(f"contours {recipe.contours}: a share from 0 to 1 is needed")
    if not 1 <= job.teacher_views <= len(VIEWS) or (job.teacher_views > 1 and job.teacher is None):
        raise FastsrError(f"teacher_views {job.teacher_views}: 1 to {len(VIEWS)} are needed, and more than 1 only with a teacher")
    device = job.device or ("cuda" if torch.cuda.is_available() else "cpu")
    _check_device(device)
    torch.set_num_threads(job.threads or os.cpu_count() or 1)
    torch.set_deterministic_debug_mode("error" if device == "cpu" else "default")
    torch.utils.deterministic.fill_uninitialized_memory = False
    _keep_memory()
    checkpoint = job.out / "checkpoint.pt"
    saved = state.load(checkpoint) if checkpoint.exists() and not job.restart else None
    earlier = {} if saved is None else saved.get("settings", {})
    settings = _settings(job, device, earlier)
    if saved is not None:  # preparing pictures takes minutes, and which they are is known only then: `restore` compares that
        state.check_same({**settings, "pictures": earlier.get("pictures")}, saved, checkpoint)
    network = job.network if job.network is not None else make(recipe, job.scale, job.seed)
    if saved is None and job.init is not None and job.network is None:
        begin(network, job.init, recipe, report)
    if network.enlarged and min(s.patch for s in recipe.stages) <= 4:
        raise FastsrError("patches of a network that is fed enlarged pictures lose two pixels on each side: --patch 5 is the smallest, 16 a good one")
    data, valid = _pictures(job, report)
    settings["pictures"] = data.mark
    patches = Patches(list(data), job.scale, job.seed, recipe.choice)
    if saved is None and job.init is None and job.network is None:
        network.settle(measure.given(torch.from_numpy(patches.batch(0, SETTLING, recipe.stages[0].patch).small), network))
    if job.prune is not None and isinstance(network, tuned.Tuned):
        network = pruned.begin(network, job.prune, patches, job.out / pruned.FILE, saved is not None, valid, report)
    floats = None
    if job.int8 and isinstance(network, tuned.Tuned):
        floats = measure.mean_score(network, valid) if valid else None
        network = tuned.quantised(network, patches, job.threads)
    trainer = Trainer(network, recipe, patches, device, settings["bf16"], settings)
    count = sum(p.numel() for p in network.shipped().values())
    report.line(f"{recipe.arch} x{job.scale}, {recipe.colour}, {count} weights; {len(data)} pictures, {torch.get_num_threads()} threads, {device}"
                f"{', bfloat16' if settings['bf16'] and recipe.exact < 1 else ''}")  # fmt: skip
    if saved is not None:
        trainer.restore(saved, checkpoint)
        if saved.get("threads") != torch.get_num_threads() and device == "cpu":
            report.line(f"note: it was begun with {saved.get('threads')} threads, so the result will not be the same to the last bit")
        planned = int(saved["total"])
        report.line(f"going on at step {trainer.step} of {trainer.total}{f', which were {planned} before' if planned != trainer.total else ''}")
    else:
        trainer.plan(job.pace, valid)
        report.line(f"{trainer.total} steps")
    bicubic = measure.bicubic_score(valid, job.scale) if valid else None
    if isinstance(network, tuned.Tuned) and valid and not trainer.step:
        before = measure.mean_score(trainer.shadow, valid, device)
        trainer.history = [[0, 0.0, 0.0, 0.0, before]]
        rounded = f"in floats: {floats:.2f} dB; rounded to 8 bits, " if floats is not None else ""
        report.line(f"{rounded}before: {before:.2f} dB (bicubic {bicubic:.2f})")
    done = trainer.run(checkpoint, job.pace, report, valid, bicubic)
    report.plot(trainer.history, bicubic, f"{recipe.arch} x{job.scale}")
    if not done:
        report.line(f"stopped at step {trainer.step} of {trainer.total}; the same command goes on from there")
        return Outcome(False, trainer.step, None, bicubic, None, None, trainer.stopped_by)
    return _finish(job, trainer, report, bicubic, floats)


def _finish(job: Job, trainer: Trainer, report: Report, bicubic: float | None, floats: float | None) -> Outcome:
    name = job.name or f"{job.recipe.arch}_x{job.scale}"
    shadow = trainer.shadow
    if isinstance(shadow, tuned.Tuned):
        return _tuned(job, trainer, shadow, report, bicubic, floats)
    weights = job.out / f"{name}.safetensors"
    metadata = {"trained with": "fastsr", "architecture": job.recipe.arch, "scale": str(job.scale)}
    program, error, warning = export(shadow, weights, metadata=metadata)
    if warning:
        report.line(f"note: {warning}")
    if job.half:
        save_weights(shadow, job.out / f"{name}_fp16.safetensors", half=True, metadata=metadata)
    psnr = _last(trainer)
    _tell(job, trainer, {"psnr": psnr, "bicubic": bicubic, "difference to PyTorch": error})
    gained = f": {psnr:.2f} dB, bicubic has {bicubic:.2f}" if psnr is not None and bicubic is not None else ""
    report.line(f"done after {duration(trainer.seconds)}{gained}")
    report.line(f"wrote {weights} and {program} (the engine's result differs from PyTorch's by at most {error:.1g})")
    return Outcome(True, trainer.step, psnr, bicubic, weights, program)


def _tell(job: Job, trainer: Trainer, results: dict[str, Any]) -> None:
    """Write training.json: settings and results."""
    facts = {"settings": trainer.settings, "steps": trainer.step, "seconds": round(trainer.seconds, 1), **results}
    write_atomically(job.out / "training.json", json.dumps(facts, indent=1, allow_nan=False).encode())


def _last(trainer: Trainer) -> float | None:
    """The PSNR measured last; None where there was nothing to measure on."""
    psnr = trainer.history[-1][4] if trainer.history else math.nan
    return psnr if math.isfinite(psnr) else None


def _tuned(job: Job, trainer: Trainer, network: tuned.Tuned, report: Report, bicubic: float | None, floats: float | None) -> Outcome:
    program, onnx, error = tuned.save(network, job.out / (job.name or "tuned"))
    psnr = _last(trainer)
    before = trainer.history[0][4]
    started = {"before": before if math.isfinite(before) else None, "floats": floats}
    _tell(job, trainer, {**started, "psnr": psnr, "bicubic": bicubic, "difference to PyTorch": error})
    if psnr is not None and math.isfinite(before):
        had = f", the network in floats {floats:.2f}" if floats is not None else ""
        report.line(f"before {before:.2f} dB, after {psnr:.2f} dB ({psnr - before:+.2f}) on held-out pictures; bicubic has {bicubic:.2f}{had}")
    by = f"{20 * np.log10(error):.0f} dB" if network.quantised and error else f"at most {error:.1g}"
    report.line(f"wrote {program} and {onnx} (the engine's result differs from PyTorch's by {by})")
    return Outcome(True, trainer.step, psnr, bicubic, onnx, program)


# ---- parts -------------------------------------------------------------------------------------------------------------------------------------


def make(recipe: Recipe, scale: int, seed: int) -> Network:
    """A network of the recipe, drawn by the seed. Raises FastsrError for options that the architecture does not have."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    for name, value in recipe.options.items():
        if name in CHOICES and value not in CHOICES[name]:
            raise FastsrError(f"{recipe.arch}: {name}={value}: choose {' or '.join(CHOICES[name])}")
        if isinstance(value, int) and not (0 if name == "expand" else 1) <= value <= 4096:
            raise FastsrError(f"{recipe.arch}: {name}={value}: a number from 1 to 4096 is needed")
    try:
        return registry()[recipe.arch](scale, recipe.colour, **recipe.options)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as e:
        given = ", ".join(f"{k}={v}" for k, v in recipe.options.items())
        raise FastsrError(f"{recipe.arch} cannot be made with the options {given}: {' '.join(str(e).split())[:200]}") from None


def read_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The tensors in a .safetensors file, float32, and what it says of itself. Raises FastsrError, OSError."""
    try:
        data = path.read_bytes()
    except OSError as e:
        raise explained(e, f"cannot read '{path}'") from e
    if not safetensors.probe(data[:64], path):
        raise FastsrError(f"'{path}': weights to begin with are a .safetensors file that fastsr has trained; fine-tune others with fastsr finetune")
    try:
        facts = safetensors.read_header(data)[0].get("__metadata__")
        tensors = {k: torch.from_numpy(np.array(v, np.float32)) for k, v in safetensors.tensors_of(data).items()}
    except ModelError as e:
        raise FastsrError(f"'{path}' {e}") from None
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise FastsrError(f"'{path}' has numbers in '{name}' that are not finite: nothing can be trained on from there")
    return tensors, facts if isinstance(facts, dict) else {}


def weights_of(program: Program, path: Path, network: Network, recipe: Recipe) -> tuple[dict[str, torch.Tensor], int]:
    """What the .fsr file `path` of a network that `fastsr train` has written holds, named as by `shipped`, and how many times it enlarges. network:
    which is to begin with it, recipe: its own. Raises FastsrError when the tensors, in their order, do not make a network of that architecture which
    computes what the file's does."""
    found: list[np.ndarray] = []
    for step in program.steps:
        if step.weight is not None:
            found += [step.weight, *([] if step.bias is None else [step.bias])]
            found += [e.tensor.reshape(-1) for e in step.epilogue if e.op == "PRelu" and e.tensor is not None]
    scale = program.scale() * program.feed.pre_scale
    if program.feed.colour != network.colour or scale.denominator != 1 or not 2 <= scale <= MAX_SCALE:
        raise FastsrError(f"'{path}' enlarges {program.feed.colour} pictures by {float(scale):.4g}: this network takes {network.colour} ones")
    try:
        own = make(replace(recipe, options={**recipe.options, **network.options_of(found)}), int(scale), 0)
        names = own.shipped()
        if len(found) != len(names):
            raise ModelError(f"it has {len(found)} tensors, and {len(names)} are needed")
        own.adopt({k: torch.from_numpy(np.array(v, np.float32)) for k, v in zip(names, found, strict=True)})
        x = probe_picture(own)
        with torch.no_grad():
            want = own(torch.from_numpy(x)).numpy()
    except ModelError as e:
        raise FastsrError(f"'{path}': {e}; if it is one of these networks, take its .safetensors file") from None
    if not difference(program, x, want) <= TOLERANCE:
        raise FastsrError(f"'{path}' does not hold this network's weights in the order of `fastsr train`: take the .safetensors file")
    return own.shipped(), int(scale)


def begin(network: Network, path: Path, recipe: Recipe, report: Report) -> None:
    """Have the network, which is of that recipe, begin with the weights in a file that `fastsr train` has written, .safetensors or .fsr, or with
    those of a network that comes with fastsr. A plain network can begin as a smaller one, FSRCNN and hourglass as one of fewer maps. Of a network for
    another scale those layers are taken that do not depend on it. A .fsr file does not hold FSRCNN's transposed convolution as it is trained.

    Raises FastsrError when they belong to another architecture.
    """
    if not path.exists() and shipped.is_shipped(str(path)):
        scales = shipped.scales(str(path))
        alike = (s for s in scales if shipped.card(shipped.find(str(path), s))["settings"]["arch"] == recipe.arch)
        path = shipped.find(str(path), network.scale if network.scale in scales else next(alike, None))
    program = load_program(path) if path.suffix == ".fsr" else None
    weights, facts = read_weights(path) if program is None else ({}, program.meta)
    said = facts.get("architecture", recipe.arch)
    if said != recipe.arch and (program is None or said in [*registry()]):
        raise FastsrError(f"'{path}' holds weights of the architecture {said}, not of {recipe.arch}")
    theirs = str(facts.get("scale", network.scale))
    if program is not None:
        weights, scale = weights_of(program, path, network, recipe)
        theirs = str(scale)
    try:
        if theirs == str(network.scale):
            _take(network, weights, path, report)
            return
        if network.larger_than(weights) and theirs in map(str, range(2, MAX_SCALE + 1)):
            middle = make(recipe, int(theirs), 0)
            _take(middle, weights, path, report)
            weights = middle.shipped()
        weights = dict(network.parts_for(weights))
        mine = network.shipped()
        same = {k for k, v in mine.items() if k in weights and weights[k].shape == v.shape}
        if not same:
            raise FastsrError(f"'{path}' has no tensor that fits this network: it belongs to another one")
        network.adopt({k: weights[k] if k in same else v for k, v in mine.items()})
        report.line(f"begins with {len(same)} of {len(mine)} tensors of a network for x{theirs}")
    except ModelError as e:
        raise FastsrError(f"'{path}': {e}") from None


def _take(network: Network, weights: dict[str, torch.Tensor], path: Path, report: Report) -> None:
    """Begin with weights for the network's scale. Raises ModelError."""
    if network.larger_than(weights):
        network.grow(weights)
        report.line(f"begins as the smaller network in '{path}'")
    else:
        network.adopt(weights)


def _check_device(name: str) -> None:
    """Raise FastsrError for a device that there is not."""
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and name != "cpu"):
        raise FastsrError(f"device '{name}': choose cpu, cuda, cuda:1, ...")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise FastsrError(f"PyTorch finds no CUDA device '{name}' here: leave --device out")


def _keep_memory() -> None:
    """Have glibc keep the memory that it gets: the same large arrays come in each step, and getting them anew costs up to a third of the time."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            libc.mallopt(option, 1 << 30)


def _plain(value: Any) -> Any:
    """Tuples as lists, as a checkpoint gives them back."""
    return json.loads(json.dumps(value))


def _settings(job: Job, device: str, earlier: dict[str, Any]) -> dict[str, Any]:
    """All that makes a training this one, but for its pictures. earlier: the settings of the training that goes on, if one does."""
    bf16 = earlier.get("bf16") if job.bf16 is None else job.bf16
    settings = {**_plain(asdict(job.recipe)), "scale": job.scale, "seed": job.seed, "bf16": _fast_bf16(device) if bf16 is None else bool(bf16),
                "degradation": job.degradation, "init": None if job.init is None else job.init.name}  # fmt: skip
    if job.teacher is not None:
        settings["teacher"] = job.teacher.name
        if job.teacher_views > 1:
            settings["teacher_views"] = job.teacher_views
    settings.pop("steps", None)
    if not settings["contours"]:
        del settings["contours"]  # as in checkpoints of a fastsr that had none
    if job.pace.minutes is None:
        settings["total"] = job.pace.steps or job.recipe.steps
    if job.prune is not None:
        settings["prune"] = job.prune
    return settings


def _fast_bf16(device: str) -> bool:
    if device != "cpu":
        return True
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, n, lambda: False)()) for n in names)


def _pictures(job: Job, report: Report) -> tuple[pictures.Store, Sequence[pictures.Pair]]:
    cache = (job.cache or job.out / "cache") if job.keep_cache else None
    root = job.data.resolve()
    model = None if job.teacher is None else teacher.find(job.teacher, job.scale, job.recipe.colour)
    files = pictures.list_pictures(job.data, [p for p in (job.out, cache) if p is not None and root in p.resolve().parents])
    held = held_out(files, lambda path: _has_edges(path, 8 * job.scale)) if job.valid is None else []
    files = [f for f in files if f not in held]
    colour, scale = job.recipe.colour, job.scale
    make, whole, marks = pictures.maker(scale, colour), None, []
    if job.degradation == "photo":
        make = degrade.maker(scale, colour, job.seed, max(degrade.TILE, 2 * scale * job.recipe.largest))
        whole = degrade.maker(scale, colour, job.seed, None, 1)
        marks.append(f"{job.degradation} {job.seed}")
    if job.recipe.contours:
        make = contours.also_contoured(make, job.recipe.contours, job.seed, scale * job.recipe.largest)
        marks.append(f"contours {contours.VERSION} {float(job.recipe.contours)} {job.seed}")
    if model is not None:
        make = teacher.taught(make, model, scale, job.teacher_views)
        marks.append(f"teacher {teacher.mark(model)}{f' {job.teacher_views}' if job.teacher_views > 1 else ''}")
    guard = Guard([*job.exclude, *([job.valid] if job.valid is not None else [])], held)
    data = pictures.open_store(
        files, scale, colour, least=job.recipe.largest, cache=cache, refuse=guard.why_not, refuse_mark=guard.mark,
        make=make, make_mark=" ".join(marks),
        progress=lambda done, total: report.status(f"preparing picture {done} of {total}"),
    )  # fmt: skip
    for name, why in data.skipped[:5]:
        report.line(f"skipped: '{name}' {why}")
    if len(data.skipped) > 5:
        report.line(f"skipped: {len(data.skipped) - 5} more")
    if job.valid is not None:
        valid = pictures.open_store(pictures.list_pictures(job.valid), scale, colour, least=8, make=whole).pairs
    else:
        valid = [_middle(p, scale) for p in pictures.open_store(held, scale, colour, least=8, make=whole)] if held else []
    return data, [p for p in valid if p.large.min() < p.large.max()]  # others have no PSNR


def _has_edges(path: Path, least: int) -> bool:
    """Whether a picture can be read and has edges of at least so many pixels."""
    try:
        return min(pictures.read_rgb(path).shape[:2]) >= least
    except PictureError:
        return False


def _middle(p: pictures.Pair, scale: int) -> pictures.Pair:
    """The picture's middle."""
    edge = VALID_EDGE // scale
    y, x = (max(n - edge, 0) // 2 for n in p.small.shape[1:])
    small = p.small[:, y : y + edge, x : x + edge]
    return replace(p, small=small, large=p.large[:, y * scale : (y + edge) * scale, x * scale : (x + edge) * scale])
