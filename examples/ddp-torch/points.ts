/** Number of points to learn from. */
export const POINTS = 480;
export const FEATURES = 6;
export const CLASSES = 3;

/** Coordinates of a point, from -1 to 1; trainer.py makes the same ones. */
export function point(index: number): Float32Array {
  return Float32Array.from({ length: FEATURES }, (_, i) => ((index * (2 * i + 3) * 37) % 101) / 50 - 1);
}

/** Its class: the largest of three functions of the coordinates. */
export function classOf([a = 0, b = 0, c = 0, d = 0, e = 0, f = 0]: Float32Array): number {
  const scores = [a + b, c - d, 2 * e * f];
  return scores.indexOf(Math.max(...scores));
}
