// What a drop brings. A folder comes as a file that can't be read, and on some systems as an empty one.
const IS_FOLDER = "it is a folder. Drop its films, or a ZIP of it";

// In the place of what can't be read: a row that says why.
export const unreadable = (name, error) => ({ name, size: 1, open: () => Promise.reject(error) });

// The files of a `DataTransfer`, and what stands for each folder.
export function dropped({ files, items }) {
  const entries = [...(items ?? [])].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.());
  return [...files].map((file, n) => (entries[n]?.isDirectory ? unreadable(file.name, new Error(IS_FOLDER)) : file));
}
