"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const tip = chart.querySelector(".tip");
  const off = { series: new Set(), kind: new Set() };
  const shown = (one) => !off.series.has(one.s) && !off.kind.has(one.k);
  let ring = null;

  const hide = () => { tip.hidden = true; if (ring) ring.remove(); ring = null; };

  const say = (svg, one, point) => {
    hide();
    const [x, y, place, value] = point;
    tip.replaceChildren();
    const name = document.createElement("b");
    name.textContent = one.s + (one.k === "network" ? ", finite networks" : "");
    tip.append(name, [place, value].filter(Boolean).join(": "));
    tip.hidden = false;
    ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    for (const [key, v] of Object.entries({ cx: x, cy: y, r: 6, fill: "none", stroke: "currentColor" }))
      ring.setAttribute(key, v);
    svg.append(ring);
    const at = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM());
    const box = chart.getBoundingClientRect();
    const left = Math.min(Math.max(at.x - box.left - tip.offsetWidth / 2, 0), box.width - tip.offsetWidth);
    const above = at.y - box.top - tip.offsetHeight - 12;
    tip.style.left = `${left}px`;
    tip.style.top = `${above < -20 ? at.y - box.top + 14 : above}px`;
  };

  for (const svg of chart.querySelectorAll("svg[data-points]")) {
    const data = JSON.parse(svg.dataset.points);
    let series = 0, index = -1;
    svg.addEventListener("pointermove", (event) => {
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
      let best = null, least = 30 ** 2;
      data.forEach((one, i) => shown(one) && one.p.forEach((point, j) => {
        const far = (point[0] - at.x) ** 2 + (point[1] - at.y) ** 2;
        if (far < least) { least = far; best = [i, j]; }
      }));
      if (!best) return hide();
      [series, index] = best;
      say(svg, data[series], data[series].p[index]);
    });
    svg.addEventListener("pointerleave", hide);
    svg.addEventListener("blur", hide);
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
      if (event.key === "Escape") hide();
      const can = data.map((one, i) => i).filter((i) => shown(data[i]));
      if (!step || !can.length) return;
      event.preventDefault();
      const now = Math.max(can.indexOf(series), 0);
      series = can[(now + step[0] + can.length) % can.length];
      index = Math.min(Math.max(index + step[1], 0), data[series].p.length - 1);
      say(svg, data[series], data[series].p[index]);
    });
  }

  for (const button of chart.querySelectorAll("button[data-switch]")) {
    button.addEventListener("click", () => {
      const { switch: what, value } = button.dataset;
      const on = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", on);
      if (on) off[what].delete(value); else off[what].add(value);
      hide();
      for (const part of chart.querySelectorAll("[data-series]"))
        part.classList.toggle("off", !shown({ s: part.dataset.series, k: part.dataset.kind }));
    });
  }
}
let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details.printed:not([open])")];
  closed.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
