"""The command line `fastsr`: one module per command, each with `add_parser(commands)` and `run(args) -> exit code`.

Exit codes: 0 done, 1 failed (one line on stderr says why), 2 wrong usage, 130 interrupted by Ctrl-C, 143 terminated. FASTSR_DEBUG=1 shows tracebacks.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from .. import __version__, knobs, shipped
from ..errors import FastsrError
from . import backends, bench, compare, convert, eval, finetune, formats, info, interpolate, models, quantise, run, train, upscale

COMMANDS = {
    "upscale": upscale,
    "models": models,
    "info": info,
    "convert": convert,
    "quantise": quantise,
    "interpolate": interpolate,
    "bench": bench,
    "eval": eval,
    "compare": compare,
    "train": train,
    "finetune": finetune,
    "backends": backends,
    "formats": formats,
    "run": run,
}

EXAMPLES = """\
examples:
  fastsr upscale photo.jpg                                    twice as large, with a network that comes with fastsr
  fastsr upscale -i photo.jpg -o large.png -m ESPCN_x2.pb     with a network of your own
  fastsr upscale -i photos/ -o large/ -m FSRCNN_x3.pb -f png  a folder
  fastsr upscale -i photo.jpg -o large.png -m bicubic -s 4    no network: a filter
  fastsr models                                               the networks that come with fastsr
  fastsr info LapSRN_x4.pb                                    what is in a model file
  fastsr bench ESPCN_x2.pb                                    how fast it is here, next to OpenCV and others
  fastsr eval ESPCN_x2.pb bicubic --data Set5/                how near it comes to the originals, as papers measure it
  fastsr compare photo.jpg -m ESPCN_x2.pb -o report.html      a page to look at it next to bicubic
  fastsr run your_script.py                                   a script that uses cv2.dnn_superres, sped up

'fastsr COMMAND --help' explains each command. Without a command, 'upscale' is meant.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="fastsr",
        description="Super-resolution of pictures with trained networks, fast on ordinary processors.",
        epilog=_examples(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="version", version=f"fastsr {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        module.add_parser(commands)
    return parser


def _examples() -> str:
    """`EXAMPLES` without those of networks that this installation lacks."""
    if shipped.names():
        return EXAMPLES
    return "".join(line for line in EXAMPLES.splitlines(keepends=True) if not re.search("comes? with fastsr", line))


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` without the program's name, None for that of the process. Returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and _is_upscale(arguments[0]):
        arguments.insert(0, "upscale")
    foreign = arguments[:1] == ["run"]
    if not foreign:
        _print_anything()
    try:
        args = run.parse(arguments[1:]) if foreign else build_parser().parse_args(arguments)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2
    if not foreign and not _debugging():
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        with contextlib.nullcontext() if foreign else _terminable():
            return int(args.run(args))
    except KeyboardInterrupt:
        print("fastsr: interrupted", file=sys.stderr)
        return 130
    except _Terminated:
        print("fastsr: terminated", file=sys.stderr)
        return 143
    except BrokenPipeError:
        # Whoever read the output has gone. Python would complain about it once more at exit, when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as e:
        if _debugging():
            raise
        print(f"fastsr: {message_of(e)}", file=sys.stderr)
        return 1


def _print_anything() -> None:
    """File names may hold characters that the terminal's or pipe's encoding lacks: print them escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _is_upscale(first: str) -> bool:
    """Whether a command line without a command is meant: an option, as in realesrgan-ncnn-vulkan -i a -o b, or a picture or folder."""
    if first.startswith("-"):
        return first not in ("-h", "--help", "-V", "--version")
    return first not in COMMANDS and (Path(first).exists() or Path(first).name != first or bool(Path(first).suffix))


def message_of(e: BaseException) -> str:
    """One line that says what went wrong."""
    if isinstance(e, MemoryError):
        return "error: not enough memory"
    if isinstance(e, OSError) and e.strerror:
        text = e.strerror if e.filename is None else f"{e.strerror}: '{e.filename}'"
        return f"error: {text}"
    if isinstance(e, FastsrError):
        shown = re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda c: f"\\x{ord(c[0]):02x}", " ".join(str(e).split()))
        return f"error: {shown}"
    return f"internal error: {type(e).__name__}: {' '.join(str(e).split())} (FASTSR_DEBUG=1 shows where)"


def _debugging() -> bool:
    try:
        return knobs.debug_level() >= 1
    except FastsrError:
        return False


class _Terminated(BaseException):
    """SIGTERM: unwinds like Ctrl-C, so that temporary files are removed."""


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def stop(number: int, frame: Any) -> NoReturn:
        raise _Terminated

    try:
        old = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)
