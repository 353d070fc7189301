// Follows the output of one execution, and keeps what is known of it fresh until it ends.
"use strict";
(() => {
  const part = document.getElementById("part"), box = document.getElementById("log");
  const live = document.getElementById("live"), state = document.getElementById("log-state");
  const stick = document.getElementById("stick"), wrap = document.getElementById("wrap");
  const LINES_MAX = 5000, PART_MS = 1000;
  let dropped = 0, shown = 0, pending = [], scheduled = false, done = part.dataset.done === "yes";

  function say(name, text) { live.dataset.state = name; live.querySelector("b").textContent = text; }

  function add(text, kind, number) { pending.push([text, kind, number]); if (!scheduled) { scheduled = true; requestAnimationFrame(flush); } }

  // Colours of a terminal become classes; any other control sequence is left out.
  function paint(row, text) {
    let from = 0, colour = "", bold = "";
    const put = (words) => { const span = document.createElement("span"); span.className = `${colour} ${bold}`.trim(); span.textContent = words; row.append(span); };
    for (const found of text.matchAll(/\x1b\[([0-?]*)[ -\/]*([@-~])/g)) {
      if (found.index > from) put(text.slice(from, found.index));
      from = found.index + found[0].length;
      if (found[2] !== "m") continue;
      for (const code of found[1].split(";").map(Number)) {
        if (code === 0) { colour = bold = ""; } else if (code === 1) bold = "bold"; else if (code === 22) bold = "";
        else if (code === 39) colour = ""; else if ((code >= 30 && code <= 37) || (code >= 90 && code <= 97)) colour = `c${code % 10}`;
      }
    }
    if (from < text.length) put(text.slice(from));
  }

  function flush() {
    scheduled = false;
    if (pending.length > LINES_MAX) { dropped += pending.length - LINES_MAX; pending = pending.slice(-LINES_MAX); }
    const rows = document.createDocumentFragment();
    for (const [text, kind, number] of pending) {
      const row = document.createElement("div");
      if (text.includes("\x1b")) paint(row, text); else row.textContent = text;
      if (kind) row.className = kind;
      if (number) row.dataset.n = number;
      rows.append(row);
    }
    pending = [];
    box.append(rows);
    while (box.childElementCount > LINES_MAX) { box.firstElementChild.remove(); dropped += 1; }
    if (stick.checked) box.scrollTop = box.scrollHeight;
    const cut = dropped ? `, the last ${LINES_MAX} shown (the whole log is among the artifacts)` : "";
    state.textContent = shown ? `${shown} line${shown === 1 ? "" : "s"}${cut}` : done ? "no output" : "no output yet";
  }

  function follow() {
    const events = new EventSource(box.dataset.src);
    events.onopen = () => { say("live", "live"); if (!shown) state.textContent = "no output yet"; };
    events.onerror = () => say("lost", "reconnecting");
    events.addEventListener("lines", (event) => {
      const batch = JSON.parse(event.data), errors = new Set(batch.stderr);
      batch.lines.forEach((text, index) => add(text, errors.has(index) ? "err" : "", batch.first_line + index));
      shown += batch.lines.length;
    });
    events.addEventListener("attempt", (event) => { const next = JSON.parse(event.data); add(`attempt ${next.attempt} on ${next.bench ?? "another bench"}`, "say"); });
    events.addEventListener("gap", (event) => { const gap = JSON.parse(event.data); add(`from line ${gap.first_line} on: from the archived log, if it is kept`, "say"); });
    events.addEventListener("end", () => { events.close(); done = true; say("done", "finished"); flush(); refresh(); });
  }

  async function refresh() {
    try {
      const answer = await fetch(part.dataset.part, { cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; }
      if (!answer.ok) return;
      const open = new Set([...part.querySelectorAll("details[open]")].map((each) => each.dataset.key));
      const had = part.querySelectorAll("details").length > 0;
      part.innerHTML = await answer.text();
      if (had) for (const each of part.querySelectorAll("details")) each.open = open.has(each.dataset.key);
    } catch { say("lost", "server unreachable"); }
  }

  (async () => {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, PART_MS));
      if (part.querySelector("[data-finished=yes]")) return;
      if (!document.hidden) await refresh();
    }
  })();
  const wrapping = () => box.classList.toggle("wrap", wrap.checked);
  wrap.addEventListener("change", wrapping);
  box.addEventListener("wheel", (event) => { if (event.deltaY < 0) stick.checked = false; }, { passive: true });
  wrapping();
  follow();
})();
