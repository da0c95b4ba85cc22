/**
 * The picture of the states of a task. What each state looks like, which frame it stands in and every arrow follow from
 * src/domain/task-state.ts; layout.ts says where they lie.
 */
import {
  type EngineState,
  engineStateName,
  isClaimable,
  isLeased,
  mayGo,
  TRANSITIONS,
} from "../../src/domain/task-state.ts";
import { box, element, line, type Point, text } from "../drawing/svg.ts";
import {
  BOX_HEIGHT,
  type Frame,
  ITSELF,
  isEnd,
  JOINED,
  PLACES,
  RAIL,
  requireAllDrawn,
  SEEN,
  SIZE,
  STATES,
  TRACKS,
  top,
  UNSEEN,
  WAITING,
} from "./layout.ts";
import { STYLE } from "./style.ts";

type Look = "leased" | "claimable" | "client" | "ended";

function lookOf(state: EngineState): Look {
  if (isEnd(state)) return "ended";
  return isLeased(state) ? "leased" : isClaimable(state) ? "claimable" : "client";
}

const LOOKS: Record<Look, { radius: number; meaning: string }> = {
  leased: { radius: 8, meaning: "one replica holds it, by a lease" },
  claimable: { radius: BOX_HEIGHT / 2, meaning: "nobody holds it: a replica claims it" },
  client: { radius: BOX_HEIGHT / 2, meaning: "nobody holds it: its client is to speak" },
  ended: { radius: 2, meaning: "it has ended: nothing follows" },
};

/** The picture as a file. */
export function lifecyclePicture(): string {
  requireAllDrawn();
  const { width, height } = SIZE;
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-labelledby": "title about",
  };
  const parts = [
    "<!-- Drawn by scripts/draw-lifecycle.ts from src/domain/task-state.ts. Change those, not this file. -->",
    element("title", { id: "title" }, "The states of a task"),
    element("desc", { id: "about" }, inWords()),
    element("style", {}, STYLE),
    element("rect", { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 12, class: "page" }),
    ...[UNSEEN, SEEN].map((each) => frame(each, "a2a")),
    frame(WAITING, "waiting"),
    ...TRACKS.flatMap(({ lines, style }) => lines.map(({ points, arrows }) => line(points, style, arrows))),
    ...JOINED.map(join),
    element("circle", { cx: 22, cy: 274, r: 7, class: "start" }),
    ...ITSELF.map((state) => loop(top(state, PLACES[state].width / 2 - 36))),
    ...STATES.map(drawState),
    ...LABELS.map(([said, at, style, anchor]) => text(said, at, style, anchor)),
    ...legend(),
  ];
  return `${element("svg", attributes, `\n${parts.join("\n")}\n`)}\n`;
}

/** For who cannot see the picture. */
const inWords = (): string =>
  [...TRANSITIONS]
    .map(([from, to]) => {
      const follow = to.length === 0 ? "nothing" : to.map(engineStateName).join(", ");
      return `${engineStateName(from)}: ${follow} may follow.`;
    })
    .join(" ");

function frame({ from, to }: Frame, style: string): string {
  const [width, height] = [to[0] - from[0], to[1] - from[1]];
  return element("rect", { x: from[0], y: from[1], width, height, rx: 14, class: `frame ${style}` });
}

function join([a, b, points]: (typeof JOINED)[number]): string {
  const [there, back] = [mayGo(a, b), mayGo(b, a)];
  return line(points, "on", there && back ? "both" : there ? "last" : "first");
}

function drawState(state: EngineState): string {
  const { at, width, about } = PLACES[state];
  const look = lookOf(state);
  return [
    drawBox(at, width, BOX_HEIGHT, look, engineStateName(state).toLowerCase()),
    text(engineStateName(state), [at[0], at[1] - 3], "name"),
    text(about, [at[0], at[1] + 15], "about"),
  ].join("\n");
}

/** An end has a second line within its first, as the last stop of a line has. */
function drawBox(at: Point, width: number, height: number, look: Look, name: string): string {
  const radius = Math.min(LOOKS[look].radius, height / 2);
  const outer = box(at, width, height, radius, `box ${look} ${name}`);
  return look === "ended" ? outer + box(at, width - 8, height - 8, radius, `inner ${name}`) : outer;
}

/** The arrow of a state that may follow itself: out of its upper edge and back. */
function loop([x, y]: Point): string {
  return [
    element("path", { class: "line on", d: `M${x} ${y}C${x} ${y - 23} ${x + 20} ${y - 23} ${x + 20} ${y - 8}` }),
    element("path", { class: "head on", d: `M${x + 20} ${y}l-4.5 -9h9Z` }),
  ].join("\n");
}

const LABELS: readonly (readonly [string, Point, string, ("start" | "middle")?])[] = [
  ["The states of a task", [28, 44], "title", "start"],
  ["as the engine has them; what clients see stands above the frames", [28, 66], "about", "start"],
  ["clients see SUBMITTED", [72, 140], "frame-name", "start"],
  ["or WORKING, once it was that", [72, 157], "about", "start"],
  ["clients see the same", [510, 140], "frame-name", "start"],
  ["clients see the same", [892, 150], "frame-name"],
  ["new", [34, 258], "about"],
  ["to be approved, and approved", [252, RAIL.approval - 7], "about"],
  ["claimed", [278, 264], "about"],
  ["taken up", [458, 264], "about"],
  ["the agent ends it, its client cancels it, or its time is up", [620, RAIL.above - 9], "about"],
  ["the attempt failed, and there may be another", [352, RAIL.again + 18], "about"],
  ["its client cancels it, or its send was not acknowledged", [720, RAIL.below - 9], "about"],
];

function legend(): string[] {
  const [y, gap] = [536, 38];
  const looks = Object.entries(LOOKS) as [Look, (typeof LOOKS)[Look]][];
  return [
    element("path", { class: "rule", d: `M28 ${y - 26}H${SIZE.width - 28}` }),
    ...looks.flatMap(([look, { meaning }], i) => {
      const at: Point = [52 + (i % 2) * 306, y + Math.floor(i / 2) * gap];
      return [drawBox(at, 44, 24, look, ""), text(meaning, [at[0] + 34, at[1] + 5], "about", "start")];
    }),
    loop([652, y + 9]),
    text("a state that may follow itself", [690, y + 5], "about", "start"),
    element("rect", { x: 642, y: y + gap - 12, width: 40, height: 24, rx: 6, class: "frame waiting" }),
    text("an arrow at a frame is one for each state in it", [694, y + gap + 5], "about", "start"),
  ];
}
