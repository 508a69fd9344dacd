// The best classes of one image as bars.

export function percent(score) {
  return `${(100 * score).toFixed(1)}\u00a0%`;
}

// top: [{label, score}]
export function bars(top) {
  const list = document.createElement("ol");
  list.className = "bars";
  list.append(...top.map(line));
  return list;
}

function line({ label, score }) {
  const item = document.createElement("li");
  const bar = part("bar", "");
  bar.style.setProperty("--share", `${100 * Math.min(1, Math.max(0, score))}%`);
  bar.setAttribute("aria-hidden", "true");
  item.append(part("label", label), " ", part("share", percent(score)), bar);
  return item;
}

function part(name, text) {
  const found = document.createElement("span");
  found.className = name;
  found.textContent = text;
  return found;
}
