/** Writes the few kinds of SVG elements that pictures are made of. */

export type Point = readonly [x: number, y: number];

/** Radius of the bends of a line, and the size of its arrowhead. */
const BEND = 12;
const HEAD = { length: 9, width: 9 };

/** An element; `inside` is markup. */
export function element(name: string, attributes: Record<string, string | number>, inside?: string): string {
  const written = Object.entries(attributes)
    .map(([key, value]) => ` ${key}="${value}"`)
    .join("");
  return inside === undefined ? `<${name}${written}/>` : `<${name}${written}>${inside}</${name}>`;
}

/** Text whose baseline begins at a point, or has its middle there. */
export function text(said: string, [x, y]: Point, style: string, anchor: "start" | "middle" = "middle"): string {
  const escaped = said.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return element("text", { x, y, class: style, "text-anchor": anchor }, escaped);
}

/** A box around its middle. */
export function box([x, y]: Point, width: number, height: number, radius: number, style: string): string {
  return element("rect", { x: x - width / 2, y: y - height / 2, width, height, rx: radius, class: style });
}

/** Which ends of a line have arrowheads. */
export type Arrows = "first" | "last" | "both" | "none";

/** A line with round bends. */
export function line(points: readonly Point[], style: string, arrows: Arrows = "last"): string {
  const shaft = [...points];
  const heads: string[] = [];
  /** A shaft ends inside of its head, so that the tip is the head's alone. */
  function addHead(at: number, from: number): void {
    const [tip, before] = [points.at(at)!, points.at(from)!];
    const base = towards(tip, before, HEAD.length);
    heads.push(element("path", { class: `head ${style}`, d: triangle(tip, base) }));
    shaft[at < 0 ? shaft.length + at : at] = towards(tip, before, HEAD.length - 1);
  }
  if (arrows === "last" || arrows === "both") addHead(-1, -2);
  if (arrows === "first" || arrows === "both") addHead(0, 1);
  const steps = shaft.slice(1).map((point, i) => {
    const next = shaft[i + 2];
    if (!next) return `L${place(point)}`;
    return `L${place(towards(point, shaft[i]!, BEND))}Q${place(point)} ${place(towards(point, next, BEND))}`;
  });
  return [element("path", { class: `line ${style}`, d: `M${place(shaft[0]!)}${steps.join("")}` }), ...heads].join("\n");
}

function triangle(tip: Point, base: Point): string {
  const half = HEAD.width / 2 / HEAD.length;
  const [dx, dy] = [(tip[0] - base[0]) * half, (tip[1] - base[1]) * half];
  return `M${place(tip)}L${place([base[0] - dy, base[1] + dx])}L${place([base[0] + dy, base[1] - dx])}Z`;
}

/** The point so far from one towards another. */
function towards([x, y]: Point, [toX, toY]: Point, distance: number): Point {
  const share = distance / Math.hypot(toX - x, toY - y);
  return [x + (toX - x) * share, y + (toY - y) * share];
}

const place = ([x, y]: Point): string => `${round(x)} ${round(y)}`;

const round = (value: number): number => Math.round(value * 10) / 10;
