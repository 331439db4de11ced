// The charts page: what is in view, which points are loaded, the crosshair, and the newest bar. chart-plot.js draws.
import { BANDS, bandAt, DOWN, layoutOf, marginOf, newestOf, panesOf, rangesOf, shapesOf, show, stylesOf, tracesOf, UP, valueAt } from "./chart-plot.js";

const DAY_MS = 86400000;
const LIVE_EVERY_MS = 5000;
const LATE_EVERY_MS = 30000; // rows that come later than the newest bar
const SETTLE_MS = 120; // a wheel or a drag has ended
const LEAST_STEPS = 8; // in view
const EARLIEST_MS = Date.UTC(2010, 0); // the API takes no time before it
const EDGE_SHARE = 0.02; // empty space beside the newest bar
const READINGS_MOST = 8; // values above a pane while no time is pointed at
const FRESH_STEPS = 400; // in view after a step was chosen that does not suit the range

const chart = document.getElementById("chart");
const plot = document.getElementById("plot");
const state = document.getElementById("chart-state");
const live = document.getElementById("chart-live");
const reading = document.getElementById("chart-reading");
const Plotly = window.Plotly;

const start = (config) => {
  const specs = config.specs.filter((spec) => config.chosen.includes(spec.exchange));
  const styles = stylesOf(config.specs, config.exchanges);
  const codes = [...new Set(specs.map((spec) => spec.code))];
  const hidden = new Set();
  const isTouch = matchMedia("(pointer: coarse)").matches;
  let { step, range } = config;
  let view = [0, 0];
  let follows = false;
  let loaded = [0, 0];
  let series = [];
  let panes = [];
  let margin = marginOf([], view, { width: 0, height: 0 });
  let loading = null;
  let crosshair = null; // the time under it
  let newest_ms = 0;
  let asked_ms = 0; // when rows that come late were asked for
  let traced = "";
  let notes = "";

  const names = Object.keys(config.steps).sort((a, b) => config.steps[a] - config.steps[b]);
  const stepMs = () => config.steps[step];
  const edge = () => (view[1] - view[0]) * EDGE_SHARE;
  const iso = (ms) => new Date(ms).toISOString().slice(0, 16).replace("T", " ");

  // ---- points

  const request = async (spec, begin, end, signal) => {
    const query = new URLSearchParams({ symbol: config.symbol, step, from: Math.floor(begin), to: Math.ceil(end) });
    const answer = await fetch(`/api/chart/${encodeURIComponent(spec.perpspec)}?${query}`, { signal });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    return { ...body, spec, end_ms: end };
  };

  const hasValues = (one) => Object.values(one.columns).some((values) => values.some((value) => value !== null));

  const load = async ({ first = false } = {}) => {
    loading?.abort();
    loading = new AbortController();
    const { signal } = loading;
    const now = Date.now();
    const steps = (view[1] - view[0]) / stepMs();
    const pad = Math.max(0, Math.min(steps / 2, (config.points_most - steps) / 2 - 2)) * stepMs();
    const first_ms = Math.max(EARLIEST_MS, view[0] - pad);
    const wanted = [first_ms, Math.max(first_ms + stepMs(), Math.min(view[1] + pad, now))];
    state.textContent = "Loading …";
    const answers = await Promise.allSettled(specs.map((spec) => request(spec, ...wanted, signal)));
    if (signal.aborted) return;
    loading = null;
    const errors = [...new Set(answers.filter((answer) => answer.status === "rejected").map((answer) => answer.reason.message))];
    series = answers.filter((answer) => answer.status === "fulfilled").map((answer) => answer.value);
    [loaded, asked_ms] = [wanted, now];
    chart.dataset.failed = errors.length; // loaded again with the next poll
    notes = errors.length ? `Not loaded: ${errors.join("; ")}. ` : "";
    newest_ms = newest();
    if (first && config.start_ms === null) beginWithData();
    draw();
  };

  // The newest bar of the first pane; events do not come with every step.
  const newestBar = () => panesOf(series.filter((one) => !one.events && hasValues(one)))[0]?.entries
    .map(({ series: one, plot: drawn }) => ({ one, column: drawn.columns.at(-1), ...newestOf(one, drawn.columns.at(-1)) }))
    .sort((a, b) => (b.time || 0) - (a.time || 0))[0];
  const newest = () => newestBar()?.time || 0;

  // Without a chosen range, the view begins where the data do.
  const beginWithData = () => {
    const firsts = series.filter((one) => !one.events && hasValues(one)).map((one) =>
      one.ts[Math.min(...Object.values(one.columns).map((values) => values.findIndex((value) => value !== null)).filter((at) => at >= 0))]);
    if (!firsts.length) return;
    const begin = Math.max(view[0], Math.min(...firsts));
    if (begin - view[0] > (view[1] - view[0]) * 0.1) view = [Math.min(begin - 2 * stepMs(), view[1] - LEAST_STEPS * stepMs()), view[1]];
  };

  // ---- drawing

  const size = () => ({ width: chart.clientWidth, height: chart.clientHeight });

  const fitHeight = () => {
    const total = panes.reduce((sum, pane) => sum + pane.share, 0);
    const room = innerHeight - (document.getElementById("box")?.offsetHeight || 0) - 16;
    chart.style.height = `${Math.round(Math.max(Math.min(total * 88, room), total * 52, 320))}px`;
  };

  const draw = () => {
    const shown = series.filter((one) => !hidden.has(one.spec.code) && (hasValues(one) || one.bands.some((band) => band.state !== "unrequested")));
    panes = panesOf(shown);
    const empty = !shown.some(hasValues);
    chart.classList.toggle("empty-chart", !panes.length);
    showControls();
    if (!panes.length) {
      if (traced) Plotly.purge(plot);
      traced = "";
      state.textContent = notes || `No rows of ${config.symbol} in this range.`;
      showLive();
      return;
    }
    fitHeight();
    const begin = performance.now();
    const traces = tracesOf(panes, view, styles);
    traced = kinds(traces);
    margin = marginOf(panes, view, size());
    Plotly.react(plot, traces, layoutOf(panes, view, size(), margin, isTouch), { scrollZoom: true, displayModeBar: false, doubleClick: false, showTips: false })
      .then(() => {
        const drawn = Math.round(performance.now() - begin);
        chart.dataset.drawnMs = drawn;
        const count = shown.reduce((sum, one) => sum + one.ts.length, 0);
        state.textContent = `${notes}${empty ? `No rows of ${config.symbol} in this range. ` : ""}${count.toLocaleString("en")} points of ${shown.length} series, steps of ${step}. Times are UTC.`;
        attach();
        showReadings();
        showLive();
      });
  };

  const kinds = (traces) => traces.map((trace) => trace.type + trace.name).join();

  // After a pan or a zoom: the axes and the bands follow, unless something has to be drawn in another way.
  const adjust = () => {
    if (kinds(tracesOf(panes, view, styles)) !== traced) return draw();
    const changes = { shapes: shapesOf(panes, view, size()), "xaxis.range": [...view] };
    for (const [name, values] of Object.entries(rangesOf(panes, view, size()))) changes[`${name}.range`] = values;
    Plotly.relayout(plot, changes);
    showControls();
    showReadings();
    return null;
  };

  // ---- the view

  let settling = null;

  // A view of more steps than are drawn takes a longer step.
  const fitStep = () => {
    while ((view[1] - view[0]) / stepMs() > config.points_most && step !== names.at(-1)) step = names[names.indexOf(step) + 1];
  };

  const moveTo = (begin, end, { keepFollowing = false } = {}) => {
    const now = Date.now();
    const longest = Math.min(config.points_most * DAY_MS, now - EARLIEST_MS);
    const span = Math.max(LEAST_STEPS * config.steps["1m"], Math.min(end - begin, longest));
    const latest = now + span / 2;
    const stop = Math.max(EARLIEST_MS + span, Math.min(end, latest));
    view = [stop - span, stop];
    if (range && Math.abs(span / config.ranges[range] - 1) > 2 * EDGE_SHARE) range = null; // it was zoomed
    if (!keepFollowing) follows = stop >= newest_ms + stepMs() && stop <= now + span / 2 && view[0] < newest_ms;
    const before = step;
    fitStep();
    chart.dataset.view = view.join(" ");
    const inside = step === before && view[0] >= loaded[0] - stepMs() && Math.min(view[1], now - 2 * stepMs()) <= loaded[1] + stepMs();
    if (inside && panes.length) adjust();
    else load();
    share();
  };

  const later = (begin, end) => {
    clearTimeout(settling);
    settling = setTimeout(() => moveTo(begin, end), SETTLE_MS);
  };

  const toNewest = (span = view[1] - view[0]) => {
    follows = true;
    const end = Date.now() + span * EDGE_SHARE;
    moveTo(end - span, end, { keepFollowing: true });
  };

  const zoom = (factor) => {
    const span = (view[1] - view[0]) * factor;
    if (follows) return toNewest(span);
    const middle = (view[0] + view[1]) / 2;
    return moveTo(middle - span / 2, middle + span / 2);
  };
  const pan = (part) => {
    const by = (view[1] - view[0]) * part;
    moveTo(view[0] + by, view[1] + by);
  };

  const chooseStep = (name) => {
    step = name;
    range = null;
    loaded = [0, 0];
    const steps = (view[1] - view[0]) / stepMs();
    const span = steps > config.points_most || steps < 2 * LEAST_STEPS ? FRESH_STEPS * stepMs() : view[1] - view[0];
    if (follows) toNewest(span);
    else moveTo(view[1] - span, view[1]);
  };

  const chooseRange = (name) => {
    range = name;
    const span = config.ranges[name];
    const suits = (one) => span / config.steps[one] <= 2000 && span / config.steps[one] >= 24;
    if (!suits(step)) [step, loaded] = [names.find(suits) || names.at(-1), [0, 0]];
    toNewest(span);
  };

  // The address holds the view, so that it can be shared, and comes back after a reload.
  const share = () => {
    const query = new URLSearchParams({ symbol: config.symbol, step });
    const metrics = new URLSearchParams(location.search).getAll("metrics");
    if (metrics.length) query.set("metrics", metrics.join(","));
    if (config.chosen.length < config.exchanges.length) query.set("exchanges", config.chosen.join(","));
    if (follows && range) query.set("range", range);
    else {
      query.set("from", `${iso(view[0])}`);
      if (!follows) query.set("to", `${iso(view[1])}`);
    }
    history.replaceState(null, "", `/charts?${query}`);
  };

  // ---- the newest bar

  const merge = (old, fresh, begin) => {
    const keep = old.ts.findIndex((ts) => ts >= fresh.ts[0]);
    const count = !fresh.ts.length || keep < 0 ? old.ts.length : keep;
    const before = JSON.stringify([old.ts.slice(count), Object.values(old.columns).map((values) => values.slice(count)), old.bands]);
    const cut = old.bands.filter((band) => band.start_ms < begin).map((band) => ({ ...band, end_ms: Math.min(band.end_ms, begin) }));
    const bands = [...cut];
    for (const band of fresh.bands) {
      const last = bands.at(-1);
      if (last && last.state === band.state && last.end_ms >= band.start_ms) last.end_ms = band.end_ms;
      else bands.push(band);
    }
    const after = JSON.stringify([fresh.ts, Object.values(fresh.columns), bands]);
    old.ts = [...old.ts.slice(0, count), ...fresh.ts];
    for (const name of Object.keys(old.columns)) old.columns[name] = [...old.columns[name].slice(0, count), ...(fresh.columns[name] || [])];
    if (fresh.ts.length) old.incomplete = [...old.incomplete.filter((ts) => ts < fresh.ts[0]), ...fresh.incomplete];
    [old.bands, old.end_ms] = [bands, fresh.end_ms];
    if ((old.open_ms ?? begin) >= begin) old.open_ms = fresh.open_ms;
    return before !== after;
  };

  const poll = async () => {
    const now = Date.now();
    const reaches = loaded[1] >= now - 2 * stepMs() - 2 * LIVE_EVERY_MS;
    if (document.hidden || loading) return;
    if (notes) await load();
    if (!reaches) return;
    const known = [...series];
    const stamp = step;
    const isLate = now - asked_ms >= LATE_EVERY_MS;
    if (isLate) asked_ms = now;
    try {
      const changed = await Promise.all(known.map(async (one) => {
        const first = Math.min(now - 2 * one.step_ms, isLate ? one.open_ms ?? now : now);
        const begin = Math.max(loaded[0], now - (config.points_most - 2) * one.step_ms, Math.floor(first / one.step_ms) * one.step_ms);
        const fresh = await request(one.spec, begin, now);
        return series.includes(one) && stamp === step && merge(one, fresh, begin);
      }));
      if (series !== known && !known.every((one) => series.includes(one))) return;
      loaded[1] = Math.max(loaded[1], now);
      const before = newest_ms;
      newest_ms = newest();
      if (follows && newest_ms > before && before) {
        const by = newest_ms - before;
        view = [view[0] + by, view[1] + by];
        chart.dataset.view = view.join(" ");
      }
      if (changed.some(Boolean)) draw();
      else showLive();
    } catch (error) {
      live.className = "live bad";
      live.textContent = `Not live: ${error.message}`;
    }
  };

  const showLive = () => {
    const bar = newestBar();
    live.className = follows && bar?.time ? "live good" : "live";
    live.textContent = bar?.time ? `${follows ? "Live" : "Newest bar"}: ${iso(bar.time)} ${bar.one.spec.code} ${show(bar.value)}` : "No bar yet";
    chart.dataset.newest = bar?.time || 0;
  };

  // ---- the crosshair

  const area = () => {
    return { left: margin.l, top: margin.t, width: chart.clientWidth - margin.l - margin.r, height: chart.clientHeight - margin.t - margin.b };
  };
  const make = (name) => {
    const element = document.createElement("div");
    element.className = name;
    element.setAttribute("aria-hidden", "true");
    chart.append(element);
    return element;
  };
  const [lineX, lineY, tagX, tagY] = ["cross-x", "cross-y", "cross-tag-x", "cross-tag-y"].map(make);

  const showCross = (time, y = null) => {
    crosshair = time;
    const { left, top, width, height } = area();
    const isInside = time !== null && time >= view[0] && time <= view[1];
    const x = left + ((time - view[0]) / (view[1] - view[0])) * width;
    const pane = y === null ? null : panes.find((one) => y >= top + (1 - one.domain[1]) * height && y <= top + (1 - one.domain[0]) * height);
    for (const element of [lineX, tagX]) element.hidden = !isInside;
    for (const element of [lineY, tagY]) element.hidden = !isInside || !pane;
    if (isInside) {
      Object.assign(lineX.style, { left: `${x}px`, top: `${top}px`, height: `${height}px` });
      tagX.textContent = iso(time);
      Object.assign(tagX.style, { left: `${Math.max(left + 60, Math.min(x, left + width - 60))}px`, top: `${top + height + 2}px` });
    }
    if (isInside && pane) {
      Object.assign(lineY.style, { top: `${y}px`, left: `${left}px`, width: `${width}px` });
      const [low, high] = plot.layout[`yaxis${pane.axis.slice(1)}`].range;
      const part = (top + (1 - pane.domain[0]) * height - y) / ((pane.domain[1] - pane.domain[0]) * height);
      tagY.textContent = show(low + part * (high - low), pane.format);
      Object.assign(tagY.style, { top: `${y}px`, left: `${left + width + 2}px` });
    }
    showReadings();
  };

  const snap = (time) => {
    const at = Math.floor(time / stepMs()) * stepMs();
    return Math.max(Math.ceil(view[0] / stepMs()) * stepMs(), Math.min(at, Math.floor(view[1] / stepMs()) * stepMs()));
  };

  const readingsAt = (pane, time) => pane.entries.map(({ series: one, plot: drawn }) => {
    const band = time === null ? null : bandAt(one, time);
    const values = drawn.columns.map((column) => (time === null ? newestOf(one, column)?.value ?? null : valueAt(one, column, time)));
    const isCandle = drawn.drawing === "candles" && chart.clientWidth >= 600 && pane.entries.filter((entry) => entry.plot.drawing === "candles").length < 4;
    const texts = isCandle ? values.map((value, at) => `${"OHLC"[at]} ${show(value, pane.format)}`) : [show(values.at(-1), pane.format)];
    const partial = time !== null && one.incomplete.includes(time) ? " (not complete)" : "";
    const word = values.at(-1) === null && band ? BANDS[band.state].word : `${texts.join(" ")}${partial}`;
    const several = pane.entries.some((entry) => entry.series === one && entry.plot !== drawn) || pane.entries.some((entry) => entry.plot.label !== drawn.label);
    return { code: one.spec.code, name: several ? `${one.spec.code} ${drawn.label}` : one.spec.code, text: word };
  });

  let overlays = [];
  const showReadings = () => {
    const { left, top, width, height } = area();
    while (overlays.length < panes.length) overlays.push(make("pane-reading"));
    overlays.forEach((overlay, index) => {
      const pane = panes[index];
      overlay.hidden = !pane;
      if (!pane) return;
      Object.assign(overlay.style, { top: `${top + (1 - pane.domain[1]) * height}px`, left: `${left + 4}px`, maxWidth: `${width - 8}px` });
      const isRoomy = width > 500 && pane.entries.length <= READINGS_MOST;
      const parts = readingsAt(pane, crosshair).filter((one) => crosshair !== null || (one.text !== "–" && isRoomy)).map(({ code, name, text }) => {
        const part = document.createElement("span");
        part.style.color = styles.get(code).color;
        part.textContent = `${name} ${text}`;
        return part;
      });
      const title = document.createElement("b");
      title.textContent = pane.title;
      overlay.replaceChildren(title, ...parts);
    });
  };

  const say = (time) => {
    const parts = panes.map((pane) => `${pane.title}: ${readingsAt(pane, time).map((one) => `${one.name} ${one.text}`).join(", ")}`);
    reading.textContent = `${iso(time)} UTC. ${parts.join(". ")}.`;
  };

  const pointTo = (event) => {
    const box = chart.getBoundingClientRect();
    const { left, top, width, height } = area();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (x < left || x > left + width || y < top || y > top + height) return showCross(null);
    return showCross(snap(view[0] + ((x - left) / width) * (view[1] - view[0])), y);
  };

  // ---- pointer, touch, keyboard

  let attached = false;
  const attach = () => {
    if (attached) return;
    attached = true;
    plot.on("plotly_relayouting", (event) => {
      if (event["xaxis.range[0]"] === undefined) return;
      view = [0, 1].map((at) => time(event[`xaxis.range[${at}]`]));
      showCross(crosshair);
    });
    plot.on("plotly_doubleclick", () => toNewest());
    plot.on("plotly_relayout", (event) => {
      if (event["xaxis.range[0]"] === undefined) return; // our own changes name the whole range
      later(time(event["xaxis.range[0]"]), time(event["xaxis.range[1]"]));
    });
  };
  // plotly answers with dates as text, in UTC without saying so.
  const time = (value) => (typeof value === "number" ? value : Date.parse(`${String(value).replace(" ", "T")}${String(value).includes(":") ? "Z" : ""}`));

  chart.addEventListener("pointermove", pointTo);
  chart.addEventListener("pointerdown", pointTo);
  chart.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && showCross(null));

  // Fingers: one pans, two zoom; up and down scrolls the page.
  const fingers = new Map();
  chart.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "touch") fingers.set(event.pointerId, event.clientX);
  });
  chart.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const before = [...fingers.values()];
    fingers.set(event.pointerId, event.clientX);
    const after = [...fingers.values()];
    const { left, width } = area();
    const offset = chart.getBoundingClientRect().left + left;
    const [span, begin] = [view[1] - view[0], view[0]];
    const spread = (xs) => Math.max(20, Math.abs(xs[0] - (xs[1] ?? xs[0])));
    const factor = after.length > 1 ? spread(before) / spread(after) : 1;
    const middle = (xs) => xs.reduce((sum, x) => sum + x, 0) / xs.length;
    const held = begin + ((middle(before) - offset) / width) * span;
    const first = held - ((middle(after) - offset) / width) * span * factor;
    view = [first, first + span * factor];
    showCross(null);
    later(...view);
    Plotly.relayout(plot, { "xaxis.range": [...view] });
  });
  for (const name of ["pointerup", "pointercancel", "pointerleave"]) {
    chart.addEventListener(name, (event) => fingers.delete(event.pointerId));
  }

  chart.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || !panes.length) return;
    const by = (event.shiftKey ? 10 : 1) * stepMs();
    const last = Math.min(view[1], newest_ms || view[1]);
    const moves = {
      ArrowLeft: () => (crosshair === null ? last : crosshair - by), ArrowRight: () => (crosshair === null ? last : crosshair + by),
      Home: () => view[0], End: () => last,
    };
    const actions = { "+": () => zoom(0.5), "-": () => zoom(2), PageUp: () => pan(-0.5), PageDown: () => pan(0.5), Escape: () => showCross(null) };
    if (moves[event.key]) {
      showCross(snap(moves[event.key]()));
      say(crosshair);
    } else if (actions[event.key]) actions[event.key]();
    else return;
    event.preventDefault();
  });

  // ---- controls

  const bar = document.getElementById("chart-controls");
  bar.addEventListener("click", (event) => {
    const { step: name, range: wanted, action } = event.target.closest("button")?.dataset || {};
    if (name) chooseStep(name);
    if (wanted) chooseRange(wanted);
    if (action === "in") zoom(0.5);
    if (action === "out") zoom(2);
    if (action === "back") pan(-0.5);
    if (action === "forward") pan(0.5);
    if (action === "newest") toNewest();
  });

  const showControls = () => {
    for (const button of bar.querySelectorAll("button[data-step]")) button.setAttribute("aria-pressed", button.dataset.step === step);
    for (const button of bar.querySelectorAll("button[data-range]")) button.setAttribute("aria-pressed", follows && button.dataset.range === range);
    bar.querySelector('[data-action="newest"]').setAttribute("aria-pressed", follows);
    chart.dataset.step = step;
    chart.dataset.view = view.join(" ");
    showLegend();
  };

  const legend = document.getElementById("chart-legend");
  const chips = new Map(codes.map((code) => {
    const { color, dash } = styles.get(code);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "chip";
    button.innerHTML = '<svg width="22" height="8" aria-hidden="true"><line x1="0" x2="22" y1="4" y2="4" stroke-width="3"/></svg>';
    const stroke = button.querySelector("line");
    stroke.setAttribute("stroke", color);
    if (dash !== "solid") stroke.setAttribute("stroke-dasharray", dash.replaceAll("px", ""));
    button.append(` ${code}`);
    button.addEventListener("click", () => {
      if (!hidden.delete(code)) hidden.add(code);
      draw();
    });
    legend.append(button);
    return [code, button];
  }));
  const swatch = (colour, text) => {
    const item = document.createElement("span");
    const box = document.createElement("i");
    box.style.background = colour;
    item.append(box, ` ${text}`);
    return item;
  };
  const meanings = document.createElement("span");
  meanings.className = "meanings";
  legend.append(meanings);
  const showLegend = () => {
    for (const [code, button] of chips) button.setAttribute("aria-pressed", !hidden.has(code));
    const present = Object.keys(BANDS).filter((name) => panes.some((pane) => pane.series.some((one) => one.bands.some((band) => band.state === name))));
    const candles = panes.some((pane) => pane.entries.some((entry) => entry.plot.drawing === "candles"));
    meanings.replaceChildren(...(candles ? [swatch(UP, "candle up"), swatch(DOWN, "candle down")] : []),
      ...present.map((name) => swatch(BANDS[name].colour, BANDS[name].meaning)));
  };

  let width = 0;
  new ResizeObserver(() => {
    if (width && chart.clientWidth !== width && panes.length) draw();
    width = chart.clientWidth;
  }).observe(chart);

  // ---- begin

  const now = Date.now();
  if (config.start_ms !== null || config.end_ms !== null) {
    const end = config.end_ms ?? now;
    view = [config.start_ms ?? end - config.ranges[range], end];
    follows = config.end_ms === null;
    range = null;
  } else {
    const span = config.ranges[range];
    view = [now - span, now + span * EDGE_SHARE];
    follows = true;
  }
  if (view[1] - view[0] < LEAST_STEPS * config.steps["1m"]) view[0] = view[1] - LEAST_STEPS * config.steps["1m"];
  if (view[1] - view[0] > config.points_most * DAY_MS) view[1] = now;
  fitStep();
  load({ first: true });
  const again = async () => {
    await poll();
    setTimeout(again, LIVE_EVERY_MS);
  };
  setTimeout(again, LIVE_EVERY_MS);
};

if (chart && Plotly) start(JSON.parse(chart.dataset.config));
