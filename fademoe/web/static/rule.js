// The form of a rule: its texts are checked while they are written, and its last 30 days are shown on request.
"use strict";
(() => {
  const form = document.getElementById("rule-form");
  if (!form) return;
  const CHECKED = ["expr", "clear", "message"];
  let pending = 0;

  const check = async () => {
    const query = new URLSearchParams();
    for (const key of CHECKED) if (form.elements[key].value) query.set(key, form.elements[key].value);
    const number = ++pending;
    const answer = await fetch(`/api/alerts/check?${query}`);
    if (number !== pending || !answer.ok) return;
    const { faults, canonical } = await answer.json();
    for (const key of CHECKED) {
      const fault = faults.find((one) => one.key === key);
      const line = document.getElementById(`${key}-fault`);
      line.className = `fault wide ${fault ? "bad" : "good"}`;
      const words = fault && fault.valid.length ? ` Valid are ${fault.valid.slice(0, 40).join(", ")}.` : "";
      if (fault) line.textContent = `Character ${fault.position}: ${fault.message}.${words}`;
      else line.textContent = key === "expr" && canonical ? `Correct: ${canonical}` : "";
      form.elements[key].setAttribute("aria-invalid", String(Boolean(fault)));
    }
  };
  let timer = 0;
  form.addEventListener("input", (event) => {
    if (!CHECKED.includes(event.target.name)) return;
    clearTimeout(timer);
    timer = setTimeout(check, 250);
  });
  if (form.elements.expr.value) check();

  const percent = (text) => (text === null ? "unknown" : `${(100 * Number(text)).toFixed(2)} %`);
  const moment = (ms) => new Date(ms).toISOString().replace("T", " ").slice(0, 16);
  const table = document.getElementById("preview");
  const sum = document.getElementById("preview-sum");
  document.getElementById("preview-button").addEventListener("click", async (event) => {
    const query = new URLSearchParams({ days: "30" });
    for (const key of ["expr", "clear", "for", "keep_firing_for", "cooldown", "message"]) {
      if (form.elements[key].value) query.set(key, form.elements[key].value);
    }
    query.set("code", document.getElementById("preview-code").value);
    query.set("symbol", document.getElementById("preview-symbol").value);
    event.target.disabled = true;
    sum.textContent = "evaluating…";
    let firings = 0;
    let found = [];
    let body = null;
    do {
      if (body) query.set("part", body.next);
      const answer = await fetch(`/api/alerts/preview?${query}`);
      body = await answer.json();
      if (!answer.ok) {
        sum.textContent = body.detail;
        break;
      }
      firings += body.firings;
      found = found.concat(body.transitions);
      if (body.next) sum.textContent = `Evaluated up to ${moment(body.reached)}, ${firings} firings so far…`;
    } while (body.next);
    event.target.disabled = false;
    table.hidden = !found.length;
    if (body.next === null) sum.textContent = `It would have fired ${firings === 1 ? "once" : `${firings} times`} in 30 days.`;
    const rows = found.reverse().slice(0, 500).map((one) => {
      const row = document.createElement("tr");
      const cells = [moment(one.minute + 60000), one.state, one.message, ...Object.values(one.after).map(percent)];
      for (const [index, text] of cells.entries()) {
        const cell = document.createElement("td");
        cell.textContent = text;
        if (index > 2) cell.className = "number";
        if (index === 2) cell.className = "message";
        row.append(cell);
      }
      return row;
    });
    table.tBodies[0].replaceChildren(...rows);
  });
})();
