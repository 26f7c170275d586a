"""`fastsr upscale` and what all commands share: exit codes, usage, bad input, full disks, interruption."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from commands import fails, listing, picture, process
from limits import HANGS

import fastsr
from fastsr import atomic, files, fsr
from fastsr.cli import main

pytest.importorskip("cv2", reason="reads and writes pictures: pip install fastsr[opencv]")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    files.write_picture(path, picture())
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    folder = tmp_path / "album"
    (folder / "sub").mkdir(parents=True)
    for k in (1, 2, 10):
        files.write_picture(folder / f"img{k}.png", picture(8 + k, 9))
    files.write_picture(folder / "sub" / "deep.bmp", picture())
    (folder / "notes.txt").write_text("not a picture")
    return folder


# ---- upscale -----------------------------------------------------------------------------------------------------------------------------------


def test_upscale_one_picture(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "large.png"
    assert main(["upscale", "-i", str(photo), "-o", str(out), "-m", "nearest", "-s", "3"]) == 0
    np.testing.assert_array_equal(files.read_picture(out), picture().repeat(3, 0).repeat(3, 1))
    assert "16x12 -> 48x36" in capsys.readouterr().out
    assert listing(tmp_path) == ["large.png", "photo.png"]


def test_positional_and_without_command(photo: Path, tmp_path: Path) -> None:
    assert main(["upscale", str(photo), str(tmp_path / "a.png"), "-m", "nearest", "--quiet"]) == 0
    assert main(["-i", str(photo), "-o", str(tmp_path / "b.png"), "-n", "nearest", "--quiet"]) == 0
    assert main([str(photo), str(tmp_path / "c.png"), "-m", "nearest", "--quiet"]) == 0
    for name in ("b.png", "c.png"):
        np.testing.assert_array_equal(files.read_picture(tmp_path / "a.png"), files.read_picture(tmp_path / name))


@pytest.mark.parametrize(("channels", "dtype"), [(1, np.uint8), (3, np.uint16), (4, np.uint8), (4, np.uint16)])
def test_depth_and_alpha_are_kept(tmp_path: Path, channels: int, dtype: type) -> None:
    files.write_picture(tmp_path / "in.png", picture(channels=channels, dtype=dtype))
    assert main(["-i", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), "-m", "nearest", "--quiet"]) == 0
    expected = picture(channels=channels, dtype=dtype).repeat(2, 0).repeat(2, 1)
    np.testing.assert_array_equal(files.read_picture(tmp_path / "out.png"), expected)


def test_output_folder_takes_the_inputs_name(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert main(["upscale", str(photo), str(tmp_path / "out"), "-m", "nearest", "-f", "webp"]) == 0
    assert listing(tmp_path / "out") == ["photo.webp"]


def test_folder(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["upscale", "-i", str(album), "-o", str(out), "-m", "nearest"]) == 0
    assert listing(out) == ["img1.png", "img10.png", "img2.png"]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["img1.png", "img2.png", "img10.png"]
    assert lines[3].startswith("3 of 3 pictures done")
    for k in (1, 2, 10):
        np.testing.assert_array_equal(files.read_picture(out / f"img{k}.png"), picture(8 + k, 9).repeat(2, 0).repeat(2, 1))


def test_folder_recursive_into_itself(album: Path) -> None:
    for _ in range(2):
        assert main(["upscale", "-i", str(album), "-o", str(album / "large"), "-m", "nearest", "-r", "-f", "png", "--quiet"]) == 0
        assert listing(album / "large") == ["img1.png", "img10.png", "img2.png", "sub/deep.png"]


@pytest.mark.skipif(os.name != "posix", reason="sets the encoding of a pipe")
def test_names_that_the_output_cannot_spell(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    photo.rename(tmp_path / "日本.png")
    p = process("upscale", tmp_path / "日本.png", tmp_path / "大.png", "-m", "nearest")
    out, error = p.communicate(timeout=HANGS)
    assert (p.returncode, error) == (0, "")
    assert out.startswith(r"\u65e5\u672c.png -> ")
    assert listing(tmp_path) == ["大.png", "日本.png"]


def test_resume(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "img2.png").write_bytes(b"kept as it is")
    assert main(["upscale", "-i", str(album), "-o", str(out), "-m", "nearest", "--resume"]) == 0
    assert (out / "img2.png").read_bytes() == b"kept as it is"
    assert listing(out) == ["img1.png", "img10.png", "img2.png"]
    assert "1 skipped" in capsys.readouterr().out
    assert main(["upscale", "-i", str(album), "-o", str(out), "-m", "nearest", "--resume"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_bad_picture_does_not_stop_the_others(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (album / "img2.png").write_bytes(b"")
    (album / "img3.jpg").write_bytes(b"<html>")
    files.write_picture(album / "img4.png", picture(channels=4))
    assert main(["upscale", "-i", str(album), "-o", str(tmp_path / "out"), "-m", "nearest", "-f", "jpg"]) == 1
    assert listing(tmp_path / "out") == ["img1.jpg", "img10.jpg"]
    error = capsys.readouterr().err
    assert "3 of 5 pictures failed" in error
    assert error.count("is empty") == 1
    assert all(text in error for text in ("img2.png' is empty", "img3.jpg' is a web page", "img4.png", "transparency"))


def test_quality(tmp_path: Path) -> None:
    files.write_picture(tmp_path / "in.png", picture(64, 64))
    for quality in (10, 90):
        assert main(["upscale", str(tmp_path / "in.png"), str(tmp_path / f"{quality}.jpg"), "-m", "nearest", "-q", str(quality), "--quiet"]) == 0
    assert (tmp_path / "10.jpg").stat().st_size < (tmp_path / "90.jpg").stat().st_size


def test_network(shared: Path, tmp_path: Path) -> None:
    model, source = shared / "models/tensorflow/FSRCNN-small_x2.pb", tmp_path / "in.png"
    files.write_picture(source, picture(40, 30))
    for k, options in enumerate(([], ["--threads", "1", "--tile", "16"], ["-s", "2", "-t", "0"])):
        assert main(["upscale", str(source), str(tmp_path / f"{k}.png"), "-m", str(model), *options]) == 0
        np.testing.assert_array_equal(files.read_picture(tmp_path / f"{k}.png"), fastsr.load(model).upscale(picture(40, 30)))


def test_network_with_another_scale(shared: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = shared / "models/tensorflow/FSRCNN-small_x2.pb"
    fails(capsys, ["upscale", photo, tmp_path / "out.png", "-m", model, "-s", 4], "enlarges by 2, not by 4")
    assert listing(tmp_path) == ["photo.png"]


# ---- bad input ---------------------------------------------------------------------------------------------------------------------------------

MODELS = {
    "empty.pb": (b"", "empty"),
    "page.pb": (b"<!DOCTYPE html><html><body>404</body></html>", "HTML"),
    "noise.pb": (np.random.default_rng(1).bytes(3000), "noise.pb"),
    "zeros.pb": (bytes(3000), "zeros"),
    "picture.pb": (b"\x89PNG\r\n\x1a\n" + bytes(100), "PNG"),
    "lfs.pb": (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    "cut.fsr": (fsr.MAGIC, "cut.fsr"),
    "noise.fsr": (fsr.MAGIC + np.random.default_rng(2).bytes(500), "noise.fsr"),
}


@pytest.mark.parametrize("command", ["upscale", "info", "convert", "bench"])
@pytest.mark.parametrize("name", MODELS)
def test_bad_models(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: str) -> None:
    content, message = MODELS[name]
    model = tmp_path / name
    model.write_bytes(content)
    rest = {"upscale": [photo, tmp_path / "out.png", "-m", model], "convert": [model, tmp_path / "out.fsr"]}
    fails(capsys, [command, *rest.get(command, [model])], message)
    assert listing(tmp_path) == sorted(["photo.png", name])


def test_names_in_models_do_not_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "x.param"
    model.write_text("7767517\n2 2\nInput in 0 1 in\nFoo\x1b[2J c 1 1 in out\n")
    model.with_suffix(".bin").write_bytes(b"")
    fails(capsys, ["info", model], r"(Foo\x1b[2J)")


def test_truncated_models(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (shared / "models/tensorflow/FSRCNN-small_x2.pb").read_bytes()
    (tmp_path / "cut.pb").write_bytes(whole[: len(whole) // 2])
    fails(capsys, ["info", tmp_path / "cut.pb"], "cut.pb")
    assert main(["convert", str(shared / "models/tensorflow/FSRCNN-small_x2.pb"), str(tmp_path / "a.fsr")]) == 0
    capsys.readouterr()
    whole = (tmp_path / "a.fsr").read_bytes()
    for n in (20, 70, len(whole) // 2, len(whole) - 1):
        (tmp_path / "a.fsr").write_bytes(whole[:n])
        fails(capsys, ["info", tmp_path / "a.fsr"], "a.fsr")


@pytest.mark.parametrize("command", ["upscale", "info", "convert", "bench"])
def test_missing_model(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    rest = {"upscale": [photo, tmp_path / "out.png", "-m", "none.pb"], "convert": ["none.pb", tmp_path / "out.fsr"]}
    fails(capsys, [command, *rest.get(command, ["none.pb"])], "no model file 'none.pb' (")
    assert main([command, *map(str, rest.get(command, ["none.pb"]))]) == 1
    assert "the filters are nearest, bilinear, bicubic, lanczos, area)" in capsys.readouterr().err
    fails(capsys, ["info", tmp_path], "folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"<html></html>", "web page"),
        (np.random.default_rng(3).bytes(999), "not a picture"),
        (b"\xff\xd8\xff\xe0", "damaged"),
    ],
)
def test_bad_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, message: str) -> None:
    source = tmp_path / "in.jpg"
    if content is not None:
        source.write_bytes(content)
    fails(capsys, ["upscale", source, tmp_path / "out.png", "-m", "bicubic"], message)
    fails(capsys, [source, tmp_path / "out.png", "-m", "bicubic"], message)
    assert not (tmp_path / "out.png").exists()


def test_wrong_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "in.tiff"), np.zeros((5, 5), np.float32))
    fails(capsys, ["upscale", tmp_path / "in.tiff", tmp_path / "out.png", "-m", "bicubic"], "float32")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("no/out.png", "does not exist"),
        ("out.gif", "does not name a picture format"),
        ("out", "does not name a picture format"),
        ("photo.png", "replace the input"),
    ],
)
def test_bad_outputs(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str, message: str) -> None:
    before = photo.read_bytes()
    fails(capsys, ["upscale", photo, tmp_path / output, "-m", "bicubic"], message)
    assert listing(tmp_path) == ["photo.png"]
    assert photo.read_bytes() == before


def test_too_large_is_said_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    files.write_picture(tmp_path / "in.png", picture(2, 9000))
    monkeypatch.setattr(fastsr.Model, "upscale", lambda *_, **__: pytest.fail("was computed"))
    fails(capsys, ["upscale", tmp_path / "in.png", tmp_path / "out.webp", "-m", "nearest"], "16383")


def test_folder_problems(album: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, ["upscale", album, photo, "-m", "nearest"], "is a file")
    fails(capsys, ["upscale", album, tmp_path / "no" / "out", "-m", "nearest"], "does not exist")
    fails(capsys, ["upscale", album, album, "-m", "nearest"], "replace the input")
    (tmp_path / "empty").mkdir()
    fails(capsys, ["upscale", tmp_path / "empty", tmp_path / "out", "-m", "nearest"], "no picture in the folder")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    fails(capsys, ["upscale", photo, locked / "out.png", "-m", "nearest"], "no permission")
    fails(capsys, ["convert", "nearest", locked / "out.fsr"], "no permission")


def test_read_only_file_system(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)
    fails(capsys, ["upscale", photo, tmp_path / "out.png", "-m", "nearest"], "read-only")
    fails(capsys, ["convert", "nearest", tmp_path / "out.fsr"], "read-only")
    assert listing(tmp_path) == ["photo.png"]


def test_full_disk(photo: Path, album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, data: bytes) -> None:
        file.write(data[: len(data) // 2])  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "_write_all", full)
    fails(capsys, ["upscale", photo, tmp_path / "out.png", "-m", "nearest"], "the disk is full")
    fails(capsys, ["convert", "nearest", tmp_path / "out.fsr"], "the disk is full")
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", "nearest", "-j", "1:1:1"]) == 1
    printed = capsys.readouterr()
    assert "1 of 3 pictures failed" in printed.err
    assert "stopped with 2 left to do: free some space and go on with --resume" in printed.err
    assert "0 of 3 pictures done" in printed.out
    assert not listing(tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["photo.png"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_device(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.fsr").symlink_to("/dev/full")
    fails(capsys, ["convert", "nearest", tmp_path / "out.fsr"], "the disk is full")


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_write_cut_off_by_the_system_leaves_nothing(tmp_path: Path) -> None:
    import resource

    files.write_picture(tmp_path / "in.png", picture(200, 200))
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # noqa: E731
    p = process("upscale", tmp_path / "in.png", tmp_path / "out.png", "-m", "nearest", "--backend", "reference", preexec_fn=limit)
    _, error = p.communicate(timeout=HANGS)
    assert p.returncode == 1
    assert "too large" in error
    assert listing(tmp_path) == ["in.png"]


# ---- interruption ------------------------------------------------------------------------------------------------------------------------------


def test_interrupted_while_computing(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fastsr.Model, "upscale", interrupted)
    assert main(["upscale", str(photo), str(tmp_path / "out.png"), "-m", "nearest"]) == 130
    assert capsys.readouterr().err == "fastsr: interrupted\n"
    assert listing(tmp_path) == ["photo.png"]


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_whole_files_only(tmp_path: Path, number: int, code: int) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    files.write_picture(folder / "0.png", picture(300, 300))
    for k in range(1, 2000):  # more than can be done before the signal arrives
        os.link(folder / "0.png", folder / f"{k}.png")
    p = process("upscale", folder, out, "-m", "bicubic", "-s", "4", "--backend", "reference")
    deadline = time.monotonic() + HANGS
    while not (out.is_dir() and len(listing(out)) > 1) and time.monotonic() < deadline and p.poll() is None:
        time.sleep(0.005)
    p.send_signal(number)
    _, error = p.communicate(timeout=HANGS)
    assert p.returncode == code, error
    assert "Traceback" not in error
    done = listing(out)
    assert 0 < len(done) < 2000
    assert all(name.endswith(".png") and files.read_picture(out / name).shape == (1200, 1200, 3) for name in done)


# ---- usage -------------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required"),
        (["upscale"], "no input"),
        (["upscale", "in.png", "out.png", "-s", "0"], "at least 1"),
        (["upscale", "a.png", "b.png", "c.png", "-m", "bicubic"], "too much: b.png"),
        (["upscale", "-i", "a.png", "-o", "b.png", "c.png", "-m", "bicubic"], "too much: c.png"),
        (["upscale", "-i", "a.png", "b.png", "c.png", "-m", "bicubic"], "too much: b.png"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-s", "0"], "at least 1"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-s", "two"], "whole number"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-f", "gif"], "choose one of png"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-q", "101"], "1 to 100"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "--backend", "gpu"], "invalid choice"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "--threads", "-1"], "whole number"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-j", "1:2"], "neither a number nor LOAD:PROC:SAVE"),
        (["upscale", "a.png", "b.png", "-m", "bicubic", "-j", "1:2:0"], "at least 1"),
        (["convert", "nearest", "out.pb"], ".fsr or .onnx"),
        (["bench", "nearest", "--size", "big"], "WIDTHxHEIGHT"),
        (["bench", "nearest", "--backend", "gpu"], "unknown backend"),
        (["frobnicate"], "invalid choice"),
        (["run"], "which script"),
    ],
)
def test_usage_errors(capsys: pytest.CaptureFixture[str], arguments: list[object], message: str) -> None:
    fails(capsys, arguments, message, code=2)


@pytest.mark.parametrize("command", ["upscale", "info", "convert", "bench", "backends", "run"])
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: fastsr {command}" in out
    assert f"examples:\n  fastsr {command}" in out


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastsr {fastsr.__version__}\n"
    assert main(["--help"]) == 0
    assert "examples:" in capsys.readouterr().out


def test_debug_shows_tracebacks(photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "1")
    with pytest.raises(fastsr.FastsrError, match="no model file"):
        main(["upscale", str(photo), str(tmp_path / "out.png"), "-m", "none.pb"])


def test_debug_level_that_is_none(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTSR_DEBUG", "yes")
    fails(capsys, ["upscale", photo, tmp_path / "out.png", "-m", "nearest"], "FASTSR_DEBUG=yes: a whole number")
