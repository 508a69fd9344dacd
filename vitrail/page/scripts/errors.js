// What a person is told when something fails.

export class TokenError extends Error {
  name = "TokenError";
}

export function reasonOf(error) {
  if (error instanceof TypeError) return "the server cannot be reached";
  if (error.name === "NotReadableError") return "the file cannot be read any more";
  return error.message || String(error);
}
