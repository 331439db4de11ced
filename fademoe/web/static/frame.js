// The menu and the status line of every page, and parts that reload: [data-part] names the address, [data-every] the
// seconds in between. A part reloads only after the last answer, and never while a control inside it has the focus.
"use strict";
(() => {
  const box = document.getElementById("box");
  const showStatus = () => {
    const tiles = box?.querySelector(".tiles");
    const isOpen = tiles && getComputedStyle(tiles).display !== "none";
    box?.querySelector(".status-button").setAttribute("aria-expanded", String(Boolean(isOpen)));
  };
  box?.addEventListener("click", (event) => {
    const button = event.target.closest(".status-button");
    if (!button) return;
    box.dataset.open = button.getAttribute("aria-expanded") === "true" ? "no" : "yes";
    showStatus();
  });
  window.addEventListener("resize", showStatus);
  showStatus();

  const menu = document.getElementById("menu");
  const menuButton = document.querySelector(".menu-button");
  const openMenu = (isOpen) => {
    menu.classList.toggle("open", isOpen);
    menuButton.setAttribute("aria-expanded", String(isOpen));
  };
  menuButton.addEventListener("click", () => openMenu(!menu.classList.contains("open")));
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.classList.contains("open")) return;
    openMenu(false);
    menuButton.focus();
  });

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
    const hadFocus = document.activeElement.closest?.(".status-button") && part.contains(document.activeElement);
    part.replaceChildren(...fresh.childNodes);
    if (part === box) showStatus();
    if (hadFocus) part.querySelector(".status-button").focus();
    for (const area of part.querySelectorAll(".scroll[data-top]")) {
      [area.scrollTop, area.scrollLeft] = area.dataset.top.split(" ").map(Number);
    }
  };

  const showAge = (part, reason) => {
    const age = part.querySelector(".age");
    if (!age) return;
    age.textContent = ` – not updated: ${reason}`;
    const button = part.querySelector(".status-button");
    button.className = "status-button bad";
    button.textContent = "Error: status unknown.";
  };

  const reload = async (part) => {
    try {
      const answer = await fetch(part.dataset.part, { headers: { Accept: "text/html" } });
      if (answer.ok) show(part, await answer.text());
      else showAge(part, `the web server answered ${answer.status}`);
    } catch {
      showAge(part, "the web server does not answer");
    }
  };

  for (const part of document.querySelectorAll("[data-part][data-every]")) {
    const again = async () => {
      const isBusy = part.contains(document.activeElement) && document.activeElement.matches("a, button:not(.status-button), input, select, summary");
      if (!document.hidden && !isBusy) await reload(part);
      setTimeout(again, part.dataset.every * 1000);
    };
    setTimeout(again, part.dataset.every * 1000);
  }

  document.getElementById("refresh")?.addEventListener("click", (event) => {
    event.preventDefault();
    reload(document.getElementById("live"));
  });
})();
