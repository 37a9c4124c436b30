// Learning curves: one SVG per chart. Drag to zoom in, double click for all, hover for the values,
// click a name to hide its curve in every chart. DATA is put in front of this file by page.py:
// {axes: [[key, title]], styles: {name: {color, dash}}, maxBands, fitFrom, charts: [{id,
// ofBudgets, series: [{name, points: {key: []}, mean, low, high}], lines: [{name, value}]}]}
(() => {
  const SVG = "http://www.w3.org/2000/svg", W = 1080, H = 380;
  const BOX = { left: 62, right: W - 24, top: 10, bottom: H - 40 };
  const hidden = new Set(), charts = [];
  let axis = DATA.axes[0][0];

  const addNode = (parent, name, attributes = {}, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.appendChild(element);
    return element;
  };
  const color = (name) => DATA.styles[name].color;
  const format = (x) => {
    const size = Math.abs(x);
    if (size >= 1e4) return `${+(x / 1e3).toPrecision(3)}k`;
    return String(+x.toPrecision(4));
  };
  const ticks = (low, high) => {
    const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
    const positions = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step / 1e6; t += step) positions.push(t);
    return positions;
  };
  const shown = (chart) => chart.series.filter((s) => !hidden.has(s.name));

  // The beginning of the runs dwarfs the rest: the first view need not hold it, nor references.
  const fullView = (chart) => {
    const xs = [], ys = [];
    for (const s of shown(chart)) {
      const points = s.points[axis], last = points[points.length - 1];
      xs.push(...points);
      const late = points.map((_, i) => i).filter((i) => points[i] >= DATA.fitFrom * last);
      const fitted = late.length > 1 ? late : points.map((_, i) => i);
      for (const i of fitted) ys.push(s.low[i], s.high[i]);
    }
    if (!xs.length) return [0, 1, 0, 1];
    const [low, high] = [Math.min(...ys), Math.max(...ys)], edge = (high - low || 1) * 0.05;
    const [first, last] = [Math.min(...xs), Math.max(...xs)];
    const margin = chart.ofBudgets ? (last - first) * 0.01 : 0;  // for the dots
    return [first - margin, last + margin, low - edge, high + edge];
  };

  const draw = (chart) => {
    const { svg } = chart, [x0, x1, y0, y1] = chart.view || fullView(chart);
    const X = (x) => BOX.left + ((x - x0) / (x1 - x0)) * (BOX.right - BOX.left);
    const Y = (y) => BOX.bottom - ((y - y0) / (y1 - y0)) * (BOX.bottom - BOX.top);
    chart.scale = { x0, x1, y0, y1, X, Y };
    svg.replaceChildren();
    const clip = addNode(addNode(svg, "defs"), "clipPath", { id: `clip-${chart.id}` });
    const box = { x: BOX.left, y: BOX.top, width: BOX.right - BOX.left, height: BOX.bottom - BOX.top };
    addNode(clip, "rect", box);
    for (const x of ticks(x0, x1)) {
      addNode(svg, "line", { x1: X(x), x2: X(x), y1: BOX.top, y2: BOX.bottom, class: "grid" });
      addNode(svg, "text", { x: X(x), y: BOX.bottom + 16, class: "tick", "text-anchor": "middle" }, format(x));
    }
    for (const y of ticks(y0, y1)) {
      addNode(svg, "line", { x1: BOX.left, x2: BOX.right, y1: Y(y), y2: Y(y), class: "grid" });
      addNode(svg, "text", { x: BOX.left - 6, y: Y(y) + 4, class: "tick", "text-anchor": "end" }, format(y));
    }
    const title = DATA.axes.find(([key]) => key === axis)[1];
    addNode(svg, "text", { x: (BOX.left + BOX.right) / 2, y: H - 6, class: "tick", "text-anchor": "middle" }, title);
    const inside = addNode(svg, "g", { "clip-path": `url(#clip-${chart.id})` });
    if (shown(chart).length <= DATA.maxBands) for (const s of shown(chart)) drawBand(chart, inside, s);
    for (const s of shown(chart)) {
      const { color: stroke, dash } = DATA.styles[s.name];
      const points = joined(chart, s, s.mean).join(" ");
      addNode(inside, "polyline", { points, stroke, "stroke-dasharray": dash, class: "curve" });
      if (chart.ofBudgets) s.mean.forEach((y, i) => addNode(inside, "circle", {
        cx: chart.scale.X(s.points[axis][i]), cy: chart.scale.Y(y), r: 4, fill: stroke }));
    }
    drawReferences(chart, inside);
    chart.overlay = addNode(inside, "g");
  };

  const joined = (chart, s, ys) => {
    const { X, Y } = chart.scale;
    return ys.map((y, i) => `${X(s.points[axis][i])},${Y(y)}`);
  };
  const drawBand = (chart, parent, s) => {
    const points = [...joined(chart, s, s.high), ...joined(chart, s, s.low).reverse()].join(" ");
    addNode(parent, "polygon", { points, fill: color(s.name), opacity: 0.14 });
  };

  // A line where it is in sight, else its name and value at the margin.
  const drawReferences = (chart, parent) => {
    const { y0, y1, Y } = chart.scale, outside = { above: 0, below: 0 };
    for (const { name, value } of chart.lines) {
      let y = Y(value) - 4, text = name;
      if (value >= y0 && value <= y1) {
        addNode(parent, "line", { x1: BOX.left, x2: BOX.right, y1: Y(value), y2: Y(value), class: "reference" });
        y = Math.max(y, BOX.top + 12);
      } else if (value > y1) {
        y = BOX.top + 12 + 15 * outside.above++;
        text = `\u2191 ${name}: ${value.toFixed(3)}`;
      } else {
        y = BOX.bottom - 5 - 15 * outside.below++;
        text = `\u2193 ${name}: ${value.toFixed(3)}`;
      }
      addNode(parent, "text", { x: BOX.right - 4, y, class: "name", "text-anchor": "end" }, text);
    }
  };

  // The position of the mouse, in pixels and in the units of the chart.
  const mousePosition = (chart, event) => {
    const frame = chart.svg.getBoundingClientRect();
    const clamp = (v, low, high) => Math.min(Math.max(v, low), high);
    const px = clamp(((event.clientX - frame.left) / frame.width) * W, BOX.left, BOX.right);
    const py = clamp(((event.clientY - frame.top) / frame.height) * H, BOX.top, BOX.bottom);
    const { x0, x1, y0, y1 } = chart.scale;
    const x = x0 + ((px - BOX.left) / (BOX.right - BOX.left)) * (x1 - x0);
    const y = y0 + ((BOX.bottom - py) / (BOX.bottom - BOX.top)) * (y1 - y0);
    return { px, py, x, y };
  };

  const closest = (xs, x) => {
    let best = 0;
    xs.forEach((other, i) => { if (Math.abs(other - x) < Math.abs(xs[best] - x)) best = i; });
    return best;
  };
  const nearest = (chart, at) => {
    const away = (s) => Math.abs(s.mean[closest(s.points[axis], at.x)] - at.y);
    return shown(chart).reduce((a, b) => (away(b) < away(a) ? b : a));
  };

  const hover = (chart, at) => {
    chart.overlay.replaceChildren();
    const { X, Y } = chart.scale, lines = [];
    if (shown(chart).length > DATA.maxBands) drawBand(chart, chart.overlay, nearest(chart, at));
    for (const s of shown(chart)) {
      const xs = s.points[axis], best = closest(xs, at.x);
      addNode(chart.overlay, "circle", { cx: X(xs[best]), cy: Y(s.mean[best]), r: 3.5, fill: color(s.name) });
      lines.push([s.mean[best], `${s.name} at ${format(xs[best])}: ${s.mean[best].toFixed(4)}` +
        ` (seeds ${s.low[best].toFixed(4)} to ${s.high[best].toFixed(4)})`]);
    }
    lines.sort((a, b) => a[0] - b[0]);
    chart.readout.textContent = lines.map((line) => line[1]).join("\n");
  };

  const drag = (chart, from, to) => {
    chart.overlay.replaceChildren();
    const sides = { x: Math.min(from.px, to.px), y: Math.min(from.py, to.py) };
    const size = { width: Math.abs(from.px - to.px), height: Math.abs(from.py - to.py) };
    addNode(chart.overlay, "rect", { ...sides, ...size, class: "zoom" });
  };

  const listen = (chart) => {
    let from = null;
    chart.svg.addEventListener("mousedown", (event) => { from = mousePosition(chart, event); event.preventDefault(); });
    chart.svg.addEventListener("mousemove", (event) => {
      const at = mousePosition(chart, event);
      if (from) drag(chart, from, at); else hover(chart, at);
    });
    window.addEventListener("mouseup", (event) => {
      if (!from) return;
      const to = mousePosition(chart, event), start = from;
      from = null;
      if (Math.abs(start.px - to.px) > 8 && Math.abs(start.py - to.py) > 8) {
        const pair = (a, b) => [Math.min(a, b), Math.max(a, b)];
        chart.view = [...pair(start.x, to.x), ...pair(start.y, to.y)];
      }
      draw(chart);
    });
    chart.svg.addEventListener("dblclick", () => { chart.view = null; draw(chart); });
    chart.svg.addEventListener("mouseleave", () => { chart.readout.textContent = ""; });
  };

  const legend = () => {
    for (const button of document.querySelectorAll("[data-curve]")) {
      button.addEventListener("click", () => {
        const name = button.dataset.curve;
        if (!hidden.delete(name)) hidden.add(name);
        button.classList.toggle("off", hidden.has(name));
        charts.forEach(draw);
      });
    }
    for (const choice of document.querySelectorAll("input[name=axis]")) {
      choice.addEventListener("change", () => {
        axis = choice.value;
        charts.forEach((chart) => { chart.view = null; draw(chart); });
      });
    }
  };

  for (const data of DATA.charts) {
    const svg = document.getElementById(data.id);
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    const chart = { ...data, svg, readout: svg.nextElementSibling, view: null };
    charts.push(chart);
    draw(chart);
    listen(chart);
  }
  legend();
})();
