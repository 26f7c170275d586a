"""Does fastsr give the pictures that cv2.dnn_superres gives? Every model of tests/cases.py on whole picture sets, against one or more OpenCV wheels.

    python benchmarks/agreement.py                                     the installed OpenCV
    python benchmarks/agreement.py --wheel . --wheel /path/to/cv2-4.14 the installed one (.), then one unpacked with pip install --target
    python benchmarks/agreement.py --sets Set5 --models ESPCN_x2 --json agreement.json

Pictures are fed as they are in the files (8-bit BGR). OpenCV holds whole feature maps in memory, and LapSRN's grow with the output: for it, pictures
with more than --limit million output pixels are cut to their middle for both sides; the table says how many. Exit code 1 when a pixel differs by more
than one grey level or fewer than 99.9 % of a model's pixels are equal (a pixel is equal when all of its channels are).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

SETS = ("Set5", "Set14", "photo")
ODD = ((1, 1), (1, 9), (9, 1), (7, 5), (17, 31))


def arguments() -> argparse.Namespace:
    """The command line."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("FASTSR_SHARED") or ROOT.parent / "shared"), help="folder with models/, images/, photos/"
    )
    p.add_argument("--wheel", action="append", help="folder to import cv2 from, '.' for the installed one; may be repeated")
    p.add_argument("--models", nargs="*", help="names of models (all)")
    p.add_argument("--sets", nargs="*", choices=SETS, default=list(SETS))
    p.add_argument("--limit", type=float, default=9.0, metavar="MPIXEL", help="LapSRN's output pixels, in millions, above which a picture is cut (9)")
    p.add_argument("--json", type=Path, help="write all figures to this file")
    p.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return p.parse_args()


def pictures(shared: Path, sets: list[str]) -> Iterator[tuple[str, str, Any]]:
    """(set, name, picture): the sets, and the photograph as 1920x1080."""
    import cv2

    for name in sets:
        if name == "photo":
            photo = cv2.imread(str(shared / "photos" / "000.jpg"))
            yield name, "000.jpg 1920x1080", cv2.resize(photo, (1920, 1080), interpolation=cv2.INTER_AREA)
            continue
        for path in sorted((shared / "images" / name).iterdir()):
            yield name, path.name, cv2.imread(str(path))


def cut(picture: Any, scale: int, limit: float) -> Any:
    """The middle of the picture, small enough for OpenCV."""
    h, w = picture.shape[:2]
    too_much = (h * w * scale * scale / (limit * 1e6)) ** 0.5
    if too_much <= 1:
        return picture
    ch, cw = int(h / too_much), int(w / too_much)
    return picture[(h - ch) // 2 :][:ch, (w - cw) // 2 :][:, :cw]


def compare(ours: Any, theirs: Any) -> dict[str, Any]:
    """Largest difference, differing pixels and pixels in all."""
    import numpy as np

    difference = np.abs(ours.astype(np.int16) - theirs)
    per_pixel = difference.reshape(*difference.shape[:2], -1).max(axis=2)
    return {"max": int(per_pixel.max()), "different": int((per_pixel > 0).sum()), "pixels": int(per_pixel.size)}


def measure(args: argparse.Namespace) -> None:
    """One OpenCV: a JSON line per comparison on standard output."""
    import cv2
    import numpy as np
    from cases import OPENCV_MODELS

    from fastsr import dnn_superres

    for case in OPENCV_MODELS:
        if args.models and case.file not in args.models:
            continue
        engines = []
        for module in (dnn_superres, cv2.dnn_superres):
            engine = module.DnnSuperResImpl_create()
            engine.readModel(str(args.shared / case.path))
            engine.setModel(case.algorithm, case.scale)
            engine.upsample(np.zeros((24, 24, 3), np.uint8))  # what the first run does beside
            engines.append(engine)
        trials = list(pictures(args.shared, args.sets))
        first = next(p for _, _, p in pictures(args.shared, ["Set5"]))
        small = first[100:180, 120:229]
        trials += [("odd sizes", f"{w}x{h}", np.ascontiguousarray(first[90 : 90 + h, 40 : 40 + w])) for h, w in ODD]
        trials += [("grey", name, cv2.cvtColor(p, cv2.COLOR_BGR2GRAY)) for _, name, p in pictures(args.shared, ["Set5"])]
        trials += [
            ("layouts", "reversed", small[::-1, ::-1, ::-1]),
            ("layouts", "every second", first[::3, 1::2]),
            ("layouts", "transposed", small.transpose(1, 0, 2)),
        ]
        rng = np.random.default_rng(0)
        trials += [("float32", "whole", small.astype(np.float32)), ("float32", "fractions", small + rng.random(small.shape, np.float32)),
                   ("float32", "grey", small[..., 1] + rng.random(small.shape[:2], np.float32))]  # fmt: skip
        for group, name, whole in trials:
            picture = cut(whole, case.scale, args.limit) if case.algorithm == "lapsrn" else whole
            times, results = [], []
            for engine in engines:
                start = time.perf_counter()
                results.append(engine.upsample(picture))
                times.append(time.perf_counter() - start)
            row = {"cv2": cv2.__version__, "model": case.file, "set": group, "picture": name, "size": list(picture.shape[:2])}
            row |= {"cut": picture.shape != whole.shape, "fastsr_s": times[0], "cv2_s": times[1], **compare(*results)}
            print(json.dumps(row), flush=True)


def table(rows: list[dict[str, Any]]) -> tuple[list[str], bool]:
    """Lines of text, one per OpenCV, model and set, and whether all is well."""
    lines, good = [f"{'cv2':8} {'model':16} {'set':10} {'pictures':>8} {'cut':>4} {'max':>4} {'equal %':>10}"], True
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["cv2"], row["model"], row["set"]), []).append(row)
    for (version, model, name), of in groups.items():
        top, pixels, different = max(r["max"] for r in of), sum(r["pixels"] for r in of), sum(r["different"] for r in of)
        equal = 100 * (1 - different / pixels)
        # Tiny pictures: one pixel may be a large share of them.
        fine = top <= 1 and (equal >= 99.9 or different <= 2)
        good &= fine
        lines.append(
            f"{version:8} {model:16} {name:10} {len(of):8} {sum(r['cut'] for r in of):4} {top:4} {equal:10.5f}{'' if fine else '  <-- differs'}"
        )
    return lines, good


def main() -> int:
    """Run every wheel in a process of its own and print the table."""
    args = arguments()
    if args.one:
        measure(args)
        return 0
    rows: list[dict[str, Any]] = []
    for wheel in args.wheel or ["."]:
        path = [] if wheel == "." else [wheel]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([*path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)])}
        command = [sys.executable, __file__, "--one", "--shared", str(args.shared), "--limit", str(args.limit), "--sets", *args.sets]
        command += ["--models", *args.models] if args.models else []
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                rows.append(json.loads(line))
                r = rows[-1]
                print(f"{r['cv2']} {r['model']} {r['set']} {r['picture']}: max {r['max']}, {r['different']} of {r['pixels']} differ", file=sys.stderr)
        if process.returncode:
            print(f"the run with cv2 from '{wheel}' failed with exit code {process.returncode}", file=sys.stderr)
            return 2
    lines, good = table(rows)
    print("\n".join(lines))
    if args.json:
        args.json.write_text(json.dumps({"rows": rows, "agrees": good}, indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
