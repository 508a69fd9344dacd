// A table of the results with the columns of `vitrail predict --out preds.csv`.

// results: [{source, top: [{label, score}], error}]
export function csvOf(results) {
  const most = Math.max(1, ...results.map(({ top }) => top.length));
  const more = Array.from({ length: most - 1 }, (_, n) => [`label_${n + 2}`, `score_${n + 2}`]).flat();
  const lines = results.map(({ source, top, error }) => {
    const [first, ...others] = top;
    const rest = others.flatMap(({ label, score }) => [label, score]);
    return [source, first?.label ?? "", first?.score ?? "", error, ...rest];
  });
  const head = ["source", "label", "score", "error", ...more];
  return [head, ...lines].map((cells) => `${cells.map(cell).join(",")}\r\n`).join("");
}

// A spreadsheet would compute a text that begins like a formula.
function cell(value) {
  const text = typeof value === "string" ? value.replace(/^[=+\-@\t\r]/, "'$&") : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function download(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
