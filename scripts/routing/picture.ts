/** The outcomes of the simulation as a picture: for each scenario and way to choose, a line from the median to p99. */
import { chooserName, type Results, SEED, shown } from "../../bench/simulation/results.ts";
import type { Outcome } from "../../bench/simulation/simulate.ts";
import { BASE_STYLE } from "../drawing/style.ts";
import { element, type Point, text } from "../drawing/svg.ts";

const STYLE = `${BASE_STYLE.trimEnd()}
.small{font-size:11px;fill:var(--faint)}
.grid{stroke:var(--rim);stroke-width:1}
.span{stroke-width:3;stroke-linecap:round;opacity:.45}
.strategy{stroke:var(--blue);fill:var(--blue)}
.random{stroke:var(--red);fill:var(--red)}
.hindsight{stroke:var(--green);fill:var(--green)}
.median{fill:var(--page);stroke-width:1.8}
`;

const PANEL = { width: 480, height: 310, columns: 2 };
const HEADER = 92;
const ROW = 22;
/** Where a panel's axis lies, from the panel's corner. */
const AXIS = { left: 146, right: 348, top: 40 };
/** Ends of the axis, which is logarithmic. */
const TIMES = { fromMs: 100, toMs: 64_000 };
const MARKS: readonly (readonly [ms: number, label: string])[] = [
  [100, "0.1 s"],
  [1_000, "1 s"],
  [10_000, "10 s"],
];

/** The picture as a file. */
export function simulationPicture(results: readonly Results[]): string {
  const width = PANEL.width * PANEL.columns;
  const height = HEADER + PANEL.height * Math.ceil(results.length / PANEL.columns);
  const about = results
    .map(
      ({ scenario, outcomes }) =>
        `${scenario.name}: ${outcomes.map(({ chooser, outcome }) => `${chooserName(chooser)} ${shown(outcome).p99}`).join(", ")}`,
    )
    .join("; ");
  const parts = [
    "<!-- Drawn by scripts/draw-routing.ts from bench/simulation. Change those, not this file. -->",
    element("title", { id: "title" }, "What comes of each strategy, simulated"),
    element("desc", { id: "about" }, `p99 of the time to a task's end. ${about}.`),
    element("style", {}, STYLE),
    element("rect", { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 12, class: "page" }),
    text("What comes of each strategy, simulated", [28, 44], "title", "start"),
    text(
      `time to a task's end, logarithmic, and the share of tasks done well; seed ${SEED}`,
      [28, 66],
      "about",
      "start",
    ),
    ...legend([width - 154, 40]),
    ...results.map((result, i) =>
      panel(result, [(i % PANEL.columns) * PANEL.width, HEADER + Math.floor(i / PANEL.columns) * PANEL.height]),
    ),
  ];
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-labelledby": "title about",
  };
  return `${element("svg", attributes, `\n${parts.join("\n")}\n`)}\n`;
}

function panel({ scenario, outcomes }: Results, [x, y]: Point): string {
  const bottom = y + AXIS.top + outcomes.length * ROW;
  return [
    text(scenario.name, [x + 28, y + 22], "name", "start"),
    ...MARKS.flatMap(([ms, label]) => [
      element("path", { class: "grid", d: `M${x + place(ms)} ${y + AXIS.top - 8}V${bottom}` }),
      text(label, [x + place(ms), bottom + 16], "small"),
    ]),
    ...outcomes.map(({ chooser, outcome }, row) => {
      const look = chooser === "RANDOM" ? "random" : chooser === "HINDSIGHT" ? "hindsight" : "strategy";
      return drawRow(chooserName(chooser), look, outcome, [x, y + AXIS.top + row * ROW + 4]);
    }),
  ].join("\n");
}

function drawRow(name: string, look: string, outcome: Outcome, [x, y]: Point): string {
  const [from, to] = [x + place(outcome.p50Ms), x + place(outcome.p99Ms)];
  return [
    text(name, [x + 28, y + 4], "about", "start"),
    ...span(look, from, to, y),
    text(shown(outcome).p99, [to + 9, y + 4], "small", "start"),
    text(shown(outcome).success, [x + PANEL.width - 64, y + 4], "about", "start"),
  ].join("\n");
}

const span = (look: string, from: number, to: number, y: number): string[] => [
  element("path", { class: `span ${look}`, d: `M${from} ${y}H${to}` }),
  element("circle", { cx: from, cy: y, r: 4, class: `${look} median` }),
  element("circle", { cx: to, cy: y, r: 4.5, class: look }),
];

const legend = ([x, y]: Point): string[] => [
  ...span("strategy", x, x + 90, y),
  text("p50", [x, y + 20], "small"),
  text("p99", [x + 90, y + 20], "small"),
];

/** Of a time on a panel's axis. */
function place(ms: number): number {
  const share = Math.log(ms / TIMES.fromMs) / Math.log(TIMES.toMs / TIMES.fromMs);
  return Math.round((AXIS.left + share * (AXIS.right - AXIS.left)) * 10) / 10;
}
