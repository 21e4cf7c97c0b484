"""Drive Debian's Chromium over its debugging pipe: open a page with the network off, see what goes wrong."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]
PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Chromium:
    """One browser with one page; `open` gives back the page's faults."""

    def __init__(self) -> None:
        self.home = tempfile.mkdtemp()
        self.to, self.faults, self.last = None, [], 0
        read_here, write_there = os.pipe()
        read_there, write_here = os.pipe()
        # the browser reads commands on descriptor 3 and answers on 4; 8 and 9 keep the two from overwriting each other
        join = f'exec 8<&{read_there} 9>&{write_there}; exec 3<&8 4>&9; exec "$@"'
        offline = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={self.home}"]
        self.process = subprocess.Popen(
            ["bash", "-c", join, "chromium", PROGRAM, *FLAGS, *offline],
            pass_fds=(read_there, write_there),
            stderr=subprocess.DEVNULL,
        )
        os.close(read_there)
        os.close(write_there)
        self.out, self.back, self.rest = write_here, read_here, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    session: str | None = None

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=10)
        shutil.rmtree(self.home, ignore_errors=True)

    def call(self, method: str, **parameters) -> dict:
        """Send a command and wait for its answer; events that come in between are noted."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.out, json.dumps(message).encode() + b"\0")
        while (answer := self.receive()).get("id") != self.last:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def receive(self) -> dict:
        while b"\0" not in self.rest:
            piece = os.read(self.back, 1 << 16)
            assert piece, "Chromium went away"
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        event = json.loads(message)
        self.note(event.get("method"), event.get("params", {}))
        return event

    def note(self, method: str | None, event: dict) -> None:
        """Keep what a reader's console would show in red, and every request that leaves the machine."""
        if method == "Runtime.exceptionThrown":
            self.faults.append(f"script error: {event['exceptionDetails'].get('exception', {}).get('description')}")
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.faults.append(f"log: {event['entry']['text']} {event['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            self.faults.append(f"console: {[a.get('value', a.get('description')) for a in event['args']]}")
        elif method == "Network.requestWillBeSent" and event["request"]["url"].split(":")[0] in ("http", "https", "ws"):
            self.faults.append(f"outside request: {event['request']['url']}")
        elif method == "Network.loadingFailed" and not event.get("canceled"):
            self.faults.append(f"not loaded ({event['type']}): {event['errorText']}")

    def open(self, page: Path, width: int = 1280, height: int = 900, dark: bool = False, query: str = "") -> list[str]:
        """Load a page, wait until its formulas are set, give back its faults."""
        self.faults = []
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        still = [{"name": "prefers-reduced-motion", "value": "reduce"}]  # or colours are looked at while they fade
        self.call("Emulation.setEmulatedMedia", features=scheme + still)
        self.call("Page.navigate", url=page.resolve().as_uri() + (f"?q={query}" if query else ""))
        while self.receive().get("method") != "Page.loadEventFired":
            pass
        self.evaluate("window.MathJax ? MathJax.startup.promise.then(() => 0) : 0")
        return self.faults

    def evaluate(self, script: str):
        """The value of a JavaScript expression on the page, promises awaited."""
        result = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")
