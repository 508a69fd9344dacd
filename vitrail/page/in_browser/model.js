// model.js of a page without a server: a worker of this page decodes and computes. Images never
// leave the device: the policy of the page forbids every address but its own.

export const PROMISE = "Images stay on this device: this page computes the answers itself and sends nothing.";
const worker = new Worker(new URL("./in_browser/worker.js", import.meta.url), { type: "module" });
const waiting = new Map(); // id -> {done, fail}
const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
let tell = () => {};
let asked = 0;
let about = null;
let broken = null; // why the worker answers no more

const ready = new Promise((done, fail) => {
  worker.onmessage = ({ data }) => {
    if (data.total) tell(`Loading the model: ${megabytes(data.loaded)} of ${megabytes(data.total)} MB.`);
    else if (data.ready) done(data.note);
    else if (data.failed) fail(new Error(data.failed));
    else settle(data);
  };
  worker.onerror = (event) => {
    broken = new Error(event.message || "the scripts of this page cannot be loaded");
    fail(broken);
    for (const one of waiting.values()) one.fail(broken);
    waiting.clear();
  };
});
ready.catch(() => {}); // everybody who waits for it is told

function settle({ id, scores, error }) {
  const { done, fail } = waiting.get(id);
  waiting.delete(id);
  if (error) fail(new Error(error));
  else done(scores);
}

/** say(text): what happens meanwhile. */
export async function describe(say) {
  tell = say;
  about = await (await fetch(new URL("../site.json", import.meta.url), { cache: "no-cache" })).json();
  const note = await ready;
  say(note || "The model is ready.");
  return [about];
}

export async function classify(file, { top = 5 }) {
  await ready;
  if (broken) throw broken;
  const id = (asked += 1);
  const scores = await new Promise((done, fail) => {
    waiting.set(id, { done, fail });
    worker.postMessage({ id, file });
  });
  return best(scores, about.classes, top);
}

/** The best classes of probabilities, of equal ones the earlier first. */
function best(scores, classes, top) {
  const order = scores.map((_, at) => at).sort((one, other) => scores[other] - scores[one] || one - other);
  return order.slice(0, top).map((at) => ({ label: classes[at] ?? String(at), score: scores[at] }));
}

document.getElementById("needs-server")?.remove();
