#!/usr/bin/env python3
"""Looks at a report in headless Chromium: python3 tests/report_browser.py REPORT.html [--shots FOLDER] [--browser chromium]

Needs Chromium (Debian: apt-get install chromium) and nothing but Python's own library. At 360 and 1280 px, light and dark, it takes a screenshot and fails on console errors and
warnings, on any request beyond the file itself, on horizontal overflow, on charts without a text alternative, on words that leave their chart, overlap the next one or are too
small to read, and where hovering, arrow keys or the switch between light and dark do nothing. It also prints the page to PDF. Not part of `cargo test`: a fresh machine has no
browser.
"""

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# What is asked of every page, in the page itself. Returns a list of complaints.
CHECK = r"""
(() => {
  const bad = [], wide = document.documentElement;
  if (wide.scrollWidth > wide.clientWidth) {
    const out = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > wide.clientWidth + 1 && !e.closest(".scroll"));
    bad.push(`overflow: ${wide.scrollWidth} px of ${wide.clientWidth}: ` + out.slice(0, 3).map(e => e.outerHTML.slice(0, 120)).join(" | "));
  }
  for (const svg of document.querySelectorAll("svg.chart")) {
    const name = (svg.getAttribute("aria-label") || "").slice(0, 60);
    if (svg.getAttribute("role") !== "img" || name.length < 10) bad.push("a chart has no text alternative");
    if (!svg.closest("figure").querySelector("details table")) bad.push(`no table: ${name}`);
    const frame = svg.getBoundingClientRect(), words = [...svg.querySelectorAll("text")];
    const boxes = words.map(word => word.getBoundingClientRect());
    words.forEach((word, i) => {
      const box = boxes[i], size = parseFloat(getComputedStyle(word).fontSize) * frame.width / svg.viewBox.baseVal.width;
      if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)
        bad.push(`"${word.textContent}" leaves its chart: ${name}`);
      if (size < 9) bad.push(`"${word.textContent}" is ${size.toFixed(1)} px high: ${name}`);
      for (let j = 0; j < i; j++) {
        const other = boxes[j], x = Math.min(box.right, other.right) - Math.max(box.left, other.left);
        const y = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
        if (x > 2 && y > 5) bad.push(`"${word.textContent}" covers "${words[j].textContent}": ${name}`);
      }
    });
    for (const path of svg.querySelectorAll("path, rect, circle, text")) {
      for (const a of path.attributes) if (/NaN|Infinity|undefined/.test(a.value)) bad.push(`${a.name}="${a.value.slice(0, 40)}": ${name}`);
    }
  }
  return bad;
})()
"""

HOVER = r"""
(() => {
  const bad = [], tip = document.getElementById("tip");
  for (const svg of document.querySelectorAll("svg.chart")) {
    const name = svg.getAttribute("aria-label").slice(0, 60);
    const part = [...svg.querySelectorAll("[data-tip]")].find(e => e.getBoundingClientRect().width > 1) || svg;
    const box = part.getBoundingClientRect();
    const at = { clientX: box.left + box.width * .45, clientY: box.top + box.height * .55, bubbles: true, pointerType: "mouse" };
    part.dispatchEvent(new PointerEvent("pointermove", at));
    if (tip.hidden || !tip.textContent) bad.push(`nothing on hover: ${name}`);
    svg.dispatchEvent(new PointerEvent("pointerleave", {}));
    if (!tip.hidden) bad.push(`the value stays: ${name}`);
    svg.focus();
    svg.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
    if (tip.hidden || !tip.textContent) bad.push(`nothing on arrow keys: ${name}`);
    svg.blur();
  }
  const button = document.getElementById("theme"), ground = () => getComputedStyle(document.body).backgroundColor, before = ground();
  button.click();
  if (ground() === before) bad.push("the switch changes nothing");
  button.click();
  if (ground() !== before) bad.push("the switch does not switch back");
  return bad;
})()
"""


class Browser:
    """Chromium over its debugging pipe: messages are JSON, each ended by a zero byte."""

    def __init__(self, program, profile):
        here_read, there_write = os.pipe()
        there_read, here_write = os.pipe()

        def hand_over():
            # The browser expects to read from 3 and to write to 4.
            read, write = os.dup(there_read), os.dup(there_write)
            os.dup2(read, 3)
            os.dup2(write, 4)

        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--remote-debugging-pipe"]
        command = [program, *flags, f"--user-data-dir={profile}", "about:blank"]
        self.process = subprocess.Popen(command, preexec_fn=hand_over, close_fds=False, stderr=subprocess.DEVNULL)
        os.close(there_read)
        os.close(there_write)
        self.input, self.output = os.fdopen(here_write, "wb"), os.fdopen(here_read, "rb")
        self.number, self.events, self.rest = 0, [], b""

    def receive(self):
        while b"\0" not in self.rest:
            piece = os.read(self.output.fileno(), 1 << 20)
            if not piece:
                sys.exit("the browser went away")
            self.rest += piece
        message, self.rest = self.rest.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, session=None, **parameters):
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.input.write(json.dumps(message).encode() + b"\0")
        self.input.flush()
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, event):
        while not any(e.get("method") == event for e in self.events):
            self.events.append(self.receive())

    def close(self):
        self.call("Browser.close")
        self.process.wait(timeout=30)


def look(browser, page, width, theme, shots):
    """One look at one page; returns complaints."""
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ["Page", "Runtime", "Log", "Network"]:
        browser.call(f"{domain}.enable", session)
    phone = width < 600
    browser.call("Emulation.setDeviceMetricsOverride", session, width=width, height=800, deviceScaleFactor=2 if phone else 1, mobile=phone)
    browser.call("Emulation.setEmulatedMedia", session, features=[{"name": "prefers-color-scheme", "value": theme}])
    browser.events.clear()
    browser.call("Page.navigate", session, url=page.resolve().as_uri())
    browser.wait("Page.loadEventFired")
    bad = []
    for script in [CHECK, HOVER]:
        result = browser.call("Runtime.evaluate", session, expression=script, returnByValue=True)
        if "exceptionDetails" in result:
            bad.append(str(result["exceptionDetails"].get("exception", result)))
        bad += result["result"].get("value") or []
    for event in browser.events:
        what = event.get("params", {})
        match event.get("method"):
            case "Runtime.consoleAPICalled" if what["type"] in ("error", "warning", "assert"):
                bad.append(f"console: {what['args']}")
            case "Runtime.exceptionThrown":
                bad.append(f"exception: {what['exceptionDetails']}")
            case "Log.entryAdded":
                bad.append(f"log: {what['entry']['text']}")
            case "Network.requestWillBeSent" if what["request"]["url"] != page.resolve().as_uri() and not what["request"]["url"].startswith("data:"):
                bad.append(f"asks for {what['request']['url']}")
    if shots:
        shot = browser.call("Page.captureScreenshot", session, format="png", captureBeyondViewport=True)
        (shots / f"{page.stem}-{width}-{theme}.png").write_bytes(base64.b64decode(shot["data"]))
        if width > 600 and theme == "dark":
            pdf = browser.call("Page.printToPDF", session, printBackground=False, preferCSSPageSize=True)
            (shots / f"{page.stem}.pdf").write_bytes(base64.b64decode(pdf["data"]))
    browser.call("Target.closeTarget", targetId=target)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--shots", type=Path, help="folder for screenshots and PDF")
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None))
    given = parser.parse_args()
    if not given.browser:
        sys.exit("no Chromium found: apt-get install chromium, or give --browser")
    if given.shots:
        given.shots.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(given.browser, profile)
        for page in given.pages:
            for width in [360, 1280]:
                for theme in ["light", "dark"]:
                    bad = look(browser, page, width, theme, given.shots)
                    failed += bool(bad)
                    print(f"{page} {width} px {theme}: {'ok' if not bad else ''}")
                    for complaint in list(dict.fromkeys(bad))[:12]:
                        print(f"  {complaint}")
        browser.close()
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
