// Parts of a page read themselves again: [data-part] names the address, [data-every] the seconds in between.
// The next reading begins only after the last one has ended, and never while somebody works inside the part.
"use strict";
(() => {
  const keepOpen = (part, fresh) => {
    for (const open of part.querySelectorAll("details[open][id]")) {
      const same = fresh.querySelector(`#${CSS.escape(open.id)}`);
      if (same) same.open = true;
    }
    for (const area of part.querySelectorAll(".scroll")) {
      const label = area.getAttribute("aria-label") || area.getAttribute("aria-labelledby");
      const same = [...fresh.querySelectorAll(".scroll")].find(
        (other) => (other.getAttribute("aria-label") || other.getAttribute("aria-labelledby")) === label);
      if (same) same.dataset.top = `${area.scrollTop} ${area.scrollLeft}`;
    }
  };

  const show = (part, text) => {
    const answer = new DOMParser().parseFromString(text, "text/html");
    const fresh = part.id === "live" ? answer.getElementById("live") : answer.body;
    if (!fresh) return;
    keepOpen(part, fresh);
    part.replaceChildren(...fresh.childNodes);
    for (const area of part.querySelectorAll(".scroll[data-top]")) {
      [area.scrollTop, area.scrollLeft] = area.dataset.top.split(" ").map(Number);
    }
  };

  const complain = (part, why) => {
    const age = part.querySelector(".age");
    if (!age) return;
    age.textContent = ` – could not be read again: ${why}`;
    const sentence = age.parentElement.querySelector("strong");
    sentence.className = "bad";
    sentence.textContent = "Not known.";
  };

  const read = async (part) => {
    try {
      const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
      if (answer.ok) show(part, await answer.text());
      else complain(part, `the web answers ${answer.status}`);
    } catch {
      complain(part, "the web does not answer; what you see is old");
    }
  };

  for (const part of document.querySelectorAll("[data-part][data-every]")) {
    const again = async () => {
      const isBusy = part.contains(document.activeElement) && document.activeElement.matches("a, button, input, select, summary");
      if (!document.hidden && !isBusy) await read(part);
      setTimeout(again, part.dataset.every * 1000);
    };
    setTimeout(again, part.dataset.every * 1000);
  }

  document.getElementById("refresh")?.addEventListener("click", (event) => {
    event.preventDefault();
    read(document.getElementById("live"));
  });
})();
