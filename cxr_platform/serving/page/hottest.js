// Where in a heatmap the heat is, in words, for those who cannot see it.

const THIRDS = [
  "upper left", "upper middle", "upper right",
  "middle left", "middle", "middle right",
  "lower left", "lower middle", "lower right",
];
const CELL = 8; // pixels along a third; the heatmap is sampled this coarsely

/** The third by third of a loaded heatmap that is least transparent; `null` where all of it is clear. */
export function whereHottest(image) {
  const side = 3 * CELL;
  const canvas = Object.assign(document.createElement("canvas"), { width: side, height: side });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, side, side);
  const heat = new Array(9).fill(0);
  const { data } = context.getImageData(0, 0, side, side);
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    const row = Math.floor(pixel / side / CELL);
    const column = Math.floor((pixel % side) / CELL);
    heat[3 * row + column] += data[4 * pixel + 3]; // alpha
  }
  const most = Math.max(...heat);
  return most > 0 ? THIRDS[heat.indexOf(most)] : null;
}
