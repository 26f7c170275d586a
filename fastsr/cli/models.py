"""`fastsr models`: the networks that come with fastsr, what they cost and how near they come to the originals."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import shipped
from .common import Progress, add_command, add_engine_options, positive, table, thousands

if TYPE_CHECKING:
    from ..model import Model

EXAMPLES = """\
  fastsr models
  fastsr models --measure          how fast they are on this machine
  fastsr models --cards            how each was trained, on which pictures, under which licence
  fastsr models --json             everything, with the paths of the files
  fastsr models --markdown         docs/models.md
"""

SETS = ("Set5", "Set14", "BSD100")
PICTURE = (540, 960)
RUNS = 5

HEAD = """\
# Networks that come with fastsr

Written by `fastsr models --markdown` from the model cards in `fastsr/weights`.

```python
model = fastsr.load("balanced", scale=2)       # or fastsr.load("balanced_x2"); a file of that name comes first
```
```
fastsr upscale photo.jpg                       written beside it as photo_x2.png
fastsr upscale photo.jpg large.png -m fast -s 3
fastsr convert fast fast_x4.onnx -s 4
```
Where no network is named, `fastsr upscale` takes the first of these that there is for the scale: {order}.
`fastsr models --json` says where the files are. They are ordinary [.fsr](fsr.md) files with weights of 16 bits, so they serve the
[C interface](c-api.md) and `cv2.dnn_superres`'s class in its [drop-in](drop-in.md) as well.
"""

NONE = "No network comes with this version."

EXPLAINED = """\
PSNR and SSIM are those of `fastsr eval` ([metrics.md](metrics.md)), means over the data set; multiply-adds those of the convolutions for each pixel
of the result. What networks of luma are given and make is not rounded to 8 bits (`fine` in [formats.md](formats.md#how-pictures-are-fed)).
A command that begins with the network's own file, `--init NAME_xN.fsr`, takes what the command before it made, shipped in 16 bits.
`--init NAME` and `--teacher NAME` are the network of that name that was shipped at that time.
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "models", run, "list the networks that come with fastsr: quality, size, speed, how they were trained", EXAMPLES)
    p.add_argument("--measure", action="store_true", help="milliseconds on this machine for each megapixel of the result, of a picture of 960x540")
    p.add_argument("--runs", type=positive, default=RUNS, metavar="N", help=f"runs of each, of which the median counts (default {RUNS})")
    p.add_argument("--cards", action="store_true", help="the whole model cards")
    p.add_argument("--json", action="store_true", help="the same as JSON, with the cards")
    p.add_argument("--markdown", action="store_true", help="as the page docs/models.md")
    add_engine_options(p)


def run(args: argparse.Namespace) -> int:
    """Print the list."""
    if args.markdown:
        print(markdown(rows()), end="")
        return 0
    found = rows()
    if args.measure:
        measure(found, args)
    if args.json:
        print(json.dumps(found, indent=2))
    elif not found:
        print("no network comes with this installation of fastsr")
    elif args.cards:
        print("\n\n".join(card_text(row) for row in found))
    else:
        print(as_text(found))
    return 0


def rows() -> list[dict[str, Any]]:
    """A row of plain JSON values for each network: name, scale, path, bytes, and the card. Raises ModelError for a card that cannot be read."""
    return [
        {"name": name, "scale": scale, "path": str(path), "bytes": path.stat().st_size, "card": shipped.card(path)}
        for (name, scale), path in shipped.files().items()
    ]


def measure(found: list[dict[str, Any]], args: argparse.Namespace) -> None:
    """Fill "ms" of a picture of 960x540 and "ms_per_megapixel" of the result into the rows; the networks take turns."""
    import numpy as np

    import fastsr

    from .timing import interleaved, summary

    if not found:
        return
    picture = np.random.default_rng(0).integers(0, 256, (*PICTURE, 3)).astype(np.uint8)

    def call(model: Model) -> Any:
        return lambda: model.upscale(picture)

    models = [fastsr.load(row["path"], args.backend, args.precision, args.threads, args.tile or None, device=args.device) for row in found]
    bar = Progress(args.runs)
    try:
        bar.start("measuring", 0)
        seconds = interleaved({row["path"]: call(model) for row, model in zip(found, models)}, args.runs, bar.show)
    finally:
        bar.close()
    for row, model in zip(found, models):
        ms = summary(seconds[row["path"]])["median_ms"]
        row["ms"] = ms
        row["ms_per_megapixel"] = round(ms / (PICTURE[0] * PICTURE[1] * row["scale"] ** 2 / 1e6), 3)
        row["engine"] = model.describe()


# ---- shown -------------------------------------------------------------------------------------------------------------------------------------


def psnr(card: dict[str, Any], data: str) -> str:
    """dB as papers print it; - where it was not measured."""
    value = _score(card, data).get("psnr")
    return f"{value:.2f}" if isinstance(value, (int, float)) else "-"


def _score(card: dict[str, Any], data: str) -> dict[str, Any]:
    sets = card.get("evaluation", {}).get("sets", {})
    return dict(sets.get(data, {}))


def count(card: dict[str, Any], key: str) -> str:
    """A number of the card for people."""
    value = card.get(key)
    return thousands(value) if isinstance(value, (int, float)) else "-"


def kilobytes(n: int) -> str:
    """A file's size."""
    return f"{n / 1000:.0f} kB"


def as_text(found: list[dict[str, Any]]) -> str:
    """The table."""
    timed = "ms_per_megapixel" in found[0]
    lines = [["name", "scale", "parameters", "mult-adds/pixel", *SETS, *(["ms/megapixel"] if timed else []), "size"]]
    for row in found:
        card = row["card"]
        times = [f"{row['ms_per_megapixel']:.3g}"] if timed else []
        quality = [psnr(card, s) for s in SETS]
        lines.append(
            [row["name"], f"x{row['scale']}", count(card, "parameters"), count(card, "multiply_adds"), *quality, *times, kilobytes(row["bytes"])]
        )
    width = max(len(line[-1]) for line in lines)
    text = table([[*line[:-1], line[-1].rjust(width)] for line in lines])
    text += "\n\nPSNR in dB; mult-adds: of the convolutions, for each pixel of the result"
    if timed:
        text += f"; ms: for each megapixel of the result of a picture of {PICTURE[1]}x{PICTURE[0]}, {found[0]['engine']}"
    return f"{text}\nfastsr.load(name, scale=), -m NAME -s SCALE; docs/models.md and --cards say how they were trained"


def card_text(row: dict[str, Any]) -> str:
    """A card as indented lines."""
    lines = [f"{row['name']} x{row['scale']}", f"  file: {row['path']}, {row['bytes']} bytes"]
    for key, value in row["card"].items():
        if key not in ("name", "scale"):
            lines += _lines(key, value, 1)
    return "\n".join(lines)


def _lines(key: str, value: Any, depth: int) -> list[str]:
    lead = "  " * depth
    if isinstance(value, dict) and value and any(isinstance(v, dict) for v in value.values()):
        return [f"{lead}{key}:", *(line for k, v in value.items() for line in _lines(k, v, depth + 1))]
    if isinstance(value, dict):
        return [f"{lead}{key}: {', '.join(f'{k} {_plain(v)}' for k, v in value.items())}"]
    return [f"{lead}{key}: {_plain(value)}"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def markdown(found: list[dict[str, Any]]) -> str:
    """The page."""
    lines = [HEAD.format(order=", ".join(shipped.PREFERENCE))]
    if not found:
        return "\n".join([*lines, NONE, ""])
    heads = ["name", "scale", "parameters", "multiply-adds", *(f"{s} PSNR / SSIM" for s in SETS), "size"]
    lines += [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row in found:
        card = row["card"]
        scores = [f"{psnr(card, s)} / {_ssim(card, s)}" for s in SETS]
        cells = [f"`{row['name']}`", f"x{row['scale']}", count(card, "parameters"), count(card, "multiply_adds"), *scores, kilobytes(row["bytes"])]
        lines.append(f"| {' | '.join(cells)} |")
    for scale, scores in _bicubic(found):
        lines.append(f"| bicubic | x{scale} | - | - | {' | '.join(scores)} | - |")
    lines += ["", EXPLAINED]
    for row in found:
        lines += _section(row)
    return "\n".join(lines)


def _ssim(card: dict[str, Any], data: str) -> str:
    value = _score(card, data).get("ssim")
    return f"{value:.4f}" if isinstance(value, (int, float)) else "-"


def _bicubic(found: list[dict[str, Any]]) -> list[tuple[int, list[str]]]:
    """What the filter has, which every card says for its scale."""
    result = []
    for scale in sorted({row["scale"] for row in found}):
        card = next(row["card"] for row in found if row["scale"] == scale)
        cards = {"evaluation": {"sets": card.get("evaluation", {}).get("bicubic", {})}}
        result.append((scale, [f"{psnr(cards, s)} / {_ssim(cards, s)}" for s in SETS]))
    return result


def _section(row: dict[str, Any]) -> list[str]:
    card = row["card"]
    data = card.get("data", {})
    facts = [
        ("architecture", card.get("architecture")),
        ("trained", f"{card.get('steps')} steps, seed {card.get('seed')}, {card.get('date')}"),
        ("command", f"`{card.get('command')}`"),
        ("pictures", f"{data.get('what')}; {data.get('licence')}"),
        ("licence of the weights", card.get("licence")),
        ("SHA-256", f"`{card.get('sha256')}`"),
    ]
    return [f"## {Path(row['path']).stem}", *(f"- {key}: {value}" for key, value in facts), ""]
