/* The composer's draft: the whole form, kept by the server a moment after each change, and here until it has it. */
(() => {
  "use strict";

  const { $, sourceOf, store, DRAFT } = dreamsketch;
  const DELAY_MS = 800;
  const form = () => $("#composer");
  let timer = 0;
  let changedAt = 0;
  let recovering = false;

  /** What the form would send, without files and without what belongs to this page alone. */
  function fields() {
    const data = new FormData(form());
    for (const [name, value] of [...data]) if (value instanceof File) data.delete(name);
    data.delete("client_token");
    return data;
  }

  function keepHere() {
    const entries = [...fields()].filter(([name]) => name !== "csrfmiddlewaretoken");
    store.set(DRAFT, JSON.stringify({ owner: form().dataset.owner, at: changedAt, entries }));
  }

  /** Hand a form to the server, which keeps what was typed last: whether it kept this; null where it did not answer. */
  async function send(data, at) {
    data.set("age", String(Math.max(0, Date.now() - at) / 1000));
    try {
      const answer = await fetch(form().dataset.draft, {
        method: "POST",
        body: data,
        keepalive: true,
        redirect: "manual",
      });
      return answer.ok ? answer.status === 204 : null;
    } catch {
      return null;
    }
  }

  async function save() {
    clearTimeout(timer);
    timer = 0;
    if (!form() || !changedAt) return;
    const at = changedAt;
    const answer = await send(fields(), at);
    // Not if something was typed meanwhile.
    if (answer !== null && at === changedAt) forget();
  }

  function forget() {
    clearTimeout(timer);
    timer = changedAt = 0;
    store.drop(DRAFT);
  }

  function changed(event) {
    if (!form()?.contains(event.target) || event.target.type === "file") return;
    changedAt = Date.now();
    keepHere();
    // The address has done its part: a reload brings back what was typed.
    if (location.search && location.pathname === new URL(form().action).pathname) {
      history.replaceState(history.state, "", location.pathname);
    }
    clearTimeout(timer);
    timer = setTimeout(save, DELAY_MS);
  }
  document.addEventListener("input", changed);
  document.addEventListener("change", changed);
  addEventListener("pagehide", () => timer && save());
  document.addEventListener("visibilitychange", () => {
    if (document.hidden && timer) save();
  });
  addEventListener("online", save);

  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail || {};
    const source = sourceOf(event);
    if (source?.matches?.("[data-composer]")) forget();
    else if (source?.closest?.("#pictures, #prompt-field") || ctx?.target?.closest?.("#controls")) {
      // Pictures, models and prompts come from the server; the draft has them too.
      changed({ target: $("#prompt") });
    }
  });

  /** What this browser kept because the server did not get it: newer than the page, unless typed elsewhere since. */
  async function recover() {
    let kept;
    try {
      kept = JSON.parse(store.get(DRAFT));
    } catch {
      kept = null;
    }
    if (!kept?.entries || kept.owner !== form().dataset.owner) return store.drop(DRAFT);
    const linked = Boolean(location.search);
    const words = kept.entries.find(([name]) => name === "prompt")?.[1];
    if (!linked && words !== undefined) {
      $("#prompt").value = words;
    }
    const data = new FormData();
    for (const [name, value] of kept.entries) data.append(name, value);
    data.set("csrfmiddlewaretoken", $("[name=csrfmiddlewaretoken]", form()).value);
    const answer = await send(data, kept.at);
    if (answer === null || changedAt) return;
    store.drop(DRAFT);
    if (linked) return;
    recovering = true;
    await htmx.ajax("GET", location.pathname, { target: "#composer", swap: "outerHTML" });
    recovering = false;
  }
  document.addEventListener("htmx:before:swap", (event) => {
    // What was typed meanwhile wins.
    if (recovering && changedAt && event.detail?.ctx?.target?.id === "composer") event.preventDefault();
  });
  if (form()) {
    if (store.get(DRAFT)) recover();
  }
})();
