// The page: images in, answers out. What answers is model.js, which each way to show the page has
// its own of; vitrail/page/assets.py says what it exports.

import { startCamera } from "./camera.js";
import { showCard } from "./card.js";
import { csvOf, download } from "./csv.js";
import { reasonOf } from "./errors.js";
import { isImage, nameOf, startDropping, startPasting, startPicking } from "./files.js";
import * as model from "./model.js";
import { Item, ordered } from "./sheet.js";
import { startTheme } from "./theme.js";
import { workers } from "./work.js";

const MOST_IMAGES = 5000;
const AT_A_TIME = 4;

const by = (id) => document.getElementById(id);
const work = workers(AT_A_TIME);
const items = [];
const unasked = []; // until a token is known
let models = [];
let described = null; // a promise that never fails

function say(text) {
  by("status").textContent = text;
}

function chosen() {
  return models[by("model").selectedIndex] ?? models[0];
}

function take(files) {
  const images = files.filter(isImage).slice(0, MOST_IMAGES - items.length);
  const left = files.length - images.length;
  for (const file of images) add(file);
  by("results").hidden = !items.length;
  const note = left ? ` ${left} left out: not an image, or more than ${MOST_IMAGES}.` : "";
  if (images.length || left) say(`${images.length} added.${note}`);
}

function add(file) {
  const item = new Item(file, nameOf(file));
  items.push(item);
  by("sheet").append(item.element);
  work.add(() => answer(item));
}

async function answer(item) {
  await described;
  const asked = chosen();
  try {
    const top = await model.classify(item.file, { model: asked?.name, top: 5 });
    if (asked !== chosen()) return; // it is asked again
    item.answered(top, model.explain && asked?.explains ? explained : null);
  } catch (error) {
    if (error.name === "TokenError" && askForToken()) {
      unasked.push(item);
      return;
    }
    item.failed(error);
  }
  tell(item);
}

function again(some) {
  for (const item of some) {
    item.wait();
    work.add(() => answer(item));
  }
}

function explained(item) {
  return model.explain(item.file, { model: chosen().name, method: by("method").value });
}

function tell(item) {
  const done = items.filter(({ isDone }) => isDone).length;
  if (items.length === 1) say(item.sentence);
  else say(`${done} of ${items.length} images done.`);
  if (done === items.length && by("order").value !== "added") order();
}

function order() {
  by("sheet").append(...ordered(items, by("order").value).map(({ element }) => element));
}

function clear() {
  work.clear();
  for (const item of items.splice(0)) item.remove();
  by("results").hidden = true;
  say("The results are cleared.");
  by("pick").focus();
}

function save() {
  download("predictions.csv", csvOf(items.filter(({ isDone }) => isDone)));
}

// Whether it will be asked for.
function askForToken() {
  if (!model.setToken) return false;
  if (!by("token-dialog").open) by("token-dialog").showModal();
  return true;
}

function useToken() {
  const text = by("token").value.trim();
  by("token").value = "";
  if (!text) {
    for (const item of unasked.splice(0)) item.failed(new Error("the token is missing"));
    say("Without a token the server does not answer. Load the page again to enter it.");
    return;
  }
  model.setToken(text);
  described = describe();
  again(unasked.splice(0));
}

function useModel() {
  showModel();
  work.clear();
  again(items);
}

function showModel() {
  const { name, methods = [] } = chosen();
  document.title = by("title").textContent = name;
  const parts = { card: by("card"), facts: by("card-facts"), count: by("card-count"), classes: by("card-classes") };
  showCard(parts, chosen());
  by("method").replaceChildren(...methods.map((text) => new Option(text)));
  by("method-choice").hidden = !methods.length || !model.explain;
  by("no-explain").hidden = methods.length > 0 || !model.explain;
}

async function describe() {
  try {
    models = await model.describe(say);
  } catch (error) {
    if (error.name === "TokenError") askForToken();
    else say(`The model cannot be shown: ${reasonOf(error)}.`);
    return;
  }
  by("model").replaceChildren(...models.map(({ name }) => new Option(name)));
  by("model-choice").hidden = models.length < 2;
  showModel();
}

by("promise").textContent = model.PROMISE;
by("model").addEventListener("change", useModel);
by("order").addEventListener("change", order);
by("clear").addEventListener("click", clear);
by("csv").addEventListener("click", save);
by("token-dialog").addEventListener("close", useToken);
startTheme(by("theme"));
startPicking([by("pick"), by("pick-folder"), by("pick-photo")], take);
startDropping(by("drop"), take);
startPasting(take);
startCamera(
  { button: by("camera"), dialog: by("camera-dialog"), view: by("camera-view"), shot: by("camera-shot"), close: by("camera-close") },
  take,
  say,
);
described = describe();
