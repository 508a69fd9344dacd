// model.js of `vitrail serve`: the server that the page came from classifies and explains.
// The token stays in this variable: it is written nowhere.

import { TokenError } from "./errors.js";

export const PROMISE = "Images are sent to the server of this page. It keeps none of them.";
const TRIES = 6;
let token = "";

export function setToken(text) {
  token = text;
}

export async function describe() {
  return (await asked("v1/models")).json();
}

export async function classify(file, { model, top = 5 }) {
  return (await sent("v1/classify", file, { model, top })).json();
}

export async function explain(file, { model, method }) {
  return (await sent("v1/explain", file, { model, method }, { Accept: "image/png" })).blob();
}

function sent(path, file, query, headers = {}) {
  const kind = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  return asked(`${path}?${new URLSearchParams(given)}`, {
    method: "POST",
    body: file,
    headers: { ...headers, "Content-Type": kind },
  });
}

// Where the server has no room it says when to ask again.
async function asked(path, options = {}) {
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  for (let tries = 1; ; tries += 1) {
    const answer = await fetch(path, { ...options, headers });
    if (answer.ok) return answer;
    if (answer.status !== 503 || tries === TRIES) throw await errorOf(answer);
    await pause(Number(answer.headers.get("Retry-After") || 1));
  }
}

async function errorOf(answer) {
  if (answer.status === 401) return new TokenError("the token is missing or wrong");
  const problem = await answer.json().catch(() => ({}));
  const reason = problem.detail || problem.title || `the server answered ${answer.status}`;
  return new Error(problem.code ? `${reason} (${problem.code})` : reason);
}

function pause(secs) {
  return new Promise((done) => setTimeout(done, secs * 1000));
}
