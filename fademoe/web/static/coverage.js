// The heat map as one stop of the Tab key: arrow keys move inside it.
"use strict";
(() => {
  const grid = document.querySelector("table.heat");
  if (!grid) return;
  const lines = [...grid.tBodies[0].rows].map((row) => [...row.querySelectorAll("td.cell")]);
  const links = grid.querySelectorAll("td.cell a");
  for (const link of links) link.tabIndex = -1;
  if (links.length) links[0].tabIndex = 0;

  const frame = grid.closest(".scroll");
  frame.scrollLeft = frame.scrollWidth; // the newest days are what one comes for

  const place = (link) => {
    const cell = link.closest("td");
    const line = lines.findIndex((row) => row.includes(cell));
    return [line, lines[line].indexOf(cell)];
  };
  const go = (link, to) => {
    link.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  };
  // Cells that lie ahead of the clock have no link: step over them.
  const find = (line, column, down, right) => {
    for (;;) {
      line += down;
      column += right;
      const cell = lines[line]?.[column];
      if (!cell) return null;
      const link = cell.querySelector("a");
      if (link) return link;
    }
  };
  const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

  grid.addEventListener("keydown", (event) => {
    const link = event.target.closest("td.cell a");
    if (!link || event.ctrlKey || event.altKey || event.metaKey) return;
    const [line, column] = place(link);
    let to = null;
    if (moves[event.key]) to = find(line, column, ...moves[event.key]);
    else if (event.key === "Home") to = find(line, -1, 0, 1);
    else if (event.key === "End") to = find(line, lines[line].length, 0, -1);
    else return;
    event.preventDefault();
    if (to) go(link, to);
  });
  // The label of each cell is its tooltip too; in the page it stands once.
  grid.addEventListener("pointerover", (event) => {
    const link = event.target.closest("td.cell a");
    if (link && !link.title) link.title = link.getAttribute("aria-label");
  });
  grid.addEventListener("focusin", (event) => {
    const link = event.target.closest("td.cell a");
    if (!link) return;
    for (const other of grid.querySelectorAll('td.cell a[tabindex="0"]')) if (other !== link) other.tabIndex = -1;
    link.tabIndex = 0;
  });
})();
