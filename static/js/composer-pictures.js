/* Pictures for the composer: dropped, pasted, or chosen among one's own images. */
(() => {
  "use strict";

  const { $, on, announce } = dreamsketch;

  function complain(text) {
    const place = $("[data-picture-problem]");
    if (!place) return;
    place.textContent = text;
    place.hidden = false;
  }

  // Before htmx hears of it: what is too large need not be sent.
  document.addEventListener(
    "change",
    (event) => {
      const field = event.target;
      const most = Number(field.closest?.("#pictures")?.dataset.mostBytes);
      if (field.type !== "file" || !most) return;
      if ([...field.files].every((file) => file.size <= most)) return;
      event.stopImmediatePropagation();
      field.value = "";
      complain(`This picture is too large: at most ${Math.floor(most / 2 ** 20)} MiB are read.`);
    },
    true,
  );
  document.addEventListener("htmx:response:error", (event) => {
    const { ctx } = event.detail;
    if (!ctx.sourceElement?.closest?.("#pictures")) return;
    if (ctx.response?.status === 429) complain("Too many pictures at once. Try again in a moment.");
    if (ctx.response?.status === 413) complain("This picture is too large.");
  });

  /** Take pictures as if they had been chosen in the file field. */
  function take(files) {
    const field = $("#picture-file");
    const pictures = [...files].filter((file) => file.type.startsWith("image/"));
    if (!field || !pictures.length) return false;
    const transfer = new DataTransfer();
    for (const picture of pictures) transfer.items.add(picture);
    field.files = transfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    announce("The picture is on its way.");
    return true;
  }

  const carriesFiles = (event) => event.dataTransfer && [...event.dataTransfer.types].includes("Files");
  const mark = (over) => $("[data-dropzone]")?.classList.toggle("over", over);
  document.addEventListener("dragover", (event) => {
    if (!carriesFiles(event) || !$("[data-dropzone]")) return;
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) mark(false);
  });
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event) || !$("[data-dropzone]")) return;
    event.preventDefault();
    mark(false);
    if (!take(event.dataTransfer.files)) announce("Only pictures can be taken: PNG, JPEG or WebP.", true);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData?.files.length && take(event.clipboardData.files)) event.preventDefault();
  });

  on("click", "[data-choose]", () => $("#choose").showModal());
  on("click", "[data-choose-close]", () => $("#choose").close());
  on("click", "#choose [data-pick]", (event, link) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    const picked = $("[data-picked]");
    picked.value = link.dataset.pick;
    $("#choose").close();
    htmx.trigger(picked, "picked");
  });
})();
