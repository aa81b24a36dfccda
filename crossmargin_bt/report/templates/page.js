"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const SERIES = 6;
  const PRINT_WIDTH = 680;
  const drawn = new Set();
  let range = null; // visible part of the time axis, null for all
  let following = false;

  // Times are encoded as integer steps since the first.
  const unpacked = (x) => {
    if (!x || x.steps === undefined) return x;
    const bytes = Uint8Array.from(atob(x.steps), (one) => one.charCodeAt(0));
    const steps = x.wide ? new Float64Array(bytes.buffer) : new Uint32Array(bytes.buffer);
    return Array.from(steps, (step) => x.start + x.unit * step);
  };

  const seriesColour = (n) => (n < 0 ? colour("--price") : colour(`--series-${n % SERIES}`));

  const themedTrace = (trace) => {
    const themed = { ...trace, x: unpacked(trace.x) };
    const meta = trace.meta || {};
    if (meta.scale === "diverging") {
      themed.colorscale = [[0, "#b35806"], [0.5, colour("--middle")], [1, "#2166ac"]];
    } else if (meta.scale === "rising") {
      themed.colorscale = "Cividis";
    } else if (meta.series !== undefined) {
      const own = seriesColour(meta.series);
      if (trace.line) themed.line = { ...trace.line, color: own };
      if (trace.marker) themed.marker = { ...trace.marker, color: own };
      if (trace.fill) themed.fillcolor = colour("--rule");
    }
    return themed;
  };

  const layoutOf = (figure, width) => {
    const ink = colour("--ink");
    const axis = { gridcolor: colour("--rule"), linecolor: colour("--rule"), zerolinecolor: colour("--faint"), automargin: true };
    const own = figure.layout;
    const layout = {
      ...own,
      margin: { l: 8, r: 12, t: 12, b: 8 },
      paper_bgcolor: colour("--panel"),
      plot_bgcolor: colour("--panel"),
      font: { color: ink, size: 12, family: "system-ui, sans-serif" },
      hovermode: "closest",
      legend: { orientation: "h", y: -0.15, font: { size: 11 } },
      hoverlabel: { align: "left", namelength: -1 },
      xaxis: { ...axis, ...(figure.linked ? { type: "date" } : {}), ...(own.xaxis || {}) },
      yaxis: { ...axis, ...(own.yaxis || {}) },
      shapes: (own.shapes || []).map((shape) => ({ ...shape, line: { ...shape.line, color: colour("--faint") } })),
      autosize: !width,
    };
    if (width) layout.width = width;
    if (figure.linked && range) layout.xaxis = { ...layout.xaxis, range: [...range], autorange: false };
    return layout;
  };

  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["lasso2d", "select2d"] };

  const draw = (element, width) => {
    const figure = figures[element.id];
    const first = !drawn.has(element.id);
    Plotly.react(element, figure.data.map(themedTrace), layoutOf(figure, width), CONFIG);
    drawn.add(element.id);
    element.dataset.drawn = "true";
    if (!first) return;
    if (figure.linked) element.on("plotly_relayout", (change) => follow(element, change));
    element.on("plotly_click", (click) => open(click.points[0].customdata));
  };

  const follow = (element, change) => {
    if (following) return;
    if (change["xaxis.autorange"]) range = null;
    else if (change["xaxis.range"]) range = change["xaxis.range"];
    else if (change["xaxis.range[0]"] !== undefined) range = [change["xaxis.range[0]"], change["xaxis.range[1]"]];
    else return;
    following = true;
    const update = range ? { "xaxis.range": [...range], "xaxis.autorange": false } : { "xaxis.autorange": true };
    const others = [...drawn].filter((id) => id !== element.id && figures[id].linked);
    Promise.all(others.map((id) => Plotly.relayout(id, update))).finally(() => { following = false; });
  };

  const open = (id) => {
    const event = typeof id === "string" && document.getElementById(id);
    if (!event) return;
    if (event.tagName === "DETAILS") event.open = true;
    event.scrollIntoView({ block: "center" });
  };

  const elements = [...document.querySelectorAll(".chart")];
  const redraw = (width) => elements.filter((one) => drawn.has(one.id)).forEach((one) => draw(one, width));

  const preferred = matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => { root.dataset.theme = theme; redraw(); };
  root.dataset.theme = preferred.matches ? "dark" : "light";
  preferred.addEventListener("change", () => show(preferred.matches ? "dark" : "light"));
  document.getElementById("theme").addEventListener("click", () => show(root.dataset.theme === "dark" ? "light" : "dark"));

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      draw(entry.target);
    }
  }, { rootMargin: "600px" });
  elements.forEach((one) => seen.observe(one));

  let before = "light";
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    elements.forEach((one) => draw(one, PRINT_WIDTH));
  });
  addEventListener("afterprint", () => show(before));
})();
