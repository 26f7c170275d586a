"""How the networks that come with fastsr got better in their last training, from their model cards.

    python benchmarks/curves.py best --plot docs/assets/curves.png

One plot for each scale: PSNR of the averaged weights on the pictures of --val, which is Set5 for all that are shipped, and what the smaller network
has now that it began as.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from plots import GRID, LIMIT, OURS, figure, save

from fastsr import shipped


def main() -> int:
    """Draw the plot. Exit code 1 when no card of that name has a curve."""
    p = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    p.add_argument("name", help="fast, balanced, best, ...")
    p.add_argument("--plot", type=Path, required=True, metavar="PNG", help="where the plot goes")
    args = p.parse_args()
    files = shipped.files()
    cards = [shipped.card(path) for (name, _), path in files.items() if name == args.name]
    cards = [c for c in cards if c.get("curve", {}).get("step")]
    if not cards:
        print(f"no card of '{args.name}' has a curve: ship it with benchmarks/ship.py")
        return 1
    drawn, axes = figure(4.0 * len(cards), 3.2, len(cards))
    for card, ax in zip(cards, [axes] if len(cards) == 1 else axes, strict=True):
        ax.plot(card["curve"]["step"], card["curve"]["psnr"], color=OURS["f32"], label=f"{args.name} x{card['scale']}")
        first = (card["settings"].get("init") or "").partition("_x")[0]
        if first != args.name and (first, card["scale"]) in files:
            scores = shipped.card(files[first, card["scale"]])["evaluation"]["sets"]
            if "Set5" in scores:
                ax.axhline(scores["Set5"]["psnr"], color=LIMIT, linestyle="--", label=f"{first} as it is shipped")
        ax.set_xlabel(f"step ({card['hours']:.1f} hours in all)")
        ax.set_ylabel("PSNR of Set5, dB")
        ax.grid(color=GRID)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(loc="lower right", frameon=False)
    save(drawn, args.plot)
    print(f"wrote {args.plot}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
