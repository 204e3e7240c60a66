// Explorer: the maps of an image by the losses, methods and class that are chosen, with their scores.
"use strict";
if (document.getElementById("explorer-form")) {
  const form = document.getElementById("explorer-form");
  const field = (name) => form.elements.namedItem(name);
  const images = document.getElementById("explorer-images");
  const board = document.getElementById("explorer-maps");
  const told = document.getElementById("explorer-told");
  const PERCENTILE = Number(board.dataset.percentile);
  const NONE = -1;
  const OUTLINES = ["#8a8a8a", "#000"];
  let ramp, steps, known, maps, opened = 0, picked = 0;

  const asked = (id) => Array.from(form.querySelectorAll(`#${id} input:checked`), (box) => Number(box.value));
  const image = () => Number(new FormData(form).get("image"));
  const single = (at) => known.images[at].second === NONE;

  const boxes = (id, names, checked) => document.querySelector(`#${id} div`).replaceChildren(...names.map((name, at) =>
    make("label", {}, make("input", { type: "checkbox", value: at, checked: checked(at) }), make("span", { text: name }))));
  const options = (select, all) => {
    const before = select.value;
    select.replaceChildren(...all.map(([value, text]) => make("option", { value, text })));
    if (all.some(([value]) => value === before)) select.value = before;
  };

  // Fills a canvas, its pixels as given by a function that returns red, green and blue.
  const paint = (canvas, colour) => {
    const [height, width] = known.shape;
    Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    const pixels = context.createImageData(width, height);
    for (let at = 0; at < width * height; at++) pixels.data.set([...colour(at), 255], 4 * at);
    context.putImageData(pixels, 0, 0);
    return canvas;
  };
  const picture = (at) => {
    const start = at * known.shape[0] * known.shape[1];
    return paint(make("canvas"), (pixel) => known.pixels.subarray(3 * (start + pixel), 3 * (start + pixel) + 3));
  };
  // Strokes along the border of an object, between its pixels and the others.
  const outline = (context, slot, at, zoom, colour) => {
    const [height, width] = known.shape;
    const start = (2 * at + slot) * height * width;
    const inside = (y, x) => y >= 0 && x >= 0 && y < height && x < width && known.masks[start + y * width + x] > 0;
    context.strokeStyle = colour;
    context.beginPath();
    for (let y = 0; y <= height; y++) {
      for (let x = 0; x <= width; x++) {
        if (inside(y, x) !== inside(y, x - 1)) { context.moveTo(x * zoom, y * zoom); context.lineTo(x * zoom, (y + 1) * zoom); }
        if (inside(y, x) !== inside(y - 1, x)) { context.moveTo(x * zoom, y * zoom); context.lineTo((x + 1) * zoom, y * zoom); }
      }
    }
    context.stroke();
  };

  // Values of one map, in its own units, or null if there is none.
  const values = (at, loss, method, slot) => {
    const scale = slot < 0 ? null : known.scales[loss][method][at][slot];
    if (scale === null) return null;
    const size = known.shape[0] * known.shape[1];
    const start = ((loss * known.methods.length + method) * known.kept + slot) * size;
    return Array.from(maps.subarray(start, start + size), (step) => step * scale / steps);
  };
  // What is to be shown of a cell: values or the reason why there are none.
  const wanted = (at, loss, method, shown) => {
    if (known.reasons[loss][method]) return `unavailable: ${known.reasons[loss][method]}`;
    const slots = known.explained[loss][at];
    if (shown === "difference") {
      const [first, second] = [0, 1].map((slot) => values(at, loss, method, slot));
      return first && second ? first.map((value, pixel) => value - second[pixel]) : "not finite";
    }
    const slot = shown.startsWith("class-") ? slots.indexOf(Number(shown.slice(6))) : Number(shown);
    if (slot < 0) return "no map of this class is stored";
    return values(at, loss, method, slot) ?? "not finite";
  };
  const draw = (found, at, shown) => {
    const sizes = found.map(Math.abs).sort((a, b) => a - b);
    const scale = sizes[Math.min(sizes.length - 1, Math.floor(sizes.length * PERCENTILE / 100))] || sizes.at(-1);
    const start = at * found.length;
    const canvas = paint(make("canvas"), (pixel) => {
      const step = scale ? Math.round(steps * Math.max(-1, Math.min(1, found[pixel] / scale))) : 0;
      const from = 3 * (step + steps);
      return [0, 1, 2].map((channel) => ramp[from + channel] * known.under[start + pixel] / 255);
    });
    if (!known.masks || shown.startsWith("class-")) return canvas;
    const zoom = 6;
    const large = make("canvas", { width: canvas.width * zoom, height: canvas.height * zoom });
    const context = large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(canvas, 0, 0, large.width, large.height);
    context.lineWidth = zoom / 3;
    const own = shown === "1" ? 1 : 0;
    outline(context, 1 - own, at, zoom, OUTLINES[0]);
    outline(context, own, at, zoom, OUTLINES[1]);
    return large;
  };

  const className = (number) => number === NONE ? "none" : known.classes[number];
  const shownClass = (at, loss, shown) => {
    const [first, second] = known.explained[loss][at].map(className);
    return { 0: first, 1: second, difference: `${first} − ${second}` }[shown] ?? className(Number(shown.slice(6)));
  };
  // The metrics of a category that score an image: some are for scenes, some for single images.
  const scoring = (at, category) => known.metrics.flatMap((metric, place) =>
    (category === "all" || metric.category === category)
      && known.scores.some((row) => row.some((cell) => cell[at][place] !== null)) ? [place] : []);
  const scores = (at, loss, method, places) => {
    const list = make("dl");
    places.forEach((place) => {
      const metric = known.metrics[place], value = known.scores[loss][method][at][place];
      const arrow = { higher: " ↑", lower: " ↓" }[metric.direction] ?? "";
      list.append(make("dt", { text: metric.name + arrow }), make("dd", { text: value === null ? "–" : number(Number(value)) }));
    });
    return list;
  };

  const show = () => {
    const at = image(), shown = field("class").value, category = field("scores").value;
    const losses = asked("explorer-losses"), methods = asked("explorer-methods");
    const places = scoring(at, category);
    const [label, second] = [known.images[at].label, known.images[at].second].map(className);
    told.textContent = single(at)
      ? `Image ${known.images[at].row}, label ${label}; models of seed ${known.seed}.`
      : `Image ${known.images[at].row}, a scene of ${label} and ${second}; models of seed ${known.seed}.`;
    if (category && !places.length) told.textContent += ` No metric of ${category} scores this image.`;
    const head = make("tr", {}, make("td"), ...losses.map((loss) => {
      const predicted = known.predicted[loss][at];
      const right = [known.images[at].label, known.images[at].second].includes(predicted);
      const words = predicted === NONE ? "no model" : `says ${className(predicted)}${right ? "" : " (wrong)"}`;
      return make("th", { scope: "col" }, make("span", { text: known.losses[loss] }), make("small", { text: words, className: right ? "" : "wrong" }));
    }));
    const rows = methods.map((method) => make("tr", {},
      make("th", { scope: "row", text: known.methods[method] + (method >= known.methods.length - known.controls ? " (control)" : "") }),
      ...losses.map((loss) => {
        const found = wanted(at, loss, method, shown);
        const cell = make("td");
        if (typeof found === "string") {
          cell.append(make("p", { text: found, className: "note" }));
          return cell;
        }
        const name = shownClass(at, loss, shown);
        const canvas = draw(found, at, shown);
        canvas.setAttribute("role", "img");
        canvas.setAttribute("aria-label", `map of ${name} by ${known.methods[method]}, ${known.losses[loss]}`);
        cell.append(canvas, make("small", { text: name + (found.some(Boolean) ? "" : ", all zero") }));
        cell.append(scores(at, loss, method, places));
        return cell;
      })));
    board.tHead.replaceChildren(head);
    board.tBodies[0].replaceChildren(...rows);
    board.hidden = !losses.length || !methods.length;
  };

  const classChoices = () => {
    const at = image();
    const [label, second] = [known.images[at].label, known.images[at].second].map(className);
    const pair = single(at)
      ? [["0", `label: ${label}`], ["1", "foil: the class ranked highest among the others"], ["difference", "label − foil"]]
      : [["0", `first: ${label}`], ["1", `second: ${second}`], ["difference", "first − second"]];
    const more = known.kept > 2 ? known.classes.map((name, place) => [`class-${place}`, `class ${name}`]) : [];
    options(field("class"), [...pair, ...more]);
  };
  const pick = async () => {
    const turn = ++picked;
    const found = await unpackBytes(packedText(`maps-${field("dataset").value}-${image()}`));
    // Whoever is quick has picked another image by now.
    if (turn !== picked) return;
    maps = new Int8Array(found.buffer);
    classChoices();
    show();
  };
  const open = async () => {
    const turn = ++opened;
    const found = await unpackJson(packedText(`explorer-${field("dataset").value}`));
    for (const name of ["pixels", "under", "masks"]) found[name] = found[name] && await unpackBytes(found[name]);
    // Whoever is quick has picked another dataset by now.
    if (turn !== opened) return;
    const before = known;
    known = found;
    const named = (id) => new Set(asked(id).map((at) => before[id === "explorer-losses" ? "losses" : "methods"][at]));
    const kept = before && { losses: named("explorer-losses"), methods: named("explorer-methods") };
    boxes("explorer-losses", known.losses, (at) => kept ? kept.losses.has(known.losses[at]) : at < 4);
    const own = known.methods.length - known.controls;
    boxes("explorer-methods", known.methods, (at) => kept ? kept.methods.has(known.methods[at]) : at < Math.min(own, 4));
    const categories = [...new Set(known.metrics.map((metric) => metric.category))];
    options(field("scores"), [...categories.map((name) => [name, name]), ["all", "all"], ["", "none"]]);
    if (!before && categories.includes("contrastivity")) field("scores").value = "contrastivity";
    images.replaceChildren(...known.images.map((one, at) => {
      const name = single(at) ? className(one.label) : `${className(one.label)} and ${className(one.second)}`;
      const button = make("input", { type: "radio", name: "image", value: at, checked: at === 0 });
      button.setAttribute("aria-label", `image ${one.row}: ${name}`);
      return make("label", { title: `image ${one.row}: ${name}` }, button, picture(at));
    }));
    await pick();
  };

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", (event) => {
    const { name } = event.target;
    if (name === "dataset") open();
    else if (name === "image") pick();
    else show();
  });
  for (const button of form.querySelectorAll("button[data-boxes]")) {
    button.addEventListener("click", () => {
      for (const box of form.querySelectorAll(`#${button.dataset.boxes} input`)) box.checked = button.value === "all";
      show();
    });
  }
  whenSeen([document.getElementById("explorer")], async () => {
    ramp = await unpackBytes(board.dataset.colours);
    steps = (ramp.length / 3 - 1) / 2;
    form.hidden = false;
    await open();
  });
}
