"""`fastsr upscale`: pictures and folders of pictures through a network. The options are those of realesrgan-ncnn-vulkan where it has them.

Many pictures go through a pipeline, see upscale_many.py.
"""

from __future__ import annotations

import argparse
import errno
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import shipped
from ..errors import FastsrError, ModelError
from .common import MODEL, Progress, UsageError, add_command, add_engine_options, add_feed_options, add_tta, check_model_name, load_model, positive
from .upscale_many import Jobs, Pipeline

if TYPE_CHECKING:
    from ..model import Model

EXAMPLES = """\
  fastsr upscale photo.jpg                                              twice as large, as photo_x2.png beside it
  fastsr upscale photo.jpg large.png -s 4                               'fastsr models' lists the networks that come with fastsr
  fastsr upscale -i photo.jpg -o large.png -m ESPCN_x2.pb
  fastsr upscale photo.jpg large.png -m LapSRN_x4.pb --threads 2
  fastsr upscale *.jpg large/ -m FSRCNN_x3.pb
  fastsr upscale -i scans/ -o scans_x3/ -m FSRCNN_x3.pb -f webp --recursive
  fastsr upscale -i scans/ -o scans_x3/ -m FSRCNN_x3.pb --resume        go on after an interruption
  fastsr upscale -i scans/ -o scans_x3/ -m FSRCNN_x3.pb -j 2:4:6        threads that read, compute and write
  fastsr upscale -i photo.jpg -o large.png -m bicubic -s 4              a filter in place of a network
"""


def add_parser(commands: Any) -> None:
    """Declare the command."""
    p = add_command(commands, "upscale", run, "enlarge a picture, or every picture in a folder", EXAMPLES)
    p.add_argument("paths", nargs="*", metavar="IN OUT", help="input and output, in place of -i and -o; several pictures and a folder: IN IN IN OUT")
    p.add_argument("-i", "--input", help="picture, or folder of pictures")
    what = "picture to write (its suffix chooses the format), or folder; made if its parent exists (default: IN_x2.png or IN_x2 beside the input)"
    p.add_argument("-o", "--output", help=what)
    p.add_argument("-m", "-n", "--model", help=f"{MODEL} (default: the first that 'fastsr models' lists for the scale)")
    add_feed_options(p)
    p.add_argument("-f", "--format", metavar="EXT", help="format of the pictures in an output folder: png, jpg, webp, ... (default: as the input)")
    p.add_argument("-q", "--quality", type=positive, metavar="N", help="1 to 100: JPEG (default 95) and lossy WebP (default: lossless)")
    add_tta(p)
    p.add_argument("-r", "--recursive", action="store_true", help="subfolders too")
    p.add_argument("--resume", action="store_true", help="skip pictures whose output exists already (default: they are replaced)")
    p.add_argument("--quiet", action="store_true", help="no progress bar, no line per picture")
    add_engine_options(p, _jobs, "N|LOAD:PROC:SAVE", "threads (default: all cores), or those that read, compute and write many pictures")


def _jobs(text: str) -> Jobs:
    """argparse type: N or LOAD:PROC:SAVE."""
    numbers = [positive(t) for t in text.split(":")]
    if len(numbers) not in (1, 3):
        raise argparse.ArgumentTypeError(f"'{text}' is neither a number nor LOAD:PROC:SAVE such as 1:2:2")
    return Jobs(*numbers) if len(numbers) == 3 else Jobs(compute=numbers[0])


def run(args: argparse.Namespace) -> int:
    """Do it. 0 when all pictures were written, 1 when any was not."""
    sources, target = _paths(args)
    if args.quality is not None and args.quality > 100:
        raise UsageError("--quality goes from 1 to 100")
    suffix = _suffix(args.format)
    jobs = args.threads or Jobs()
    args.threads = jobs.compute
    if args.model:
        check_model_name(args.model)
    else:
        args.model = _default(args.scale or 2)
        if not args.quiet:
            print(f"network: {Path(args.model).stem}, of those that come with fastsr ('fastsr models')")
    model = None
    if target is None:
        model = load_model(args, args.scale)
        target = _beside(sources[0], suffix, model.scale, args.resume)
    pairs, skipped = _plan(args, sources, target, suffix)
    if not pairs:
        if not args.quiet:
            print(f"nothing to do: all {skipped} pictures are there already")
        return 0
    model = model or load_model(args, args.scale)
    if len(sources) == 1 and not sources[0].is_dir():
        return _single(args, model, *pairs[0])
    return _many(args, model, jobs, pairs, skipped)


def _default(scale: int) -> str:
    """The network for a scale where none is named."""
    try:
        return str(shipped.default(scale))
    except ModelError as e:
        raise ModelError(f"{e}: -m FILE names a trained network; -m bicubic -s {scale} needs none") from None


def _beside(source: Path, suffix: str | None, scale: Any, resume: bool) -> Path:
    """Where the result goes when no output is named: in_x2.png for in.jpg, photos_x2 for the folder photos; in_x2-2.png where that is there already,
    but for --resume."""
    if not source.exists():
        raise FileNotFoundError(errno.ENOENT, "no such picture or folder", str(source))
    end = f"_x{float(scale):g}"
    if source.is_dir():
        base, suffix = source if source.name not in ("", "..") else source.resolve(), ""
    else:
        base, suffix = source.with_suffix(""), suffix or ".png"
    target = base.with_name(f"{base.name}{end}{suffix}")
    number = 2
    while target.exists() and not resume:
        target = base.with_name(f"{base.name}{end}-{number}{suffix}")
        number += 1
    return target


def _paths(args: argparse.Namespace) -> tuple[list[Path], Path | None]:
    paths = list(args.paths)
    target = args.output
    if target is None and len(paths) > (0 if args.input else 1):
        target = paths.pop()
    sources = [args.input] if args.input else paths
    if args.input and paths:
        raise UsageError(f"one input and one output, please; too much: {' '.join(paths)} (without -i there may be several pictures)")
    if not sources:
        raise UsageError("no input: -i PICTURE, or a folder")
    if target == "":
        raise UsageError("no output: -o PICTURE, or a folder; without -o it is written beside the input")
    return [Path(s) for s in sources], None if target is None else Path(target)


def _suffix(name: str | None) -> str | None:
    from ..files import SUFFIXES

    if name is None:
        return None
    suffix = "." + name.lower().lstrip(".")
    if suffix not in SUFFIXES:
        raise UsageError(f"--format {name}: choose one of {', '.join(s[1:] for s in SUFFIXES)}")
    return suffix


def _plan(args: argparse.Namespace, sources: list[Path], target: Path, suffix: str | None) -> tuple[list[tuple[Path, Path]], int]:
    """(input, output) of each picture to do, and how many were left out by --resume. Makes the output folders."""
    from ..files import SUFFIXES, check_writable, expand_inputs, output_names

    source, several = sources[0], len(sources) > 1
    if several:
        if not target.is_dir() and (target.exists() or target.suffix.lower() in SUFFIXES):
            raise UsageError(f"several inputs need a folder as output, and '{target}' is none; too much: {' '.join(map(str, sources[1:]))}")
        pictures = sources
        for path in sources:
            if path.is_dir():
                raise UsageError(f"several inputs must be pictures, and '{path}' is a folder")
            expand_inputs(path)
        outputs = output_names(pictures, None, target, suffix)
    else:
        pictures = expand_inputs(source, recursive=args.recursive, skip=target)
        outputs = _names(source, pictures, target, suffix)
    pairs = [(i, o) for i, o in zip(pictures, outputs, strict=True) if not (args.resume and o.exists())]
    for i, o in pairs:
        if o.exists() and i.samefile(o):
            raise FastsrError(f"the output would replace the input '{i}': choose another output")
    if (several or source.is_dir()) and pairs:
        _make_folders(target, {o.parent for _, o in pairs})
    for _, o in pairs:
        check_writable(o)
    return pairs, len(pictures) - len(pairs)


def _names(source: Path, pictures: list[Path], target: Path, suffix: str | None) -> list[Path]:
    from ..files import output_names

    if source.is_dir():
        if target.exists() and not target.is_dir():
            raise FastsrError(f"the input is a folder, so the output must be one, but '{target}' is a file")
        return output_names(pictures, source, target, suffix)
    if target.is_dir():
        return output_names(pictures, source.parent, target, suffix)
    if suffix and target.suffix.lower() != suffix:
        target = target.with_name(target.name + suffix) if not target.suffix else target
        if target.suffix.lower() != suffix:
            raise UsageError(f"--format {suffix[1:]} and the output's name '{target.name}' contradict each other")
    return [target]


def _make_folders(target: Path, folders: set[Path]) -> None:
    from ..atomic import explained

    if not target.parent.is_dir():
        raise FastsrError(f"cannot make the folder '{target}': '{target.parent}' does not exist")
    for folder in sorted(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise explained(e, f"cannot make the folder '{folder}'") from e


def _check_size(model: Model, picture: Any, out: Path) -> None:
    from ..files import check_writable

    check_writable(out, (int(picture.shape[0] * model.scale), int(picture.shape[1] * model.scale)))


def _single(args: argparse.Namespace, model: Model, source: Path, target: Path) -> int:
    from ..files import read_picture, write_picture

    picture = read_picture(source)
    _check_size(model, picture, target)
    bar = Progress(1, not args.quiet)
    try:
        start = time.perf_counter()
        result = model.upscale(picture, views=args.views, progress=bar.start(source.name, 0))
        seconds = time.perf_counter() - start
    finally:
        bar.close()
    write_picture(target, result, quality=args.quality)
    if not args.quiet:
        sizes = f"{picture.shape[1]}x{picture.shape[0]} -> {result.shape[1]}x{result.shape[0]}"
        print(f"{source.name} -> {target}  {sizes}  {seconds:.3f} s")
    return 0


def _many(args: argparse.Namespace, model: Model, jobs: Jobs, pairs: list[tuple[Path, Path]], skipped: int) -> int:
    """Go on after a picture that fails, unless the disk is full, and say at the end which did."""
    start = time.perf_counter()
    outcome = Pipeline(model, pairs, jobs, args.quality, args.quiet, args.views).run()
    failed, untried = outcome.failed, outcome.untried
    if not args.quiet:
        already = f", {skipped} skipped" if skipped else ""
        done = len(pairs) - len(failed) - untried
        print(f"{done} of {len(pairs)} pictures done{already} in {time.perf_counter() - start:.1f} s ({model.describe()})")
    if failed:
        print(f"fastsr: {len(failed)} of {len(pairs)} pictures failed (why: see above):", *failed, sep="\n  ", file=sys.stderr)
    if untried:
        print(f"fastsr: stopped with {untried} left to do: free some space and go on with --resume", file=sys.stderr)
    return 1 if failed else 0
