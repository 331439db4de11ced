// The equity of a paper account and of its backtest: two lines that lie on each other.
"use strict";
document.addEventListener("DOMContentLoaded", () => {
  const place = document.getElementById("curve");
  if (!place || !window.Plotly) return;
  const points = JSON.parse(place.dataset.curve);
  if (!points.length) return;
  const style = getComputedStyle(document.documentElement);
  const color = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
  const times = points.map((point) => new Date(point[0]).toISOString());
  const axis = { gridcolor: color("--thin", "#333"), zeroline: false };
  const line = (index, name, look) => ({
    x: times, y: points.map((point) => point[index]), name, type: "scatter", mode: "lines", line: look,
  });
  window.Plotly.newPlot(
    place,
    [
      line(1, "Account", { color: color("--accent", "#7aa2ff"), width: 4 }),
      line(2, "Backtest", { color: color("--text", "#eee"), width: 1.5, dash: "dot" }),
    ],
    {
      height: 320,
      margin: { l: 70, r: 20, t: 10, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: color("--text", "#eee") },
      legend: { orientation: "h" },
      xaxis: axis,
      yaxis: { ...axis, title: { text: "Equity, USDT" } },
    },
    { displayModeBar: false, responsive: true },
  );
});
