/* Dragging images of a collection to their places. Each has buttons that do the same. */
(() => {
  "use strict";

  const { $, on } = dreamsketch;
  let dragged = null;

  const itemAt = (event) => event.target.closest?.("[data-arrange]");

  function mark(item, after) {
    for (const marked of document.querySelectorAll(".drop-before, .drop-after")) {
      marked.classList.remove("drop-before", "drop-after");
    }
    item?.classList.add(after ? "drop-after" : "drop-before");
  }

  const isAfter = (event, item) => {
    const box = item.getBoundingClientRect();
    return event.clientX > box.left + box.width / 2;
  };

  on("dragstart", "[data-arrange]", (event, item) => {
    dragged = item;
    item.classList.add("dragged");
    event.dataTransfer.effectAllowed = "move";
    event.dataTransfer.setData("text/plain", item.dataset.arrange);
  });
  document.addEventListener("dragover", (event) => {
    const item = itemAt(event);
    if (!dragged || !item) return;
    event.preventDefault();
    mark(item, isAfter(event, item));
  });
  document.addEventListener("dragend", () => {
    dragged?.classList.remove("dragged");
    dragged = null;
    mark(null);
    $(".drop-before")?.classList.remove("drop-before");
  });
  document.addEventListener("drop", (event) => {
    const item = itemAt(event);
    if (!dragged || !item) return;
    event.preventDefault();
    const before = isAfter(event, item) ? item.nextElementSibling : item;
    if (before === dragged || item === dragged || !window.htmx) return;
    const list = $("[data-arranged]");
    const values = { image: dragged.dataset.arrange, from: list.dataset.from };
    // After the last one shown: right behind it, also where more follow on the next page.
    if (before) values.before = before.dataset.arrange;
    else values.after = item.dataset.arrange;
    htmx.ajax("POST", list.dataset.moveUrl, { source: "#arranged", target: "#arranged", swap: "outerHTML", values });
  });
})();
