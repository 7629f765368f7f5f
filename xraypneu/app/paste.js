// An image from the clipboard, such as a screenshot, is a film like any other.
import { placeOf } from "./keys.js";

const ENDINGS = {
  "image/png": "png",
  "image/jpeg": "jpg",
  "image/webp": "webp",
  "image/bmp": "bmp",
  "image/tiff": "tif",
};

const two = (n) => String(n).padStart(2, "0");

// The files of a clipboard; a bare image, which browsers all name image.png, is named by the time.
export function pasted(files, now) {
  return [...files].map((file) => {
    const ending = ENDINGS[file.type];
    if (!ending || !/^image\.\w+$/.test(file.name)) return file;
    const time = [now.getHours(), now.getMinutes(), now.getSeconds()].map(two).join("");
    return new File([file], `pasted-${time}.${ending}`, { type: file.type });
  });
}

// Whether a paste puts text into a field: with the text that Excel and Word copy comes its picture.
const isText = (e) => placeOf(e.target) === "typed" && e.clipboardData.types.includes("text/plain");

// Call `take` with the files of each paste; text that is pasted into a field stays there. Returns how to stop.
export function listenToPaste(target, take) {
  const paste = (e) => {
    const files = e.clipboardData?.files ?? [];
    if (!files.length || isText(e) || document.querySelector("dialog[open]")) return;
    e.preventDefault();
    take(pasted(files, new Date()));
  };
  target.addEventListener("paste", paste);
  return () => target.removeEventListener("paste", paste);
}
