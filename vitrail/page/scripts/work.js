// Tasks, at most `limit` at a time, in the order in which they came.

export function workers(limit) {
  const waiting = [];
  let running = 0;
  const next = async () => {
    if (running >= limit || !waiting.length) return;
    running += 1;
    await waiting.shift()();
    running -= 1;
    next();
  };
  return {
    add(task) {
      waiting.push(task);
      next();
    },
    clear() {
      waiting.length = 0;
    },
  };
}
