// Panes over one time axis: each asks for its own points; a null breaks the line; exchanges lie over each other.
"use strict";
(() => {
  const place = document.getElementById("chart");
  if (!place || !window.Plotly) return;
  const state = document.getElementById("chart-state");
  const { symbol, step, from, to } = place.dataset;
  const exchanges = place.dataset.exchanges.split(",");
  const specs = JSON.parse(place.dataset.specs).filter((spec) => exchanges.includes(spec.exchange));
  const MINUTES = { "1m": 1, "5m": 5, "15m": 15, "1h": 60, "4h": 240, "1d": 1440 };
  const STEPS_BACK = 300;
  const COLOURS = ["#c3a0ff", "#5fdc98", "#ffcb5c", "#6cc4ff", "#ff8296", "#e8e4f0"];
  const DASHES = ["solid", "9px,2px", "3px,2px", "9px,2px,2px,2px", "14px,3px"];
  const PANES = [
    { metrics: ["ohlcv"], title: "Price", share: 4 },
    { metrics: ["ohlcv"], title: "Volume", share: 1.3, volume: true },
    { metrics: ["oi"], title: "Open interest", share: 1.6 },
    { metrics: ["pfr", "ppr", "fr"], title: "Premium, funding", share: 1.6, format: ".3~%" },
    { metrics: ["lsr"], title: "Long/short", share: 1.4 },
    { metrics: ["lq"], title: "Liquidated, USD", share: 1.4 },
  ];

  const ask = async (spec) => {
    const end = to || String(Date.now());
    const begin = from || String((to ? new Date(to).getTime() || Date.now() : Date.now()) - STEPS_BACK * MINUTES[step] * 60000);
    const query = new URLSearchParams({ symbol, step, from: begin, to: end });
    const answer = await fetch(`/api/chart/${encodeURIComponent(spec.perpspec)}?${query}`);
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    return { ...body, metric: spec.metric, code: spec.perpspec.slice(0, spec.perpspec.lastIndexOf("-")) };
  };

  const codes = [...new Set(specs.map((spec) => spec.perpspec.slice(0, spec.perpspec.lastIndexOf("-"))))];
  const look = (code) => {
    const number = codes.indexOf(code);
    return { color: COLOURS[number % COLOURS.length], dash: DASHES[number % DASHES.length] };
  };

  // A value between two holes has no line: it is drawn as a dot, as events are. Only those: a dot for each of ten
  // thousand points takes seconds.
  const line = (points, column, axis, name, shape) => {
    const values = points.columns[column];
    const isHole = (at) => (values[at] ?? null) === null;
    const dots = [...values.keys()].filter((at) => !isHole(at) && (points.events || (isHole(at - 1) && isHole(at + 1))));
    const same = { type: "scatter", legendgroup: points.code, yaxis: axis, connectgaps: false, opacity: 0.8 };
    return [
      { ...same, mode: "lines", name, x: points.ts, y: values, hovertemplate: `${name} %{y}<extra></extra>`,
        line: { ...look(points.code), width: 1.3, shape: shape || "linear", simplify: true } },
      ...(dots.length ? [{ ...same, mode: "markers", x: dots.map((at) => points.ts[at]), y: dots.map((at) => values[at]),
        hoverinfo: "skip", marker: { size: 5, color: look(points.code).color } }] : []),
    ];
  };

  // Two paths instead of a bar for each step: ten thousand of them are drawn at once. plotly fills across holes, so the
  // area goes down to nothing there, and the line above it breaks.
  const steps = (points, values, axis, name, color) => {
    const ends = [...points.ts, points.ts.at(-1) + MINUTES[step] * 60000]; // the last step has a width too
    const held = [...values, values.at(-1)];
    const same = { type: "scatter", mode: "lines", legendgroup: points.code, yaxis: axis, x: ends, connectgaps: false };
    return [
      { ...same, y: held.map((value) => value ?? 0), hoverinfo: "skip", line: { width: 0, shape: "hv" }, fill: "tozeroy", fillcolor: `${color}2e` },
      { ...same, y: held, name, line: { color, width: 0.8, shape: "hv" }, hovertemplate: `${name} %{y}<extra></extra>` },
    ];
  };

  const draws = {
    ohlcv: (points, axis, pane, isFirst) => {
      const { color } = look(points.code);
      if (pane.volume) {
        return steps(points, points.columns.v, axis, `${points.code} volume`, color);
      }
      const { o, h, l, c } = points.columns;
      // One exchange as candles; the others as lines over them, or nobody could read either.
      if (!isFirst || points.ts.length > 1000) return line(points, "c", axis, `${points.code} close`);
      return [{ type: "candlestick", name: points.code, legendgroup: points.code, yaxis: axis,
        x: points.ts, open: o, high: h, low: l, close: c,
        increasing: { line: { color: "#5fdc98", width: 1 }, fillcolor: "#140c21" },
        decreasing: { line: { color: "#ff8296", width: 1 }, fillcolor: "#ff8296" } }];
    },
    oi: (points, axis) => line(points, "oi", axis, `${points.code} open interest`),
    pfr: (points, axis) => line(points, "pfr", axis, `${points.code} premium`),
    ppr: (points, axis) => line(points, "ppr", axis, `${points.code} predicted`),
    fr: (points, axis) => line(points, "fr", axis, `${points.code} funding`, "hv"),
    lsr: (points, axis) => line(points, "lsr", axis, `${points.code} long/short`),
    // Longs upwards, shorts downwards: told apart without their colours too.
    lq: (points, axis) => [
      ...steps(points, points.columns.lql, axis, `${points.code} longs`, "#ff8296"),
      ...steps(points, points.columns.lqs.map((value) => (value === null ? null : -value)), axis, `${points.code} shorts`, "#5fdc98"),
    ],
  };

  const layoutOf = (panes) => {
    const total = panes.reduce((sum, pane) => sum + pane.share, 0);
    const axis = { gridcolor: "#2f2249", zerolinecolor: "#4b3a70", linecolor: "#4b3a70", tickfont: { size: 11 }, fixedrange: true };
    const layout = {
      paper_bgcolor: "#1d1330", plot_bgcolor: "#140c21", font: { color: "#f0eafa", size: 12 },
      margin: { l: 76, r: 14, t: 26, b: 34 }, hovermode: "x unified", barmode: "overlay", bargap: 0.1, dragmode: "zoom",
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0, font: { size: 11 } }, showlegend: true,
      hoverlabel: { bgcolor: "#281b42", font: { color: "#f0eafa" } },
      xaxis: { ...axis, type: "date", fixedrange: false, rangeslider: { visible: false }, anchor: "free", position: 0,
        showspikes: true, spikemode: "across", spikethickness: 1, spikecolor: "#8f7ab8", spikedash: "dot" },
    };
    let top = 1;
    panes.forEach((pane, index) => {
      const height = pane.share / total;
      layout[`yaxis${index ? index + 1 : ""}`] = {
        ...axis, domain: [Math.max(0, top - height + 0.012), Math.max(0.01, top - 0.012)], fixedrange: true,
        title: { text: pane.title, font: { size: 11 }, standoff: 4 }, exponentformat: "SI", tickformat: pane.format || "",
      };
      top -= height;
    });
    return layout;
  };

  // Without a begin that somebody asked for, the axis begins where the data do.
  const rangeOf = (points) => {
    const firsts = points.map((one) => one.ts[Math.min(...Object.values(one.columns).map((values) => {
      const at = values.findIndex((value) => value !== null);
      return at < 0 ? values.length - 1 : at;
    }))]);
    const begin = Math.min(...firsts);
    const end = Math.max(...points.map((one) => one.ts.at(-1)));
    const pad = Math.max((end - begin) / 50, MINUTES[step] * 60000);
    return [begin - pad, end + pad];
  };

  const draw = async () => {
    const results = await Promise.allSettled(specs.map(ask));
    const failed = results.filter((result) => result.status === "rejected").map((result) => result.reason.message);
    const points = results.filter((result) => result.status === "fulfilled").map((result) => result.value)
      .filter((one) => Object.values(one.columns).some((column) => column.some((value) => value !== null)));
    if (failed.length) state.textContent = `Could not be read: ${[...new Set(failed)].join("; ")}`;
    if (!points.length) {
      if (!failed.length) state.textContent = `No rows of ${symbol} in this range.`;
      return;
    }
    const panes = PANES.filter((pane) => points.some((one) => pane.metrics.includes(one.metric)));
    const traces = [];
    panes.forEach((pane, index) => {
      const axis = `y${index ? index + 1 : ""}`;
      // The fullest one first: it is drawn as candles.
      const filled = (one) => Object.values(one.columns)[0].reduce((sum, value) => sum + (value !== null), 0);
      const inside = points.filter((one) => pane.metrics.includes(one.metric)).sort((a, b) => filled(b) - filled(a));
      inside.forEach((one, number) => traces.push(...draws[one.metric](one, axis, pane, number === 0)));
    });
    // One entry per exchange: a click on it shows or hides all of its lines.
    const seen = new Set();
    for (const trace of traces) {
      trace.showlegend = !seen.has(trace.legendgroup);
      if (trace.showlegend) trace.name = trace.legendgroup;
      seen.add(trace.legendgroup);
    }
    place.style.height = `${Math.round(130 + panes.reduce((sum, pane) => sum + pane.share, 0) * 88)}px`;
    const begin = performance.now();
    const layout = layoutOf(panes);
    if (!from) layout.xaxis.range = rangeOf(points);
    await window.Plotly.newPlot(place, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    const drawn = Math.round(performance.now() - begin);
    place.dataset.drawnMs = drawn;
    const count = points.reduce((sum, one) => sum + one.ts.length, 0);
    if (!failed.length) state.textContent = `${count.toLocaleString("en")} points drawn in ${drawn} ms. Drag to zoom, double click to zoom out. A break in a line is a hole in the data. Times are UTC.`;
  };
  draw();
})();
