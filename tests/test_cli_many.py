"""`fastsr upscale` of many files: results, order, what happens when something is wrong with one, how much is held at a time."""

from __future__ import annotations

import errno
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import fails, listing, picture
from programs import espcn

import fastsr
from fastsr import atomic, files
from fastsr.cli import main, upscale_many
from fastsr.model import Model

pytest.importorskip("cv2", reason="reads and writes pictures: pip install fastsr[opencv]")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "espcn.fsr"
    Model(espcn(channels=(8, 8)), "reference").save(path)
    return path


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """30 pictures of many sizes, depths and channels."""
    folder = tmp_path / "album"
    folder.mkdir()
    for k in range(30):
        p = picture(5 + 11 * k % 60, 7 + 17 * k % 90, (3, 1, 4)[k % 3], (np.uint8, np.uint16)[k % 2])
        files.write_picture(folder / f"{k}.png", p)
    return folder


@pytest.mark.parametrize("options", [[], ["-j", "1"], ["-j", "3:2:4"], ["--backend", "reference"]], ids=" ".join)
def test_every_file_is_what_upscale_makes(album: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    out = tmp_path / "out"
    assert main(["upscale", str(album), str(out), "-m", str(model), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:-1]] == [f"{k}.png" for k in range(30)]
    assert lines[-1].startswith("30 of 30 pictures done in ")
    whole = fastsr.load(model, backend="reference" if "reference" in options else "auto")
    for k in range(30):
        np.testing.assert_array_equal(files.read_picture(out / f"{k}.png"), whole.upscale(files.read_picture(album / f"{k}.png")))


def test_several_named_files(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `fastsr upscale *.png large/` gives them: in that order, into a folder that is made."""
    (tmp_path / "other").mkdir()
    (album / "7.png").rename(tmp_path / "other" / "7.png")
    named = [album / "10.png", tmp_path / "other" / "7.png", album / "3.png"]
    for arguments in ([*named, tmp_path / "out"], [*named, "-o", tmp_path / "out"]):
        assert main([*map(str, arguments), "-m", "nearest", "-f", "bmp"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines[:3]] == ["10.png", "7.png", "3.png"]
        assert lines[3].startswith("3 of 3 pictures done")
        assert listing(tmp_path / "out") == ["10.bmp", "3.bmp", "7.bmp"]
    assert files.read_picture(tmp_path / "out" / "7.bmp").shape[:2] == tuple(2 * n for n in files.read_picture(named[1]).shape[:2])


def test_several_named_files_that_make_no_sense(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other"
    other.mkdir()
    files.write_picture(other / "1.png", picture())
    before = listing(tmp_path)
    fails(capsys, [album / "1.png", other / "1.png", tmp_path / "out", "-m", "nearest"], "would both be written")
    fails(capsys, [album / "1.png", album / "99.png", tmp_path / "out", "-m", "nearest"], "no such file or folder")
    fails(capsys, [album / "1.png", other, tmp_path / "out", "-m", "nearest"], "is a folder", code=2)
    fails(capsys, [album / "1.png", album / "2.png", album / "3.png", "-m", "nearest"], "several inputs need a folder", code=2)
    fails(capsys, [album / "1.png", album / "2.png", album, "-m", "nearest"], "replace the input")
    assert listing(tmp_path) == before


def test_bad_files_in_the_middle(album: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Damaged, not there any more, and one whose result nothing can hold; the reports stay in order and the rest is done."""
    whole = (album / "7.png").read_bytes()
    (album / "7.png").write_bytes(whole[: len(whole) // 2])
    (album / "13.png").write_bytes(b"")
    (album / "29.png").unlink()
    (album / "29.png").symlink_to(tmp_path / "nowhere.png")
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", str(model)]) == 1
    out, error = capsys.readouterr()
    good = [f"{k}.png" for k in range(30) if k not in (7, 13, 29)]
    assert [line.split()[0] for line in out.splitlines()[:-1]] == good
    assert out.splitlines()[-1].startswith("27 of 30 pictures done")
    lines = error.splitlines()
    assert [Path(line.split("'")[1]).name for line in lines[:3]] == ["7.png", "13.png", "29.png"]
    assert lines[3:] == ["fastsr: 3 of 30 pictures failed (why: see above):", *(f"  {album / str(n)}.png" for n in (7, 13, 29))]
    assert listing(tmp_path / "out") == sorted(good)


def test_a_picture_that_cannot_be_computed(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from fastsr.many import Many

    take, turn = Many._result, iter(range(30))

    def refuse(self: Many, started: Any) -> np.ndarray:
        result = take(self, started)
        if (k := next(turn)) in (3, 4):
            raise MemoryError if k == 3 else fastsr.PictureError("too small")
        return result

    monkeypatch.setattr(Many, "_result", refuse)
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", "nearest"]) == 1
    error = capsys.readouterr().err
    assert f"fastsr: error: '{album / '3.png'}': not enough memory\nfastsr: error: '{album / '4.png'}': too small\n" in error
    assert "2 of 30 pictures failed" in error
    assert len(listing(tmp_path / "out")) == 28


def test_a_folder_where_nothing_can_be_written(
    album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every picture fails by itself; nothing is left behind."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    (tmp_path / "out").mkdir()
    monkeypatch.setattr(atomic, "_write_all", refuse)
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", "nearest"]) == 1
    error = capsys.readouterr().err
    assert error.count("the disk is read-only") == 30
    assert "30 of 30 pictures failed" in error
    assert listing(tmp_path / "out") == []


def test_a_full_disk(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write, done = atomic._write_all, []

    def full(file: Any, data: bytes) -> None:
        if len(done) >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        done.append(1)
        write(file, data)

    monkeypatch.setattr(atomic, "_write_all", full)
    arguments = ["upscale", str(album), str(tmp_path / "out"), "-m", "nearest", "-j", "1:2:1"]
    assert main(arguments) == 1
    out, error = capsys.readouterr()
    assert "5 of 30 pictures done" in out
    assert "1 of 30 pictures failed" in error
    assert "stopped with 24 left to do" in error
    assert len(listing(tmp_path / "out")) == 5
    monkeypatch.undo()
    assert main([*arguments, "--resume"]) == 0
    assert "25 of 25 pictures done, 5 skipped" in capsys.readouterr().out
    assert len(listing(tmp_path / "out")) == 30


class Watched:
    """How many pictures are between the end of reading and the end of writing, at most; writing takes long."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.inside, self.most, self.lock = 0, 0, threading.Lock()
        self.read, self.write = files.read_picture, files.write_picture
        monkeypatch.setattr(files, "read_picture", self.reading)
        monkeypatch.setattr(files, "write_picture", self.writing)

    def reading(self, path: Path) -> np.ndarray:
        made = self.read(path)
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        return made

    def writing(self, *arguments: Any, **options: Any) -> None:
        time.sleep(0.02)
        self.write(*arguments, **options)
        with self.lock:
            self.inside -= 1


def test_few_pictures_are_held(album: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch)
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", str(model), "--quiet", "-j", "1:1:1"]) == 0
    assert watched.inside == 0
    assert watched.most <= 2 + 4 + 2 + 1  # read ahead, in flight, to be written, in hand


def test_of_large_pictures_two_are_held(album: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upscale_many, "BYTES", 1)
    monkeypatch.setattr(upscale_many, "LARGE", 0)
    monkeypatch.setattr("fastsr.many.BYTES", 1)
    watched = Watched(monkeypatch)
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", str(model), "--quiet", "-j", "4:4:4"]) == 0
    assert watched.inside == 0
    assert watched.most <= 2 + 1  # and the one that is read ahead


def test_names_that_would_fall_together(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, value in (("a.png", 10), ("a.bmp", 20), ("a.tiff", 30)):
        files.write_picture(folder / name, np.full((4, 4), value, np.uint8))
    assert main(["upscale", str(folder), str(tmp_path / "out"), "-m", "nearest", "-f", "png", "--quiet"]) == 0
    values = {n: int(files.read_picture(tmp_path / "out" / n)[0, 0]) for n in listing(tmp_path / "out")}
    assert values == {"a.png.png": 10, "a.bmp.png": 20, "a.tiff.png": 30}


def test_ctrl_c_in_the_pipeline(album: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Files being written are finished, no threads and no parts of files stay behind."""
    from fastsr.many import Many

    take, turn = Many._result, iter(range(30))

    def interrupt(self: Many, started: Any) -> np.ndarray:
        if next(turn) == 6:
            raise KeyboardInterrupt
        return take(self, started)

    monkeypatch.setattr(Many, "_result", interrupt)
    before = threading.active_count()
    assert main(["upscale", str(album), str(tmp_path / "out"), "-m", "nearest"]) == 130
    assert capsys.readouterr().err == "fastsr: interrupted\n"
    assert threading.active_count() == before
    done = listing(tmp_path / "out")
    assert len(done) <= 6
    for name in done:
        np.testing.assert_array_equal(files.read_picture(tmp_path / "out" / name), files.read_picture(album / name).repeat(2, 0).repeat(2, 1))
