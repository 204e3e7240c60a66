// Unpacking: data lie in the page as base64 of gzip, and are read when somebody looks at them.
"use strict";
const unpacked = (text) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip")));
};
const packedText = (id) => document.getElementById(id).textContent.trim();
const unpackJson = (text) => unpacked(text).json();
const unpackBytes = async (text) => new Uint8Array(await unpacked(text).arrayBuffer());

// Calls what an element is for once, when it is about to be seen.
const whenSeen = (elements, call) => {
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      watcher.unobserve(entry.target);
      call(entry.target);
    }
  }, { rootMargin: "800px" });
  elements.forEach((element) => watcher.observe(element));
};

// An element with a class, a text and children, never with markup from data.
const make = (tag, { text = "", ...properties } = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  if (text) element.textContent = text;
  element.append(...children);
  return element;
};
const number = (value) => String(Number(value.toPrecision(3))).replace("Infinity", "∞").replaceAll("-", "−");
