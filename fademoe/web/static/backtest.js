// The curve of a run: equity above, drawdown below, on one time axis. The page of a run that has just ended loads again.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const live = document.querySelector("#live[data-part]");
  if (live) {
    new MutationObserver(() => live.querySelector("[data-over]") && location.reload()).observe(live, { childList: true });
  }
  const place = document.getElementById("curve");
  if (!place || !window.Plotly) return;
  const points = JSON.parse(place.dataset.curve);
  if (!points.length) return;
  const style = getComputedStyle(document.documentElement);
  const color = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const times = points.map((point) => new Date(point[0]).toISOString());
  const axis = { gridcolor: color("--thin", "#333"), zeroline: false };
  window.Plotly.newPlot(
    place,
    [
      { x: times, y: points.map((point) => point[1]), name: "Equity, USDT", type: "scatter", mode: "lines",
        line: { color: color("--accent", "#7aa2ff"), width: 1.5 } },
      { x: times, y: points.map((point) => 100 * point[2]), name: "Drawdown, %", type: "scatter", mode: "lines",
        fill: "tozeroy", yaxis: "y2", line: { color: color("--bad", "#ff6b6b"), width: 1 } },
    ],
    {
      height: 420,
      margin: { l: 70, r: 20, t: 10, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--text", "#eee") },
      showlegend: false,
      xaxis: { ...axis, anchor: "y2" },
      yaxis: { ...axis, domain: [0.32, 1], title: { text: "Equity, USDT" } },
      yaxis2: { ...axis, domain: [0, 0.26], title: { text: "Drawdown, %" } },
    },
    { displayModeBar: false, responsive: true },
  );
});
