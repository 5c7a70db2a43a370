/* Live jobs: what the stream of events says, and asking for the panels where it is silent. */
(() => {
  "use strict";

  const { $, $$, announce } = dreamsketch;
  const SILENCE_MS = 5000;
  const title = document.title;

  function payload(event) {
    try {
      return JSON.parse(event.detail.data);
    } catch {
      return {};
    }
  }

  for (const name of ["job-queued", "job-started", "job-cancelled", "job-done", "job-failed"]) {
    document.addEventListener(name, (event) => {
      announce(payload(event).say, name === "job-failed");
      if (name === "job-done" || name === "job-failed" || name === "job-cancelled") document.title = title;
      if (name === "job-done") $("#first-sketch")?.remove();
    });
  }
  document.addEventListener("job-progress", (event) => {
    const { pct } = payload(event);
    if ($("[data-job]")) document.title = `(${pct} %) ${title}`;
    if (pct >= 50 && pct < 60) announce("Half done.");
  });

  function refreshPanels() {
    if (!window.htmx) return;
    for (const job of $$("[data-job][data-active]")) {
      htmx.ajax("GET", job.dataset.panelUrl, { source: job, target: job, swap: "outerMorph" });
    }
  }

  // The stream is trusted once it has said something; a proxy that buffers it says nothing.
  let streamSpeaks = false;
  let silentSince = Date.now();
  let connections = 0;
  document.addEventListener("htmx:sse:after:connection", () => {
    silentSince = Date.now();
    // What ended while we were away is in no later message.
    if (connections++) setTimeout(refreshPanels, 400);
  });
  document.addEventListener("htmx:sse:after:message", () => {
    streamSpeaks = true;
  });
  for (const name of ["htmx:sse:error", "htmx:sse:close"]) {
    document.addEventListener(name, () => {
      streamSpeaks = false;
      silentSince = Date.now();
    });
  }
  document.addEventListener("stream-end", () => {
    setTimeout(() => {
      $("#bus-slot")?.replaceChildren();
      refreshPanels();
    }, 50);
  });
  setInterval(() => {
    const silent = !streamSpeaks && Date.now() - silentSince > SILENCE_MS;
    if (silent && !document.hidden && $("[data-job][data-active]")) refreshPanels();
  }, 2500);
  addEventListener("pageshow", (event) => {
    if (event.persisted) refreshPanels();
  });
})();
