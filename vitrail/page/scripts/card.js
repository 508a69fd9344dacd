// What the model is: facts that its record states, and its classes.

import { percent } from "./bars.js";

export function showCard({ card, facts, count, classes }, model) {
  facts.replaceChildren(...linesOf(model).flatMap(([name, value]) => [cell("dt", name), cell("dd", value)]));
  count.textContent = `${model.classes.length.toLocaleString("en")} classes`;
  classes.replaceChildren(...model.classes.map((name) => cell("li", name)));
  card.hidden = false;
}

function linesOf(model) {
  const { channels, height, width } = model.input;
  return [
    ["Model", model.name],
    ["Architecture", model.architecture],
    ["Input", `${width} x ${height} px, ${channels === 1 ? "grey" : "colour"}`],
    ["Answers", model.scores === "sigmoid" ? "several classes may be true" : "one class"],
    ["Computed by", `${model.engine}, ${model.precision}`],
    ...accuracies(model.metrics ?? {}),
  ].filter(([, value]) => value);
}

// metrics: {split: {top1, top1_interval: [low, high], n}}
function accuracies(metrics) {
  return Object.entries(metrics)
    .filter(([, found]) => typeof found?.top1 === "number")
    .map(([split, { top1, top1_interval: ci, n }]) => {
      const interval = Array.isArray(ci) ? ` (95 % CI ${percent(ci[0])} to ${percent(ci[1])})` : "";
      return [`Accuracy, ${split}`, `${percent(top1)}${interval}${n ? `, n = ${n}` : ""}`];
    });
}

function cell(tag, text) {
  const found = document.createElement(tag);
  found.textContent = text;
  return found;
}
