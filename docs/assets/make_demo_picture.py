"""Draws docs/assets/demo_small.png and demo_pair.png, the pictures of the README: a harbour with the things upscalers are judged by.

Thin rigging, lettering, brick, shingle, a checked flag, a fractal tree, ripples, a soft sky. Drawn with NumPy and Pillow at eight times its size from
a fixed seed, then made small. The picture and this script are free for any use (CC0-1.0).

    python docs/assets/make_demo_picture.py                        # rewrites demo_small.png beside the script
    python docs/assets/make_demo_picture.py --pair fast_x4         # and demo_pair.png, with fastsr
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 320, 200
ZOOM = 8  # canvas pixels per picture pixel
HORIZON = 128
DETAIL = (58, 64, 178, 154)  # left, top, right, bottom of the pair's part of the picture

Point = tuple[float, float]
Colour = tuple[int, int, int]


class Canvas:
    """A picture drawn in units of final pixels, ZOOM times finer inside."""

    def __init__(self, background: np.ndarray) -> None:
        self.image = Image.fromarray(background)
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: list[Point], width: float, colour: Colour) -> None:
        self.draw.line([(x * ZOOM, y * ZOOM) for x, y in points], fill=colour, width=max(1, round(width * ZOOM)), joint="curve")

    def polygon(self, points: list[Point], colour: Colour) -> None:
        self.draw.polygon([(x * ZOOM, y * ZOOM) for x, y in points], fill=colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        self.draw.ellipse([(x - radius) * ZOOM, (y - radius) * ZOOM, (x + radius) * ZOOM, (y + radius) * ZOOM], fill=colour)

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        self.draw.rectangle([x0 * ZOOM, y0 * ZOOM, x1 * ZOOM, y1 * ZOOM], fill=colour)

    def text(self, x: float, y: float, words: str, size: float, colour: Colour) -> None:
        self.draw.text((x * ZOOM, y * ZOOM), words, fill=colour, font=ImageFont.load_default(size * ZOOM), anchor="mm")


def mix(a: Colour, b: Colour, t: float) -> Colour:
    """Colour between `a` (t = 0) and `b` (t = 1)."""
    return tuple(round(p + (q - p) * t) for p, q in zip(a, b))  # type: ignore[return-value]


def sky_and_sea() -> np.ndarray:
    """(H, W, 3) uint8 RGB: an evening sky over rippled water with the sun's track."""
    y, x = np.mgrid[0 : HEIGHT * ZOOM, 0 : WIDTH * ZOOM].astype(np.float32) / ZOOM
    t = np.clip(y / HORIZON, 0, 1)[..., None] ** 1.4
    sky = (1 - t) * np.array([58, 110, 170]) + t * np.array([250, 205, 150])
    glow = np.exp(-(((x - 214) / 60) ** 2 + ((y - 104) / 34) ** 2))[..., None]
    sky = sky + glow * np.array([30, 26, -18])
    depth = np.clip((y - HORIZON) / (HEIGHT - HORIZON), 1e-3, 1)
    far = 5.5 / (depth + 0.3) + 3 * np.log(1 / depth)
    wave = np.sin(3.1 * far + 0.05 * x + 1.4 * np.sin(0.043 * x + 1.3 * far)) + 0.6 * np.sin(7.3 * far - 0.11 * x + 1.1 * np.sin(0.09 * x))
    deep, bright = np.array([24, 62, 92]), np.array([120, 158, 172])
    crest = np.clip((wave + 0.2) / 1.8, 0, 1)[..., None] ** 2
    sea = deep + (bright - deep) * crest * (0.85 - 0.5 * depth[..., None])
    track = (np.exp(-(((x - 214) / (9 + 30 * depth)) ** 2)) * (wave > 0.35))[..., None]
    sea = sea * (1 - 0.75 * track) + 0.75 * track * np.array([255, 216, 150])
    return np.clip(np.where((y < HORIZON)[..., None], sky, sea), 0, 255).astype(np.uint8)


def hills(c: Canvas, rng: np.random.Generator) -> None:
    """Two ridges of random midpoint noise on the horizon."""
    for base, height, colour in ((118, 14, (122, 132, 150)), (124, 9, (86, 104, 112))):
        ridge = np.zeros(WIDTH + 1)
        for octave in range(1, 7):
            knots = rng.standard_normal(2**octave + 2)
            ridge += np.interp(np.arange(WIDTH + 1), np.linspace(0, WIDTH, len(knots)), knots) / 1.7**octave
        c.polygon([(0, HORIZON), *[(x, base - height * 0.5 * float(r)) for x, r in enumerate(ridge)], (WIDTH, HORIZON)], colour)


def house(c: Canvas, rng: np.random.Generator) -> None:
    """The brick inn with its shingled roof, its windows and its sign."""
    left, right, top, bottom = 4, 92, 76, 152
    c.box(left, top, right, bottom, (196, 180, 160))
    for row in range(19):
        y = top + 4 * row
        for col in range(-1, 12):
            x = left + 8 * col + (4 if row % 2 else 0)
            shade = 0.82 + 0.3 * rng.random()
            x0, x1 = max(x, left), min(x + 7.3, right)
            if x0 < x1:
                c.box(x0, y, x1, y + 3.3, (round(150 * shade), round(74 * shade), round(58 * shade)))
    for row in range(9):
        y = top + 2 - 4.2 * row
        inset = 4.6 * row
        for col in range(22):
            x = left - 7 + inset + col * 5 + (2.5 if row % 2 else 0)
            if x + 5 < right + 7 - inset:
                shade = 0.75 + 0.4 * rng.random()
                colour = (round(72 * shade), round(82 * shade), round(98 * shade))
                c.polygon([(x, y), (x + 4.7, y), (x + 4.7, y - 3.8), (x + 2.35, y - 5.2), (x, y - 3.8)], colour)
                c.line([(x, y), (x + 4.7, y)], 0.5, (34, 38, 48))
    for x in (14, 68):
        c.box(x - 1.6, 102, x + 13.6, 127, (242, 236, 222))
        c.box(x, 103.5, x + 12, 125.5, (64, 84, 104))
        c.polygon([(x, 125.5), (x, 117), (x + 12, 106), (x + 12, 125.5)], (250, 208, 128))
        c.line([(x + 6, 103.5), (x + 6, 125.5)], 0.8, (242, 236, 222))
        for y in (110.8, 118.1):
            c.line([(x, y), (x + 12, y)], 0.8, (242, 236, 222))
    c.box(37, 112, 57, 152, (52, 70, 58))
    for x in (41, 45, 49, 53):
        c.line([(x, 112), (x, 152)], 0.4, (28, 40, 34))
    c.disc(54, 134, 1.2, (232, 196, 96))
    c.box(19, 83.5, 77, 98, (30, 40, 52))
    c.box(20, 84.5, 76, 97, (246, 236, 206))
    c.text(48, 90.7, "Harbour Inn", 9.6, (30, 40, 52))


def tree(c: Canvas, rng: np.random.Generator) -> None:
    """A fractal tree: twigs halve and turn, leaves sit at the tips."""
    stack = [(114.0, 156.0, -math.pi / 2, 17.0, 3.4)]
    tips: list[Point] = []
    while stack:
        x, y, angle, length, width = stack.pop()
        x1, y1 = x + length * math.cos(angle), y + length * math.sin(angle)
        c.line([(x, y), (x1, y1)], width, mix((70, 50, 40), (110, 92, 60), 1 - width / 3.4))
        if length < 3.2:
            tips.append((x1, y1))
            continue
        for turn in (-0.42, 0.06, 0.48) if length > 8 else (-0.5, 0.45):
            stack.append((x1, y1, angle + turn + 0.16 * rng.standard_normal(), length * (0.72 + 0.1 * rng.random()), width * 0.66))
    for x, y in tips:
        for _ in range(3):
            lx, ly, turn = x + 1.5 * rng.standard_normal(), y + 1.5 * rng.standard_normal(), rng.uniform(0, 2 * math.pi)
            colour = mix((44, 84, 44), (176, 178, 70), rng.random() ** 1.5)
            dx, dy = 1.7 * math.cos(turn), 1.7 * math.sin(turn)
            c.polygon([(lx - dx, ly - dy), (lx - 0.35 * dy, ly + 0.35 * dx), (lx + dx, ly + dy), (lx + 0.35 * dy, ly - 0.35 * dx)], colour)


def ship(c: Canvas, x: float, y: float, size: float) -> None:
    """A two-master: hull with planks, thin rigging and ratlines, furled and set sails, a checked flag."""

    def at(u: float, v: float) -> Point:
        return x + u * size, y + v * size

    ink, wood = (40, 30, 28), (104, 62, 40)
    for sail in (
        [(-21, -18), (-3, -50), (-4, -18)],
        [(-4, -17), (-3, -50), (17, -17), (8, -15)],
        [(18, -16), (18.4, -43), (37, -16), (28, -14)],
    ):
        c.polygon([at(u, v) for u, v in sail], (246, 238, 220))
        (u0, v0), (u1, v1), (u2, v2) = sail[0], sail[1], sail[2]
        for k in range(1, 6):
            t = k / 6
            c.line([at(u0 + (u1 - u0) * t, v0 + (v1 - v0) * t), at(u2 + (u1 - u2) * t, v2 + (v1 - v2) * t)], 0.3, (196, 180, 156))
    c.polygon([at(-26, -7), at(42, -8), at(36, 4), at(-18, 4)], wood)
    for v in (-5.2, -2.8, -0.4, 2):
        c.line([at(-24 + (v + 7) * 0.6, v), at(40.5 - (v + 7) * 0.5, v)], 0.4, (66, 38, 26))
    c.line([at(-26, -7), at(42, -8)], 1.1, (236, 222, 190))
    for k in range(9):
        c.disc(*at(-17 + 6 * k, -2.1), 0.9, (30, 24, 22))
    for mast, head in ((-3, -56), (18, -48)):
        c.line([at(mast, -7), at(mast, head)], 1.1, ink)
        for v in (-18, -34):
            c.line([at(mast - 7, v), at(mast + 9, v + 1)], 0.7, ink)
        for u in (-9, -6, 6, 9):
            c.line([at(mast, head + 5), at(mast + u, -7)], 0.3, ink)
        for k in range(1, 9):
            t = k / 9
            v = head + 5 + (-7 - head - 5) * t
            c.line([at(mast - 9 * t, v), at(mast - 6 * t, v)], 0.25, ink)
            c.line([at(mast + 6 * t, v), at(mast + 9 * t, v)], 0.25, ink)
    c.line([at(-26, -7), at(-38, -13)], 0.9, ink)
    for a, b in (((-38, -13), (-3, -54)), ((-34, -11), (-3, -40)), ((-3, -54), (18, -46)), ((18, -46), (42, -8)), ((-3, -40), (18, -30))):
        c.line([at(*a), at(*b)], 0.35, ink)
    for row in range(4):
        for col in range(6):
            u, v = -2.6 + 1.9 * col, -56 + 1.6 * row
            v0, v1 = v + 0.7 * math.sin(1.52 * col), v + 0.7 * math.sin(1.52 * col + 1.52)
            corners = [at(u, v0), at(u + 1.9, v1), at(u + 1.9, v1 + 1.6), at(u, v0 + 1.6)]
            c.polygon(corners, (200, 40, 44) if (row + col) % 2 else (250, 248, 240))


def lighthouse(c: Canvas) -> None:
    """A striped tower on a rock, with a railing and a lamp."""
    c.polygon([(270, 140), (281, 129), (304, 127), (320, 136), (320, 146), (266, 146)], (74, 72, 76))
    for k in range(7):
        y0, y1 = 62 + 9.6 * k, 62 + 9.6 * (k + 1)
        w0, w1 = 6 + 0.75 * k, 6 + 0.75 * (k + 1)
        c.polygon([(294 - w0, y0), (294 + w0, y0), (294 + w1, y1), (294 - w1, y1)], (206, 52, 46) if k % 2 else (248, 244, 234))
        c.polygon([(294 + w0 * 0.45, y0), (294 + w0, y0), (294 + w1, y1), (294 + w1 * 0.45, y1)], (158, 40, 40) if k % 2 else (206, 200, 194))
    c.box(285.5, 59.5, 302.5, 62, (40, 44, 52))
    for k in range(9):
        c.line([(286 + 2 * k, 54.5), (286 + 2 * k, 60)], 0.35, (40, 44, 52))
    c.line([(285.5, 54.5), (302.5, 54.5)], 0.5, (40, 44, 52))
    c.box(289, 46, 299, 59.5, (255, 236, 160))
    for x in (289, 292.3, 295.7, 299):
        c.line([(x, 46), (x, 59.5)], 0.5, (40, 44, 52))
    c.polygon([(287.5, 46), (294, 38), (300.5, 46)], (160, 40, 40))
    c.line([(294, 38), (294, 31)], 0.5, (40, 44, 52))


def quay(c: Canvas, rng: np.random.Generator) -> None:
    """Stone quay with cobbles, a bollard, lettering on a crate and a lobster net."""
    c.polygon([(0, 150), (140, 150), (152, 200), (0, 200)], (120, 112, 104))
    for row in range(9):
        y = 151 + 1.2 * row + 0.52 * row * row
        tall = 1.9 + 0.7 * row
        for col in range(40):
            wide = tall * 1.7
            x = col * wide * 1.08 + (wide / 2 if row % 2 else 0)
            if x + wide < 139 + (y - 150) * 0.24:
                shade = 0.8 + 0.35 * rng.random()
                colour = (round(150 * shade), round(140 * shade), round(128 * shade))
                c.draw.rounded_rectangle([x * ZOOM, y * ZOOM, (x + wide) * ZOOM, (y + tall) * ZOOM], radius=tall * 0.35 * ZOOM, fill=colour)
    c.box(14, 160, 62, 190, (168, 124, 74))
    for y in (160, 170, 180):
        c.line([(14, y), (62, y)], 0.6, (104, 70, 40))
    c.line([(14, 160), (14, 190), (62, 190), (62, 160)], 1.2, (104, 70, 40))
    c.text(38, 168, "fastsr", 13, (44, 28, 20))
    c.text(38, 182.5, "No. 7  FRAGILE", 6, (44, 28, 20))
    for k in range(15):
        t = k / 14
        c.line([(76 + 44 * t, 162), (70 + 56 * (1 - t), 192)], 0.3, (226, 214, 180))
        c.line([(70 + 56 * t, 192), (120 - 44 * (1 - t), 162)], 0.3, (226, 214, 180))
    c.line([(75, 162), (121, 162)], 0.9, (200, 150, 60))
    c.line([(69, 192), (127, 192)], 0.9, (200, 150, 60))


def gulls(c: Canvas) -> None:
    """Five gulls of two arcs each."""
    for x, y, s in ((150, 30, 5), (164, 40, 4), (178, 24, 3.4), (250, 34, 4.4), (262, 22, 3)):
        for side in (-1, 1):
            c.line([(x + side * s * t, y - 1.6 * s * math.sin(math.pi * t**0.7) * 0.4) for t in np.linspace(0, 1, 12)], 0.55, (250, 250, 250))


def draw() -> Image.Image:
    """The whole scene, WIDTH*ZOOM x HEIGHT*ZOOM, RGB."""
    rng = np.random.default_rng(7)
    c = Canvas(sky_and_sea())
    c.disc(214, 106, 9, (255, 240, 196))
    hills(c, rng)
    lighthouse(c)
    ship(c, 196, 146, 1.25)
    house(c, rng)
    quay(c, rng)
    tree(c, rng)
    gulls(c)
    return c.image


def pair(small: Image.Image, model: str) -> Image.Image:
    """A detail of the small picture, its pixels enlarged on the left and upscaled by fastsr with `model` on the right."""
    import fastsr

    network = fastsr.load(model)
    upscaled = Image.fromarray(np.ascontiguousarray(network.upscale(np.asarray(small)[..., ::-1])[..., ::-1]))
    zoom = upscaled.width // small.width
    left = small.crop(DETAIL).resize(((DETAIL[2] - DETAIL[0]) * zoom, (DETAIL[3] - DETAIL[1]) * zoom), Image.Resampling.NEAREST)
    right = upscaled.crop(tuple(v * zoom for v in DETAIL))  # type: ignore[arg-type]
    both = Image.new("RGB", (2 * left.width + 8, left.height), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width + 8, 0))
    return both


def main() -> None:
    """Write demo_small.png, and demo_pair.png when a model is named."""
    parser = argparse.ArgumentParser(description="Draw docs/assets/demo_small.png and, with --pair, docs/assets/demo_pair.png.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder to write to")
    parser.add_argument("--pair", metavar="MODEL", help="also upscale the picture with this model (fast_x4 in the README)")
    args = parser.parse_args()
    small = draw().resize((WIDTH, HEIGHT), Image.Resampling.BOX)
    small.save(args.out / "demo_small.png", optimize=True)
    if args.pair:
        pair(small, args.pair).save(args.out / "demo_pair.png", optimize=True)


if __name__ == "__main__":
    main()
