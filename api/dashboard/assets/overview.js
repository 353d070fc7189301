// Keeps the overview fresh: an event of the journal, or 10 s, and the part is fetched again.
"use strict";
(() => {
  const part = document.getElementById("part");
  const live = document.getElementById("live");
  const PAUSE_MS = 400, IDLE_MS = 10000;
  let timer = null, busy = false, again = false;

  function say(state, text) {
    if (live.dataset.state === state) return;
    live.dataset.state = state;
    live.querySelector("b").textContent = text;
  }

  async function refresh() {
    timer = null;
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(part.dataset.part, { cache: "no-store" });
      if (answer.status === 401) { location.reload(); return; }
      if (answer.ok) part.innerHTML = await answer.text();
    } catch { say("lost", "server unreachable"); }
    busy = false;
    if (again) { again = false; soon(); }
  }

  function soon() { if (timer === null) timer = setTimeout(refresh, PAUSE_MS); }

  const events = new EventSource("/v1/events?from=now");
  events.onopen = () => { say("live", "live"); soon(); };
  events.onerror = () => say("lost", "reconnecting");
  for (const type of part.dataset.events.split(",")) events.addEventListener(type, soon);
  setInterval(() => { if (!document.hidden) soon(); }, IDLE_MS);
})();
