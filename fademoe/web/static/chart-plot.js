// Turns series and their declared plots into what plotly draws: traces, shapes and a layout. Holds no state.
export const COLOURS = ["#6cc4ff", "#ffcb5c", "#b48cff", "#e8e4f0", "#e08a4a", "#9db2d8"]; // never a candle's colour
export const UP = "#5fdc98";
export const DOWN = "#ff8296";
export const BANDS = {
  missing: { colour: "#c23a5a66", word: "missing", meaning: "missing: wanted, but not stored yet" },
  absent: { colour: "#5b86cc55", word: "absent", meaning: "absent: the exchange does not have it" },
  unrequested: { colour: "#8a7da833", word: "not requested", meaning: "not requested" },
};
const DASHES = ["solid", "7px,2px", "3px,2px", "8px,2px,2px,2px"];
const GAP = 0.012; // between two panes, of the chart's height
const CANDLES_MOST = 700; // more than that are drawn as a line of the last column
const LABEL_PX = 84; // a narrower band has no text
const STRIP_PX = 4; // height of the strip that shows the bands of one series
const STRIPS_SHARE = 0.3; // of a pane's height, at most
const READING_PX = 16; // room for the values above the lines

const isNone = (value) => value === null || value === undefined;

// How many decimals tell the labels of an axis apart.
const decimalsOf = ([low, high]) => Math.max(0, Math.ceil(-Math.log10((high - low) / 4)) + 1);

// The right margin holds the longest label of the axes: a small price takes many digits.
export const marginOf = (panes, view, size) => {
  const ranges = rangesOf(panes, view, { ...size, height: size.height || 400 });
  const widths = panes.map((pane) => {
    const [low, high] = ranges[`yaxis${pane.axis.slice(1)}`];
    const largest = Math.max(Math.abs(low), Math.abs(high));
    if (pane.format === "percent" || largest >= 1e6) return 8;
    const decimals = decimalsOf([low, high]);
    return largest.toFixed(0).length * 1.3 + (decimals ? decimals + 1 : 0);
  });
  return { l: 6, r: Math.round(Math.max(8, ...widths) * 6.6) + 10, t: 4, b: 40 };
};

// One colour per exchange; the codes of one exchange differ by their dashes.
export const stylesOf = (specs, exchanges) => {
  const styles = new Map();
  const counts = new Map();
  for (const { code, exchange } of specs) {
    if (styles.has(code)) continue;
    const number = counts.get(exchange) || 0;
    counts.set(exchange, number + 1);
    styles.set(code, { color: COLOURS[exchanges.indexOf(exchange) % COLOURS.length], dash: DASHES[number % DASHES.length] });
  }
  return styles;
};

export const panesOf = (series) => {
  const panes = new Map();
  for (const one of series) {
    for (const plot of one.spec.plots) {
      const pane = panes.get(plot.pane.title) || { ...plot.pane, entries: [] };
      pane.entries.push({ series: one, plot });
      panes.set(plot.pane.title, pane);
    }
  }
  const total = [...panes.values()].reduce((sum, pane) => sum + pane.share, 0);
  let top = 1;
  return [...panes.values()].map((pane, index) => {
    const height = pane.share / total;
    const domain = [Math.max(0, top - height + GAP), top];
    top -= height;
    const inside = [...new Set(pane.entries.map((entry) => entry.series))];
    return { ...pane, axis: index ? `y${index + 1}` : "y", domain, series: inside };
  });
};

export const valueAt = (series, column, time) => {
  const { ts, columns, events, step_ms: step } = series;
  const values = columns[column] || [];
  if (!events) {
    const at = ts.length ? Math.floor((time - ts[0]) / step) : -1;
    return values[at] ?? null;
  }
  let at = ts.length - 1;
  while (at >= 0 && ts[at] > time) at -= 1;
  return at < 0 || series.bands.some((band) => band.start_ms > ts[at] && band.start_ms <= time) ? null : values[at];
};

// The newest row that holds a value of a column: what is shown while no time is pointed at.
export const newestOf = (series, column) => {
  const values = series.columns[column] || [];
  let at = values.length - 1;
  while (at >= 0 && isNone(values[at])) at -= 1;
  return at < 0 ? null : { time: series.ts[at], value: values[at] };
};

export const bandAt = (series, time) => series.bands.find((band) => band.start_ms <= time && time < band.end_ms);

// The first series of a pane with most values is drawn as candles; the others as lines over them.
const pickCandles = (pane, view) => {
  const count = ({ series, plot }) => {
    const values = series.columns[plot.columns[0]] || [];
    return values.reduce((sum, value, at) => sum + (!isNone(value) && series.ts[at] >= view[0] && series.ts[at] <= view[1]), 0);
  };
  const entries = pane.entries.filter(({ series, plot }) =>
    plot.drawing === "candles" && (view[1] - view[0]) / series.step_ms <= CANDLES_MOST);
  return entries.sort((a, b) => count(b) - count(a))[0];
};

const line = ({ series, plot }, column, base, style, shape) => {
  let x = series.ts;
  let y = series.columns[column];
  if (series.events && x.length) { // held until the next row, but not across a band
    const breaks = series.bands.map((band) => band.start_ms).filter((start) => start > x[0]);
    const points = [...x.map((ts, at) => [ts, y[at]]), ...breaks.map((ts) => [ts, null])].sort((a, b) => a[0] - b[0]);
    if (!isNone(points.at(-1)[1]) && series.end_ms > points.at(-1)[0]) points.push([series.end_ms, points.at(-1)[1]]);
    [x, y] = [points.map((point) => point[0]), points.map((point) => point[1])];
  }
  const dots = [...y.keys()].filter((at) => !isNone(y[at]) && isNone(y[at - 1]) && isNone(y[at + 1]));
  const traces = [{ ...base, type: "scatter", mode: "lines", name: `${series.spec.code} ${plot.label}`, x, y, connectgaps: false,
    opacity: 0.85, line: { ...style, width: 1.2, shape, simplify: true } }];
  // A value between two gaps has no line: it is a dot.
  if (dots.length) traces.push({ ...base, type: "scatter", mode: "markers", x: dots.map((at) => x[at]), y: dots.map((at) => y[at]), marker: { size: 4, color: style.color } });
  return traces;
};

// Two paths instead of a bar for each step, so that ten thousand are drawn at once. plotly fills across gaps, so the area
// is zero there, and the line above it breaks.
const area = ({ series, plot }, base, style) => {
  const sign = plot.downward ? -1 : 1;
  const values = series.columns[plot.columns[0]].map((value) => (isNone(value) ? null : sign * value));
  if (!values.length) return [];
  const x = [...series.ts, series.ts.at(-1) + series.step_ms];
  const held = [...values, values.at(-1)];
  const same = { ...base, type: "scatter", mode: "lines", x, connectgaps: false };
  return [
    { ...same, y: held.map((value) => value ?? 0), line: { width: 0, shape: "hv" }, fill: "tozeroy", fillcolor: `${style.color}33` },
    { ...same, y: held, name: `${series.spec.code} ${plot.label}`, line: { ...style, width: 0.9, shape: "hv" } },
  ];
};

export const tracesOf = (panes, view, styles) => panes.flatMap((pane) => {
  const candles = pickCandles(pane, view);
  return pane.entries.flatMap((entry) => {
    const { series, plot } = entry;
    const style = styles.get(series.spec.code);
    const base = { yaxis: pane.axis, hoverinfo: "skip", showlegend: false, legendgroup: series.spec.code };
    if (entry === candles) {
      const [open, high, low, close] = plot.columns.map((column) => series.columns[column]);
      return [{ ...base, type: "candlestick", name: `${series.spec.code} ${plot.label}`, x: series.ts, open, high, low, close,
        increasing: { line: { color: UP, width: 1 }, fillcolor: UP }, decreasing: { line: { color: DOWN, width: 1 }, fillcolor: DOWN } }];
    }
    if (plot.drawing === "area") return area(entry, base, style);
    return line(entry, plot.columns.at(-1), base, style, plot.drawing === "step" ? "hv" : "linear");
  });
});

// Where no series of a pane has rows, the whole pane is shaded; each series has a strip of its own below its lines too.
const sharedBands = (pane) => {
  let shared = null;
  for (const { bands } of pane.series) {
    if (shared === null) shared = bands;
    else shared = shared.flatMap((band) => bands
      .filter((other) => other.start_ms < band.end_ms && other.end_ms > band.start_ms)
      .map((other) => ({ state: other.state === band.state ? band.state : "missing",
        start_ms: Math.max(band.start_ms, other.start_ms), end_ms: Math.min(band.end_ms, other.end_ms) })));
  }
  return shared;
};

const stripsOf = (pane, view) => (pane.series.length < 2 ? []
  : pane.series.filter((series) => series.bands.some((band) => band.start_ms < view[1] && band.end_ms > view[0])));

export const shapesOf = (panes, view, size) => panes.flatMap((pane) => {
  const span = view[1] - view[0];
  const isNear = (band) => band.start_ms < view[1] + span && band.end_ms > view[0] - span;
  const rect = (band, y0, y1, name) => ({ type: "rect", name, xref: "x", yref: `${pane.axis} domain`, layer: "below", line: { width: 0 },
    x0: Math.max(band.start_ms, view[0] - span), x1: Math.min(band.end_ms, view[1] + span), y0, y1, fillcolor: BANDS[band.state].colour });
  // The text is in the middle of what can be seen of a band, not in that of its rectangle, which goes on beside the view.
  const text = (band) => {
    const [x0, x1] = [Math.max(band.start_ms, view[0]), Math.min(band.end_ms, view[1])];
    const { word } = BANDS[band.state];
    return ((x1 - x0) / span) * size.width <= LABEL_PX ? []
      : [{ ...rect(band, 0, 1, `text ${word}`), x0, x1, fillcolor: "transparent", label: { text: word, font: { size: 11, color: "#d8cdec" } } }];
  };
  const shared = sharedBands(pane).filter(isNear).flatMap((band) => [rect(band, 0, 1, `all ${BANDS[band.state].word}`), ...text(band)]);
  const own = stripsOf(pane, view);
  const strip = Math.min(STRIP_PX / ((pane.domain[1] - pane.domain[0]) * size.height), STRIPS_SHARE / own.length);
  const strips = own.flatMap((series, lane) => series.bands.filter(isNear).map((band) =>
    rect(band, lane * strip, (lane + 0.8) * strip, `${series.spec.code} ${BANDS[band.state].word}`)));
  return [...shared, ...strips];
});

// The values of a pane inside the view, with some space around; areas include zero.
const rangeOf = (pane, view, height) => {
  let [low, high] = [Infinity, -Infinity];
  for (const { series, plot } of pane.entries) {
    if (plot.drawing === "area") [low, high] = [Math.min(low, 0), Math.max(high, 0)];
    const sign = plot.downward ? -1 : 1;
    for (const column of plot.columns) {
      const values = series.columns[column] || [];
      values.forEach((value, at) => {
        if (isNone(value) || series.ts[at] > view[1] || (!series.events && series.ts[at] + series.step_ms < view[0])) return;
        low = Math.min(low, sign * value);
        high = Math.max(high, sign * value);
      });
    }
  }
  if (low > high) return [0, 1];
  const spread = high - low || Math.abs(high) * 0.1 || 1;
  const pad = spread * 0.08;
  const areas = pane.entries.every(({ plot }) => plot.drawing === "area");
  const bottom = areas && low === 0 ? 0 : low - pad;
  const top = high + pad + (spread * READING_PX) / height;
  const share = Math.min(STRIPS_SHARE, (stripsOf(pane, view).length * STRIP_PX) / height);
  return [bottom - ((top - bottom) * share) / (1 - share), top];
};

export const rangesOf = (panes, view, size) => Object.fromEntries(panes.map((pane) =>
  [`yaxis${pane.axis.slice(1)}`, rangeOf(pane, view, (pane.domain[1] - pane.domain[0]) * size.height)]));

const tickFormat = (pane, range) => {
  if (pane.format === "percent") return ".4~%";
  if (Math.max(...range.map(Math.abs)) >= 1e6) return ".6~s";
  return `,.${Math.min(20, Math.max(10, decimalsOf(range)))}~f`;
};

export const layoutOf = (panes, view, size, margin, isTouch) => {
  const axis = { gridcolor: "#2a1f42", zerolinecolor: "#4b3a70", linecolor: "#4b3a70", tickfont: { size: 11 }, fixedrange: true };
  const layout = {
    paper_bgcolor: "#1d1330", plot_bgcolor: "#140c21", font: { color: "#d8cdec", size: 12 }, ...size, margin,
    hovermode: false, dragmode: isTouch ? false : "pan", showlegend: false, shapes: shapesOf(panes, view, size),
    xaxis: { ...axis, type: "date", range: view, fixedrange: false, rangeslider: { visible: false }, anchor: "free", position: 0,
      nticks: Math.max(3, Math.floor(size.width / 110)), minallowed: Date.UTC(2010, 0), maxallowed: Date.UTC(2100, 0) },
  };
  const ranges = rangesOf(panes, view, size);
  for (const pane of panes) {
    const name = `yaxis${pane.axis.slice(1)}`;
    const height = (pane.domain[1] - pane.domain[0]) * size.height;
    layout[name] = { ...axis, domain: pane.domain, side: "right", range: ranges[name], nticks: Math.max(3, Math.floor(height / 34)),
      tickformat: tickFormat(pane, ranges[name]), linewidth: 1, showline: true, mirror: true };
  }
  return layout;
};

export const show = (value, format) => {
  if (isNone(value)) return "–";
  if (format === "percent") return `${(value * 100).toLocaleString("en", { maximumSignificantDigits: 4 })} %`;
  if (Math.abs(value) >= 1e6) return value.toLocaleString("en", { notation: "compact", maximumSignificantDigits: 5 });
  return value.toLocaleString("en", { maximumSignificantDigits: 8 });
};
