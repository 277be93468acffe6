// Values on hover, touch and arrow keys, and the switch between light and dark. The page reads as well without it.
(() => {
  "use strict";
  const root = document.documentElement;
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.hidden = true;
  document.body.append(tip);
  const said = document.createElement("div");
  said.className = "hidden";
  said.setAttribute("aria-live", "polite");
  document.body.append(said);

  const button = document.getElementById("theme");
  const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const name = () => { button.textContent = dark() ? "Light" : "Dark"; button.setAttribute("aria-label", "Switch to " + (dark() ? "light" : "dark") + " colours"); };
  button.hidden = false;
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; name(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);
  name();

  const hide = () => { tip.hidden = true; };
  const show = (text, x, y, aloud) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(6, Math.min(x + 14, innerWidth - box.width - 6)) + "px";
    tip.style.top = (y - box.height - 14 < 6 ? y + 18 : y - box.height - 14) + "px";
    if (aloud) said.textContent = text;
  };
  const round = (value) => String(+(+value).toPrecision(4));
  const inside = (svg, event) => new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  const outside = (svg, x, y) => new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());

  // Each kind of chart answers pick(point) and step(by) with what to say and where.
  const lines = (svg) => {
    const series = JSON.parse(svg.dataset.lines);
    const [left, right, , bottom, x0, x1, y0, y1] = svg.dataset.box.split(",").map(Number);
    const top = +svg.dataset.box.split(",")[2];
    const xs = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
    if (!xs.length) return null;
    const cross = svg.querySelector("path.cross");
    let at = -1;
    const percent = svg.dataset.unit === "%";
    const word = (value) => percent ? (100 * value).toFixed(2) + "%" : round(value);
    const tell = () => {
      const x = xs[at], px = left + (x - x0) / (x1 - x0) * (right - left);
      cross.setAttribute("d", `M${px} ${top}V${bottom}`);
      const rows = series.flatMap((one) => {
        const i = one.x.indexOf(x);
        if (i < 0 || one.y[i] === null) return [];
        return [`${one.n}: ${word(one.y[i])}` + (one.e && one.e[i] ? ` ± ${word(one.e[i])}` : "")];
      });
      const first = series.find((one) => one.x.includes(x));
      const py = bottom - (first.y[first.x.indexOf(x)] - y0) / (y1 - y0) * (bottom - top);
      return [[`${svg.dataset.x}: ${round(x)}`, ...rows].join("\n"), px, py];
    };
    return {
      pick: (point) => {
        const x = x0 + (point.x - left) / (right - left) * (x1 - x0);
        at = xs.reduce((best, one, i) => Math.abs(one - x) < Math.abs(xs[best] - x) ? i : best, 0);
        return tell();
      },
      step: (by) => { at = Math.max(0, Math.min(xs.length - 1, at + by)); return tell(); },
      leave: () => cross.setAttribute("d", ""),
    };
  };
  const heat = (svg) => {
    const epochs = svg.dataset.epochs.split(",");
    const [left, top, side] = svg.dataset.box.split(",").map(Number);
    const bytes = Uint8Array.from(atob(svg.dataset.heat), (c) => c.charCodeAt(0));
    const n = epochs.length, cell = side / n, cross = svg.querySelector("rect.cross");
    const value = (i, j) => {
      const [a, b] = i < j ? [i, j] : [j, i];
      const k = 2 * (a * n - a * (a - 1) / 2 + b - a);
      return (bytes[k] + 256 * bytes[k + 1]) / 1e4;
    };
    let row = 0, column = -1;
    const tell = () => {
      const x = left + column * cell, y = top + side - (row + 1) * cell;
      cross.setAttribute("x", x); cross.setAttribute("y", y);
      cross.setAttribute("width", cell); cross.setAttribute("height", cell);
      return [`epochs ${epochs[column]} and ${epochs[row]}\ndistance ${round(value(row, column))}`, x + cell / 2, y];
    };
    return {
      pick: (point) => {
        const j = Math.floor((point.x - left) / cell), i = Math.floor((top + side - point.y) / cell);
        if (i < 0 || j < 0 || i >= n || j >= n) return null;
        [row, column] = [i, j];
        return tell();
      },
      step: (by, up) => {
        column = Math.max(0, Math.min(n - 1, column + by));
        row = Math.max(0, Math.min(n - 1, row + (up || 0)));
        return tell();
      },
      leave: () => { cross.setAttribute("width", 0); cross.setAttribute("height", 0); },
    };
  };
  const bars = (svg) => {
    const all = [...svg.querySelectorAll("[data-tip]")];
    if (!all.length) return null;
    let at = -1;
    const off = () => all.forEach((one) => one.classList.remove("on"));
    const tell = () => {
      off();
      all[at].classList.add("on");
      const box = all[at].getBBox();
      return [all[at].dataset.tip, box.x + box.width / 2, box.y];
    };
    return {
      pick: (point, target) => { at = all.indexOf(target.closest("[data-tip]")); if (at < 0) { off(); return null; } return tell(); },
      step: (by) => { at = Math.max(0, Math.min(all.length - 1, at + by)); return tell(); },
      leave: off,
    };
  };

  for (const svg of document.querySelectorAll("svg.chart")) {
    const kind = "lines" in svg.dataset ? lines : "heat" in svg.dataset ? heat : "bars" in svg.dataset ? bars : null;
    let chart = kind && kind(svg);
    if (!chart) continue;
    const point = (event) => {
      const found = chart.pick(inside(svg, event), event.target);
      if (found) show(found[0], event.clientX, event.clientY); else hide();
    };
    svg.addEventListener("pointermove", point);
    svg.addEventListener("pointerdown", point);
    svg.addEventListener("pointerleave", () => { hide(); chart.leave(); });
    svg.addEventListener("blur", () => { hide(); chart.leave(); });
    svg.addEventListener("keydown", (event) => {
      const by = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (event.key === "Escape") { hide(); chart.leave(); }
      if (!by || (by[0] === 0 && kind !== heat)) return;
      event.preventDefault();
      const found = chart.step(...by);
      const place = outside(svg, found[1], found[2]);
      show(found[0], place.x, place.y, true);
    });
  }
})();
