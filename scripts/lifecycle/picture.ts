/**
 * The picture of the states of a task. What is drawn follows from src/domain/task-state.ts: which states there are, what
 * each looks like, which frames they stand in, and every arrow. Only where things lie on the page is decided here, and a
 * way that has no place on it is an error.
 */
import type { TaskState } from "../../gen/lf/a2a/v1/a2a_pb.ts";
import {
  EngineState,
  engineStateName,
  isClaimable,
  isLeased,
  mayGo,
  stateName,
  TRANSITIONS,
} from "../../src/domain/task-state.ts";
import { STYLE } from "./style.ts";
import { type Arrows, box, element, line, type Point, text } from "./svg.ts";
import { NEW, requireAllWays, type Ways } from "./ways.ts";

const { QUEUED, WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED, REJECTED, AUTH_REQUIRED, ASSIGNED, SCHEDULED } =
  EngineState;

const WIDTH = 1000;
const HEIGHT = 610;

interface Place {
  at: Point;
  width: number;
  /** What is told below the name. */
  about: string;
}

const PLACES: Record<EngineState, Place> = {
  [SCHEDULED]: { at: [152, 222], width: 132, about: "not yet due" },
  [QUEUED]: { at: [152, 326], width: 132, about: "waits for room" },
  [ASSIGNED]: { at: [358, 274], width: 132, about: "goes to its agent" },
  [WORKING]: { at: [572, 274], width: 126, about: "the agent works" },
  [INPUT_REQUIRED]: { at: [672, 184], width: 164, about: "waits for its client" },
  [AUTH_REQUIRED]: { at: [672, 364], width: 164, about: "waits, and listens" },
  [COMPLETED]: { at: [892, 186], width: 134, about: "done" },
  [FAILED]: { at: [892, 254], width: 134, about: "could not be done" },
  [CANCELED]: { at: [892, 322], width: 134, about: "no longer wanted" },
  [REJECTED]: { at: [892, 390], width: 134, about: "its agent declined" },
};

const BOX_HEIGHT = 50;

// --- what a state looks like, by what the domain says of it

type Look = "leased" | "claimable" | "client" | "ended";

function lookOf(state: EngineState): Look {
  if (TRANSITIONS.get(state)?.length === 0) return "ended";
  return isLeased(state) ? "leased" : isClaimable(state) ? "claimable" : "client";
}

const LOOKS: Record<Look, { radius: number; meaning: string }> = {
  leased: { radius: 8, meaning: "one replica holds it, by a lease" },
  claimable: { radius: BOX_HEIGHT / 2, meaning: "nobody holds it: a replica claims it" },
  client: { radius: BOX_HEIGHT / 2, meaning: "nobody holds it: its client is to speak" },
  ended: { radius: 2, meaning: "it has ended: nothing follows" },
};

const STATES = [...TRANSITIONS.keys()];
const isEnd = (state: EngineState): boolean => lookOf(state) === "ended";
/** Clients do not know it: they see another. */
const isHidden = (state: EngineState): boolean => stateName(state as number as TaskState) !== engineStateName(state);

// --- frames

interface Frame {
  states: readonly EngineState[];
  from: Point;
  to: Point;
}

const UNSEEN: Frame = { states: STATES.filter(isHidden), from: [56, 118], to: [440, 412] };
const WAITING: Frame = { states: STATES.filter(isClaimable), from: [72, 166], to: [232, 376] };
const SEEN: Frame = {
  states: STATES.filter((state) => !isHidden(state) && !isEnd(state)),
  from: [494, 118],
  to: [764, 412],
};
const ENDS = STATES.filter(isEnd);

function frame({ from, to }: Frame, style: string): string {
  const [width, height] = [to[0] - from[0], to[1] - from[1]];
  return element("rect", { x: from[0], y: from[1], width, height, rx: 14, class: `frame ${style}` });
}

// --- ways

interface Track extends Ways {
  style: "on" | "again" | "end";
  lines: readonly { points: readonly Point[]; arrows?: Arrows }[];
}

const top = (state: EngineState, shift = 0): Point => edge(state, shift, -BOX_HEIGHT / 2);
const bottom = (state: EngineState, shift = 0): Point => edge(state, shift, BOX_HEIGHT / 2);
const left = (state: EngineState): Point => edge(state, -PLACES[state].width / 2, 0);
const right = (state: EngineState): Point => edge(state, PLACES[state].width / 2, 0);

function edge(state: EngineState, dx: number, dy: number): Point {
  const [x, y] = PLACES[state].at;
  return [x + dx, y + dy];
}

/** Where lines run side by side: above and below all frames, and on both sides of the ends. */
const RAIL = { above: 88, again: 446, below: 482, before: 796, behind: 974 };

/** From a rail on one side to each of some states; the last one is where the rail itself ends. */
const branches = (x: number, to: readonly EngineState[], side: (state: EngineState) => Point, from: -1 | 1) =>
  to.map((state) => {
    const [endX, y] = side(state);
    const points: Point[] = [
      [x, y + from * 24],
      [x, y],
      [endX, y],
    ];
    return { points };
  });

const failures = ENDS.filter((state) => WAITING.states.every((from) => mayGo(from, state)));

const TRACKS: readonly Track[] = [
  {
    from: [NEW],
    to: UNSEEN.states,
    style: "on",
    lines: [
      {
        points: [
          [26, 274],
          [UNSEEN.from[0], 274],
        ],
      },
    ],
  },
  { from: WAITING.states, to: [ASSIGNED], style: "on", lines: [{ points: [[WAITING.to[0], 274], left(ASSIGNED)] }] },
  { from: [ASSIGNED], to: SEEN.states, style: "on", lines: [{ points: [right(ASSIGNED), [SEEN.from[0], 274]] }] },
  {
    from: SEEN.states.filter(isLeased),
    to: WAITING.states,
    style: "again",
    lines: [
      { points: [bottom(AUTH_REQUIRED), [672, RAIL.again], [170, RAIL.again], [170, WAITING.to[1]]] },
      { points: [bottom(WORKING, -34), [538, RAIL.again], [526, RAIL.again]], arrows: "none" },
    ],
  },
  {
    from: [ASSIGNED],
    to: WAITING.states,
    style: "again",
    lines: [{ points: [bottom(ASSIGNED), [358, RAIL.again], [346, RAIL.again]], arrows: "none" }],
  },
  {
    from: [ASSIGNED],
    to: ENDS,
    style: "end",
    lines: [
      {
        points: [
          top(ASSIGNED),
          [358, RAIL.above],
          [RAIL.before, RAIL.above],
          [RAIL.before, PLACES[ENDS.at(-1)!].at[1]],
          left(ENDS.at(-1)!),
        ],
      },
      ...branches(RAIL.before, ENDS.slice(0, -1), left, -1),
    ],
  },
  {
    from: SEEN.states,
    to: ENDS,
    style: "end",
    lines: [
      {
        points: [
          [SEEN.to[0], 138],
          [RAIL.before, 138],
          [RAIL.before, 170],
        ],
        arrows: "none",
      },
    ],
  },
  {
    from: WAITING.states,
    to: failures,
    style: "end",
    lines: [
      {
        points: [
          [126, WAITING.to[1]],
          [126, RAIL.below],
          [RAIL.behind, RAIL.below],
          [RAIL.behind, PLACES[failures[0]!].at[1]],
          right(failures[0]!),
        ],
      },
      ...branches(RAIL.behind, failures.slice(1), right, 1),
    ],
  },
];

/** The lines inside of the frames, by the two states that each joins. */
const JOINED: readonly (readonly [EngineState, EngineState, readonly Point[]])[] = [
  [SCHEDULED, QUEUED, [bottom(SCHEDULED), top(QUEUED)]],
  [WORKING, INPUT_REQUIRED, [top(WORKING, -20), [552, 184], left(INPUT_REQUIRED)]],
  [WORKING, AUTH_REQUIRED, [bottom(WORKING, -8), [564, 364], left(AUTH_REQUIRED)]],
  [INPUT_REQUIRED, AUTH_REQUIRED, [bottom(INPUT_REQUIRED), top(AUTH_REQUIRED)]],
];

function join([a, b, points]: (typeof JOINED)[number]): string {
  const [there, back] = [mayGo(a, b), mayGo(b, a)];
  return line(points, "on", there && back ? "both" : there ? "last" : "first");
}

const itself = STATES.filter((state) => mayGo(state, state));

function requireWholePicture(): void {
  const joined = JOINED.flatMap(([a, b]) => [
    { from: [a], to: [b] },
    { from: [b], to: [a] },
  ]);
  const ways = joined.filter(({ from, to }) => mayGo(from[0]!, to[0]!));
  requireAllWays("scripts/lifecycle/picture.ts", [...TRACKS, ...ways, { from: itself, to: "itself" }]);
}

// --- the page

/** The picture as a file. */
export function lifecyclePicture(): string {
  requireWholePicture();
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    width: WIDTH,
    height: HEIGHT,
    role: "img",
    "aria-labelledby": "title about",
  };
  const parts = [
    "<!-- Drawn by scripts/draw-lifecycle.ts from src/domain/task-state.ts. Change those, not this file. -->",
    element("title", { id: "title" }, "The states of a task"),
    element("desc", { id: "about" }, inWords()),
    element("style", {}, STYLE),
    element("rect", { x: 0.5, y: 0.5, width: WIDTH - 1, height: HEIGHT - 1, rx: 12, class: "page" }),
    ...[UNSEEN, SEEN].map((each) => frame(each, "a2a")),
    frame(WAITING, "waiting"),
    ...TRACKS.flatMap(({ lines, style }) => lines.map(({ points, arrows }) => line(points, style, arrows))),
    ...JOINED.map(join),
    element("circle", { cx: 22, cy: 274, r: 7, class: "start" }),
    ...itself.map((state) => loop(top(state, PLACES[state].width / 2 - 36))),
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
  ["claimed", [262, 264], "about"],
  ["taken up", [458, 264], "about"],
  ["the agent ends it, its client cancels it, or its time is up", [620, RAIL.above - 9], "about"],
  ["the attempt failed, and there may be another", [352, RAIL.again + 18], "about"],
  ["its client cancels it, or its send was not acknowledged", [720, RAIL.below - 9], "about"],
];

function legend(): string[] {
  const [y, gap] = [536, 38];
  const looks = Object.entries(LOOKS) as [Look, (typeof LOOKS)[Look]][];
  return [
    element("path", { class: "rule", d: `M28 ${y - 26}H${WIDTH - 28}` }),
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
