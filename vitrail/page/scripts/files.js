// Where images come from: picked, dropped with folders, pasted.

const ENDINGS = /\.(jpe?g|png|webp|gif|bmp|tiff?|avif|heic|heif|ppm|pgm|jp2|ico)$/i;

export function isImage(file) {
  return file.type.startsWith("image/") || (!file.type && ENDINGS.test(file.name)) || /\.(tiff?|ppm|pgm|jp2)$/i.test(file.name);
}

export function nameOf(file) {
  return file.path || file.webkitRelativePath || file.name;
}

export function startPicking(inputs, take) {
  for (const input of inputs) {
    input.addEventListener("change", () => {
      take([...input.files]);
      input.value = ""; // so that the same file can be picked again
    });
  }
}

export function startDropping(zone, take) {
  const over = (is) => zone.classList.toggle("over", is);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", (event) => over(event.relatedTarget !== null));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    over(false);
    take(await dropped(event.dataTransfer));
  });
}

export function startPasting(take) {
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) take(files);
  });
}

// Entries have to be taken before the first await: the browser forgets them after the event.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [...transfer.files];
  if (!entries.some((entry) => entry.isDirectory)) return files;
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.isFile) {
    const file = await new Promise((done, fail) => entry.file(done, fail)).catch(() => null);
    if (file) file.path = entry.fullPath.slice(1);
    return file ? [file] : [];
  }
  const found = [];
  for (const one of await entriesOf(entry)) found.push(...(await filesIn(one)));
  return found;
}

// A folder is read in parts of at most 100, until a part is empty.
async function entriesOf(folder) {
  const reader = folder.createReader();
  const all = [];
  for (;;) {
    const part = await new Promise((done, fail) => reader.readEntries(done, fail)).catch(() => []);
    if (!part.length) return all;
    all.push(...part);
  }
}
