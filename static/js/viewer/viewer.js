/* The viewer: a dialog over any grid of `a[data-view]`, and over a picture's own page.
   It has an entry of its own in the history, so that Back closes it at the card and Forward opens it again. htmx must
   not push that entry: it would stamp the page's and fetch the whole grid again on Back. */
(() => {
  "use strict";

  const { $, $$, ready, store, announce } = dreamsketch;
  const dialog = $("#lightbox");
  if (!dialog) return;

  const MARK = "lightbox";
  const LINKS = "main a[data-view]:not([data-neighbour])";
  const SIDE = "dreamsketch.viewer.side";
  const STRIP = 12;
  const MOVE_PX = 80;
  const REGIONS = ["#toasts", "#announcer", "#announcer-now"];
  const part = (name) => $(`[data-viewer-${name}]`, dialog);
  const control = (name) => $(`[data-viewer="${name}"]`, dialog);
  const side = $("#lightbox-side");
  const details = $("#lightbox-details");

  const stage = new dreamsketch.Stage(part("stage"), {
    swiped: (steps) => go(steps),
    dismissed: () => leave(),
    zoomed: (percent) => {
      part("zoom").textContent = `${percent} %`;
    },
    troubled: (isBroken) => {
      part("trouble").hidden = !isBroken;
    },
  });

  /** htmx writes over an entry that does not look like one of its own. */
  const entry = (id) => ({ ds: MARK, id, htmx: true });
  // Loaded anew at the viewer's address this is the picture's page.
  if (history.state?.ds === MARK) history.replaceState({ htmx: true }, "");

  let isOpen = false;
  let items = [];
  let at = 0;
  let title = "";
  let closedAt = -Infinity;
  let trashed = [];
  let hasChanged = false;

  // --- the pictures ---

  function itemOf(link) {
    const image = $("img", link);
    const { view, full, page, thumb, width, height, alt } = link.dataset;
    return {
      id: view,
      full,
      href: page || link.getAttribute("href"),
      thumb: thumb || image.currentSrc || image.src,
      width: Number(width || image.getAttribute("width")),
      height: Number(height || image.getAttribute("height")),
      alt: alt || image.alt,
    };
  }

  const ownPage = () => $(`${LINKS}[data-page]`);
  const isAlone = () => Boolean(ownPage());

  /** Those of the page in their order, each once; over a picture's page that one, with what is known beside it. */
  function collect() {
    const seen = new Map($$(LINKS).map((link) => [link.dataset.view, link]));
    return [...seen.values()].map(itemOf);
  }

  const linkOf = (item) => $(`${LINKS}[data-view="${item.id}"]`);

  /** Go on to pictures that the page does not show: those beside the one on its own page. */
  function extend() {
    if (!isAlone()) return;
    for (const link of $$("[data-neighbour]", details)) {
      const item = itemOf(link);
      const before = link.dataset.neighbour === "newer";
      if (items.some(({ id }) => id === item.id)) continue;
      if (before && at === 0) {
        items.unshift(item);
        at += 1;
      } else if (!before && at === items.length - 1) items.push(item);
    }
    showPlace();
  }

  // --- opening and closing ---

  function openAt(id, isReturn) {
    items = collect();
    at = items.findIndex((item) => item.id === id);
    if (at < 0) return false;
    title = document.title;
    if (!isReturn) history.pushState(entry(id), "", items[at].href);
    for (const region of REGIONS) dialog.append($(region));
    isOpen = true;
    dialog.showModal();
    setSide(store.get(SIDE) ? store.get(SIDE) === "open" : matchMedia("(min-width: 960px)").matches);
    show();
    dialog.focus();
    return true;
  }

  /** By way of the history, so that Back and the buttons leave the same trace. */
  function leave() {
    if (history.state?.ds === MARK) history.back();
    else close();
  }

  function close() {
    if (!isOpen) return;
    isOpen = false;
    const item = items[at];
    closedAt = performance.now();
    for (const region of REGIONS) document.body.append($(region));
    dialog.close();
    document.title = title;
    trashed = [];
    details.replaceChildren();
    if (isAlone()) {
      const page = ownPage();
      if (item && item.id !== page.dataset.view) location.replace(item.href);
      else if (!item) location.replace($(".image-nav a").href);
      else page.focus({ preventScroll: true });
      return;
    }
    const link = item && linkOf(item);
    if (hasChanged) dreamsketch.gallery?.refresh(true);
    hasChanged = false;
    (link || $(LINKS) || $("#main")).focus({ preventScroll: true });
    link?.scrollIntoView({ block: "nearest" });
  }

  addEventListener("popstate", (event) => {
    if (event.state?.ds !== MARK) close();
    else if (!isOpen && !openAt(event.state.id, true)) location.reload();
  });
  document.addEventListener("htmx:before:history:restore", (event) => {
    if (isOpen || history.state?.ds === MARK || performance.now() - closedAt < 500) event.preventDefault();
  });
  dialog.addEventListener("cancel", (event) => {
    if (event.target !== dialog) return;
    event.preventDefault();
    leave();
  });

  // A second Escape cannot be held back.
  dialog.addEventListener("close", () => {
    if (isOpen) leave();
  });

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.(LINKS);
    if (!link || event.defaultPrevented || event.button) return;
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (document.body.classList.contains("selecting")) return;
    if (openAt(link.dataset.view)) event.preventDefault();
  });

  // --- one after the other ---

  function go(steps) {
    const target = at + steps;
    if (target < 0) return announce("This is the first picture.");
    if (target >= items.length) return loadMore();
    at = target;
    history.replaceState(entry(items[at].id), "", items[at].href);
    return show();
  }

  let isWaiting = false;
  function loadMore() {
    const more = $("main [data-load-more]");
    if (!more) return announce("This is the last picture.");
    isWaiting = true;
    more.click();
  }
  document.addEventListener("htmx:after:swap", () => {
    if (!isOpen || isAlone()) return;
    const { id } = items[at] || {};
    const fresh = collect();
    if (!fresh.some((item) => item.id === id)) return;
    items = fresh;
    at = items.findIndex((item) => item.id === id);
    showPlace();
    if (isWaiting && at + 1 < items.length) {
      isWaiting = false;
      dialog.focus();
      go(1);
    }
  });

  function show() {
    const item = items[at];
    stage.show(item);
    document.title = `${item.alt.replace(/^AI-generated image: /, "").slice(0, 60)} · DreamSketch`;
    showPlace();
    loadDetails(item);
    for (const near of [items[at + 1], items[at - 1]]) if (near) new Image().src = near.full;
    announce(`${at + 1} of ${items.length}. ${item.alt}`);
  }

  function showPlace() {
    const more = $("main [data-load-more]") ? "+" : "";
    part("place").textContent = isAlone() ? "" : `${at + 1} of ${items.length}${more}`;
    control("previous").disabled = at === 0;
    control("next").disabled = at === items.length - 1 && !more;
    const first = Math.max(0, at - STRIP);
    const shown = items.slice(first, at + STRIP + 1);
    part("strip").hidden = items.length < 2;
    part("strip").replaceChildren(...shown.map((item, index) => stripEntry(item, first + index)));
    const current = $("[aria-current]", part("strip"));
    if (current)
      part("strip").scrollLeft = current.offsetLeft - part("strip").clientWidth / 2 + current.offsetWidth / 2;
  }

  function stripEntry(item, index) {
    const entry = document.createElement("li");
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.stripTo = index;
    if (index === at) button.setAttribute("aria-current", "true");
    const thumb = new Image();
    Object.assign(thumb, { src: item.thumb, alt: item.alt, loading: "lazy", height: 48 });
    thumb.width = Math.round((48 * item.width) / item.height);
    button.append(thumb);
    entry.append(button);
    return entry;
  }
  dialog.addEventListener("click", (event) => {
    const button = event.target.closest("[data-strip-to]");
    if (!button) return;
    go(Number(button.dataset.stripTo) - at);
    $("[aria-current]", part("strip"))?.focus();
  });

  // --- details and actions ---

  let loading = Promise.resolve();
  function loadDetails(item) {
    // Until they are there, what stands here belongs to another picture.
    details.inert = true;
    const request = htmx.ajax("GET", item.href, { source: details, target: details, swap: "innerHTML" });
    loading = request.finally(() => {
      if (items[at]?.id !== item.id) return;
      details.inert = false;
      extend();
    });
  }

  /** Press what stands in the details, once they are there. */
  async function press(selector) {
    await loading;
    $(selector, details)?.click();
  }

  function setSide(isShown) {
    side.hidden = !isShown;
    control("info").setAttribute("aria-expanded", String(isShown));
  }

  function toggleSide() {
    setSide(side.hidden);
    store.set(SIDE, side.hidden ? "closed" : "open");
  }

  async function chooseVisibility() {
    setSide(true);
    await loading;
    $(".visibility [aria-pressed=true]", details)?.focus();
  }

  // --- to the trash and back ---

  const isTrash = (form) => form?.matches?.("#lightbox-details form[data-trash]");
  let leaving = null;
  document.addEventListener("htmx:before:swap", (event) => {
    const form = event.detail?.ctx?.sourceElement;
    if (!isTrash(form)) return;
    const card = linkOf({ id: form.dataset.trash })?.closest("li");
    leaving = card && { card, list: card.parentElement, next: card.nextElementSibling };
  });
  document.addEventListener("htmx:after:swap", (event) => {
    const { ctx } = event.detail || {};
    const source = dreamsketch.sourceOf(event);
    if (ctx?.response?.status !== 200) return;
    if (isTrash(source)) gone(source.dataset.trash);
    else if (source?.dataset?.viewerUndo) back(source);
  });

  function gone(id) {
    const index = items.findIndex((item) => item.id === id);
    if (index < 0) return;
    const [item] = items.splice(index, 1);
    hasChanged = true;
    const form = $$("#toasts form").at(-1);
    if (form) {
      // The grid keeps what it needs to take the card back, so the page is not loaded again.
      form.insertAdjacentHTML("beforeend", '<input type="hidden" name="stay" value="1">');
      form.dataset.viewerUndo = id;
      trashed.push({ item, index, place: leaving });
    }
    if (index < at || at === items.length) at = Math.max(0, at - 1);
    if (!items.length) return leave();
    history.replaceState(entry(items[at].id), "", items[at].href);
    show();
    dialog.focus();
  }

  function back(form) {
    const lost = trashed.find(({ item }) => item.id === form.dataset.viewerUndo);
    form.closest("[data-toast]")?.remove();
    if (!lost) return;
    trashed = trashed.filter((other) => other !== lost);
    if (lost.place) {
      const { card, list, next } = lost.place;
      list.insertBefore(card, next?.parentElement === list ? next : null);
      htmx.process(card);
      ready(card);
    }
    if (!isOpen) return;
    items = isAlone() ? items.toSpliced(lost.index, 0, lost.item) : collect();
    at = items.findIndex(({ id }) => id === lost.item.id);
    history.replaceState(entry(lost.item.id), "", lost.item.href);
    show();
    dialog.focus();
  }

  // --- buttons and keys ---

  const BUTTONS = {
    close: leave,
    previous: () => go(-1),
    next: () => go(1),
    in: () => stage.zoomBy(1.5),
    out: () => stage.zoomBy(1 / 1.5),
    toggle: () => stage.toggle(),
    info: toggleSide,
    again: () => stage.show(items[at]),
  };
  for (const [name, act] of Object.entries(BUTTONS)) control(name).addEventListener("click", act);

  const KEYS = {
    ArrowLeft: () => go(-1),
    ArrowRight: () => go(1),
    Home: () => go(-at),
    End: () => go(items.length - 1 - at),
    "+": BUTTONS.in,
    "=": BUTTONS.in,
    "-": BUTTONS.out,
    0: () => stage.fit(),
    1: () => stage.zoomTo(1),
    i: toggleSide,
    f: () => press(".favourite button"),
    d: () => press("[data-act=download]"),
    r: () => press("[data-act=reuse]"),
    p: chooseVisibility,
    Delete: () => press("form[data-trash] button"),
    z: () => $$("#toasts [data-undo]").at(-1)?.click(),
  };
  const MOVES = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const LETTER = /^[a-z]$/;

  dialog.addEventListener("keydown", (event) => {
    // Keys of the page behind are not for the viewer.
    event.stopPropagation();
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable], [popover]")) return;
    if (LETTER.test(event.key) && document.documentElement.dataset.shortcuts === "off") return;
    const move = event.shiftKey && MOVES[event.key];
    if (move) stage.moveBy(move[0] * MOVE_PX, move[1] * MOVE_PX);
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
  });
})();
