// The forms of the API page: the answer appears below the form, with the requested address.
"use strict";
(() => {
  const SHOWN = 20000;
  for (const form of document.querySelectorAll("form.try")) {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      let path = form.dataset.path;
      const query = new URLSearchParams();
      for (const field of form.querySelectorAll("input, select")) {
        if (field.dataset.in === "path") path = path.replace(`{${field.name}}`, encodeURIComponent(field.value));
        else if (field.value) query.set(field.name, field.value);
      }
      const address = query.size ? `${path}?${query}` : path;
      const head = form.parentElement.querySelector(".answer-head");
      const body = form.parentElement.querySelector(".answer");
      const begin = performance.now();
      try {
        const answer = await fetch(address);
        let text = await answer.text();
        if ((answer.headers.get("Content-Type") || "").includes("json")) text = JSON.stringify(JSON.parse(text), null, 1);
        head.textContent = `GET ${address} – ${answer.status} in ${Math.round(performance.now() - begin)} ms, ${text.length} characters`;
        body.textContent = text.length > SHOWN ? `${text.slice(0, SHOWN)}\n… cut here` : text;
        body.hidden = false;
      } catch (error) {
        head.textContent = `GET ${address} – no answer: ${error.message}`;
      }
    });
  }
})();
