"""A headless Chromium for tests, spoken to in its DevTools protocol over two pipes: no driver and no port."""

from __future__ import annotations

import base64
import importlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PATIENCE = 120
KEYS = {" ": "Space", "ArrowLeft": "ArrowLeft", "ArrowRight": "ArrowRight", "ArrowUp": "ArrowUp", "ArrowDown": "ArrowDown", "Tab": "Tab"}


def installed() -> str | None:
    """Path of a Chromium or Chrome, None when there is none, or no POSIX system to speak to it."""
    return None if os.name != "posix" else next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """One page in a browser of its own. requests: the addresses asked for, but data URIs. errors: what went wrong in scripts and was logged."""

    def __init__(self, folder: Path, width: int = 1200, height: int = 900) -> None:
        path = installed()
        assert path
        fcntl = importlib.import_module("fcntl")
        to_read, write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe())
        read, to_write = (fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in os.pipe())
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage", "--force-color-profile=srgb"]
        options += ["--remote-debugging-pipe", f"--user-data-dir={folder}", f"--window-size={width},{height}", "--disable-background-networking"]

        def connect() -> None:
            os.dup2(to_read, 3)
            os.dup2(to_write, 4)

        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            [path, *options, "about:blank"], stdin=null, stdout=null, stderr=null, pass_fds=(3, 4), preexec_fn=connect, start_new_session=True
        )
        os.close(to_read)
        os.close(to_write)
        self.read, self.write = read, write
        self.rest = b""
        self.number = itertools.count(1)
        self.requests: list[str] = []
        self.errors: list[str] = []
        targets = self.call("Target.getTargets", session=None)["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    session: str | None = None

    def close(self) -> None:
        """End the browser."""
        try:
            self.call("Browser.close", session=None)
        except (OSError, AssertionError):
            self.process.kill()
        self.process.wait(PATIENCE)
        os.close(self.read)
        os.close(self.write)

    def call(self, method: str, session: Any = ..., **parameters: Any) -> dict[str, Any]:
        """A command of the protocol and its result."""
        number = next(self.number)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if (session := self.session if session is ... else session) is not None:
            message["sessionId"] = session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._next(deadline)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._event(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self.read, 1 << 20)
            assert data, "the browser has ended"
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _event(self, message: dict[str, Any]) -> None:
        method, facts = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent" and not facts["request"]["url"].startswith("data:"):
            self.requests.append(facts["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(facts["exceptionDetails"].get("exception", {}).get("description", str(facts)))
        elif method == "Log.entryAdded" and facts["entry"]["level"] == "error":
            self.errors.append(facts["entry"]["text"])

    def open(self, url: str) -> None:
        """Go there and wait until everything is loaded and drawn."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
        self.settle()

    def run(self, code: str) -> Any:
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until an expression is true."""
        deadline = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never became true: {condition}"
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait for two frames, and for all pictures on the page to be decoded."""
        self.run("Promise.all([...document.images].map((i) => i.decode().catch(() => 0)))")
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def resize(self, width: int, height: int, ratio: float = 1, touch: bool = False) -> None:
        """Size of the window in CSS pixels, and device pixels for each of them."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2 if touch else 1)

    def dark(self, on: bool) -> None:
        """Whether the system asks for dark pages."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if on else "light"}])

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """(x, y, width, height) of an element in the window."""
        x, y, w, h = self.run(f"(({{x, y, width, height}}) => [x, y, width, height])(document.querySelector({selector!r}).getBoundingClientRect())")
        return x, y, w, h

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """mousePressed, mouseReleased, mouseMoved or mouseWheel."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 5) -> None:
        """Press, move and release the left button."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        for k in range(1, steps + 1):
            at = [a + (b - a) * k / steps for a, b in zip(start, end)]
            self.mouse("mouseMoved", at[0], at[1], button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", buttons=0, clickCount=1)

    def click(self, selector: str) -> None:
        """Press the left button in the middle of an element."""
        self.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'nearest'}})")
        x, y, w, h = self.box(selector)
        self.drag((x + w / 2, y + h / 2), (x + w / 2, y + h / 2), 1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """touchStart, touchMove or touchEnd with fingers at these points."""
        self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y, "id": k} for k, (x, y) in enumerate(points)])

    def key(self, key: str, *, up: bool = True) -> None:
        """Press a key, and let it go."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=KEYS.get(key, ""), **text)
        if up:
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=KEYS.get(key, ""))

    def screenshot(self, path: Path) -> None:
        """What is seen, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
