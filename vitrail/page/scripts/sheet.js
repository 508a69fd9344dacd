// The images and what the model says of each.

import { bars, percent } from "./bars.js";
import { reasonOf } from "./errors.js";

const TINY_PX = 64;

export class Item {
  // source: what the image is called; top: [{label, score}], best first; error: why there is none
  constructor(file, source) {
    this.file = file;
    this.source = source;
    this.url = URL.createObjectURL(file);
    this.overlay = "";
    this.element = document.createElement("li");
    this.element.className = "item";
    this.image = document.createElement("img");
    this.said = div("said");
    const frame = div("frame");
    frame.append(this.image);
    this.element.append(frame, this.said);
    this.image.decoding = "async";
    this.image.addEventListener("load", () => {
      this.image.classList.toggle("tiny", this.image.naturalWidth <= TINY_PX);
    });
    this.wait();
  }

  wait() {
    this.top = [];
    this.error = "";
    this.isDone = false;
    this.image.src = this.url;
    this.image.alt = this.source;
    this.show(text("p", "waiting", "waiting ..."));
  }

  answered(top, explain) {
    this.top = top;
    this.isDone = true;
    this.show(bars(top), ...(explain ? [this.button(explain)] : []));
  }

  failed(error) {
    this.error = reasonOf(error);
    this.isDone = true;
    this.show(text("p", "problem", `No answer: ${this.error}`));
  }

  // In words, for those who hear the page.
  get sentence() {
    if (this.error) return `${this.source}: ${this.error}`;
    return `${this.source}: ${this.top[0].label}, ${percent(this.top[0].score)}`;
  }

  show(...parts) {
    this.said.replaceChildren(text("h3", "", this.source), ...parts);
  }

  // explain(item) -> Blob
  button(explain) {
    const button = text("button", "explain", "Explain");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.setAttribute("aria-label", `Explain ${this.source}`);
    button.addEventListener("click", () => this.toggle(button, explain));
    return button;
  }

  async toggle(button, explain) {
    if (button.getAttribute("aria-pressed") === "true") {
      this.plain(button);
      return;
    }
    button.setAttribute("aria-busy", "true");
    try {
      this.forget();
      this.overlay = URL.createObjectURL(await explain(this));
      this.image.src = this.overlay;
      this.image.alt = `${this.source} with the areas that speak for ${this.top[0].label}`;
      button.setAttribute("aria-pressed", "true");
    } catch (error) {
      this.said.append(text("p", "problem", reasonOf(error)));
    }
    button.removeAttribute("aria-busy");
  }

  plain(button) {
    this.image.src = this.url;
    this.image.alt = this.source;
    button.setAttribute("aria-pressed", "false");
  }

  forget() {
    if (this.overlay) URL.revokeObjectURL(this.overlay);
    this.overlay = "";
  }

  remove() {
    this.forget();
    URL.revokeObjectURL(this.url);
    this.element.remove();
  }
}

const ORDERS = {
  added: () => 0,
  unsure: (one, other) => (one.top[0]?.score ?? 2) - (other.top[0]?.score ?? 2),
  class: (one, other) => (one.top[0]?.label ?? "\uffff").localeCompare(other.top[0]?.label ?? "\uffff"),
};

// order: a key of ORDERS; equal ones stay as they were added
export function ordered(items, order) {
  return [...items].sort(ORDERS[order]);
}

function div(name) {
  return text("div", name, "");
}

function text(tag, name, content) {
  const found = document.createElement(tag);
  found.className = name;
  found.textContent = content;
  return found;
}
