"""The part of W3C WebDriver that the tests of the report need, with the standard library.

Debian's ``chromium-driver`` speaks it over HTTP; these few calls need no client such as selenium.
"""

import base64
import json
import re
import subprocess
import time
import urllib.request

# No name resolves, so any network request fails and is logged.
OPTIONS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


class Browser:
    """A headless Chromium; close it with `quit`."""

    def __init__(self, chromedriver, chromium):
        self.driver = subprocess.Popen(
            [chromedriver, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in self.driver.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self.base = f"http://127.0.0.1:{found[1]}"
                break
        else:
            raise RuntimeError(f"{chromedriver} did not start")
        self.session = ""
        try:
            always = {
                "goog:chromeOptions": {"binary": chromium, "args": OPTIONS},
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            created = self._call("POST", "/session", {"capabilities": {"alwaysMatch": always}})
            self.session = f"/session/{created['sessionId']}"
        except BaseException:
            self.quit()
            raise

    def open(self, url):
        self._call("POST", f"{self.session}/url", {"url": url})

    def run(self, script, *args):
        """Return what a script, the body of a function, returns in the page."""
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": args})

    def wait(self, script, seconds=60):
        """Wait until a script returns something true."""
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"not true within {seconds} s: {script}"
            time.sleep(0.2)

    def resize(self, width, height):
        """Make the page as wide and high, in CSS pixels, as a device would."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._cdp("Emulation.setDeviceMetricsOverride", size)

    def screenshot(self, width, height):
        """Return a PNG of the page from its top, beyond what the window shows."""
        # Not the driver's own command: it gives up after ten seconds, and a busy machine may need more.
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        options = {"format": "png", "captureBeyondViewport": True, "clip": clip}
        return base64.b64decode(self._cdp("Page.captureScreenshot", options)["data"])

    def pdf(self):
        """Print to PDF with the page size of the style sheet."""
        options = {"preferCSSPageSize": True, "printBackground": True}
        return base64.b64decode(self._cdp("Page.printToPDF", options)["data"])

    def log(self, kind):
        """Return what was logged since the last call: of ``browser`` or ``performance``."""
        return self._call("POST", f"{self.session}/se/log", {"type": kind})

    def quit(self):
        if self.session:
            self._call("DELETE", self.session)
        self.driver.terminate()
        self.driver.wait(20)
        self.driver.stdout.close()

    def _cdp(self, command, parameters):
        return self._call("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"})
        request.get_method = lambda: method
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()[:2000]}") from error
