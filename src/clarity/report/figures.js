// Figures: each is unpacked when it is about to be seen, and all of them before the page is printed.
"use strict";
{
  const waiting = new Set(document.querySelectorAll("img[data-packed]"));
  const load = async (image) => {
    if (!waiting.delete(image)) return;
    const bytes = await unpackBytes(packedText(image.dataset.packed));
    image.src = URL.createObjectURL(new Blob([bytes], { type: image.dataset.kind }));
  };
  whenSeen([...waiting], load);
  const loadAll = () => Promise.all([...waiting].map(load));
  window.addEventListener("beforeprint", loadAll);
  // A printer does not wait for what begins only then.
  window.addEventListener("load", () => setTimeout(loadAll, 3000));
}
