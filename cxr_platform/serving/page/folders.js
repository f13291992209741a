// What was dropped, as files: folders are opened, and what lies below them is taken too.

/** Promises the files of a drop; to be called within its event, after which the browser forgets what was dropped. */
export async function filesOf(transfer) {
  const dropped = Array.from(transfer.items, (item) => item.webkitGetAsEntry?.());
  if (!dropped.some((entry) => entry?.isDirectory)) return Array.from(transfer.files);
  return (await Promise.all(dropped.filter(Boolean).map(filesBelow))).flat();
}

async function filesBelow(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const below = await Promise.all((await entriesOf(entry)).map(filesBelow));
  return below.flat();
}

/** A folder gives its entries a hundred at a time. */
async function entriesOf(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) return entries.sort((a, b) => a.name.localeCompare(b.name));
    entries.push(...some);
  }
}
