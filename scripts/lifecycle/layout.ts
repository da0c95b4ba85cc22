/**
 * Where the states of a task and the ways between them lie in the picture. That there are all of them, and no others, is
 * compared with src/domain/task-state.ts: a way that has no place is an error.
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
import type { Arrows, Point } from "../drawing/svg.ts";
import { NEW, requireAllWays, type Ways } from "./ways.ts";

const { QUEUED, WORKING, COMPLETED, FAILED, CANCELED, INPUT_REQUIRED, REJECTED, AUTH_REQUIRED, ASSIGNED, SCHEDULED } =
  EngineState;

/** The whole page. */
export const SIZE = { width: 1000, height: 610 };

interface Place {
  /** The middle of its box. */
  at: Point;
  width: number;
  /** What is told below the name. */
  about: string;
}

/** Where each state has its box. */
export const PLACES: Record<EngineState, Place> = {
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

/** Height of every box. */
export const BOX_HEIGHT = 50;

/** All states, in the order of the table. */
export const STATES = [...TRANSITIONS.keys()];

/** Whether nothing follows. */
export const isEnd = (state: EngineState): boolean => TRANSITIONS.get(state)?.length === 0;
/** Whether clients see another state instead. */
const isHidden = (state: EngineState): boolean => stateName(state as number as TaskState) !== engineStateName(state);

/** A frame stands around states that have something in common; an arrow at it is one for each of them. */
export interface Frame {
  states: readonly EngineState[];
  /** Its upper left corner, and the lower right one. */
  from: Point;
  to: Point;
}

/** What clients see as another state. */
export const UNSEEN: Frame = { states: STATES.filter(isHidden), from: [56, 118], to: [440, 412] };
/** Of those, what waits to be claimed. */
export const WAITING: Frame = { states: STATES.filter(isClaimable), from: [72, 166], to: [232, 376] };
/** What clients see as it is, and what has not ended. */
export const SEEN: Frame = {
  states: STATES.filter((state) => !isHidden(state) && !isEnd(state)),
  from: [494, 118],
  to: [764, 412],
};
const ENDS = STATES.filter(isEnd);

// --- ways

/** Ways that are drawn together. */
export interface Track extends Ways {
  style: "on" | "again" | "end";
  lines: readonly { points: readonly Point[]; arrows?: Arrows }[];
}

/** The middle of an edge of a box, or so far beside it. */
export const top = (state: EngineState, shift = 0): Point => edge(state, shift, -BOX_HEIGHT / 2);
const bottom = (state: EngineState, shift = 0): Point => edge(state, shift, BOX_HEIGHT / 2);
const left = (state: EngineState): Point => edge(state, -PLACES[state].width / 2, 0);
const right = (state: EngineState): Point => edge(state, PLACES[state].width / 2, 0);

function edge(state: EngineState, dx: number, dy: number): Point {
  const [x, y] = PLACES[state].at;
  return [x + dx, y + dy];
}

/** Where lines run side by side: above and below all frames, and on both sides of the ends. */
export const RAIL = { above: 88, approval: 104, again: 446, below: 482, before: 796, behind: 974 };

/** From a rail beside some states to each of them: from above (-1), or from below (1). */
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

/** How a task can end that no agent has heard of. */
const failures = ENDS.filter((state) => WAITING.states.every((from) => mayGo(from, state)));

/** The ways between frames, and between a frame and a state. */
export const TRACKS: readonly Track[] = [
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

/** The lines between two states, within a frame or from one to another. */
export const JOINED: readonly (readonly [EngineState, EngineState, readonly Point[]])[] = [
  [SCHEDULED, QUEUED, [bottom(SCHEDULED), top(QUEUED)]],
  [WORKING, INPUT_REQUIRED, [top(WORKING, -20), [552, 184], left(INPUT_REQUIRED)]],
  [WORKING, AUTH_REQUIRED, [bottom(WORKING, -8), [564, 364], left(AUTH_REQUIRED)]],
  [INPUT_REQUIRED, AUTH_REQUIRED, [bottom(INPUT_REQUIRED), top(AUTH_REQUIRED)]],
  [
    QUEUED,
    INPUT_REQUIRED,
    [right(QUEUED), [250, 326], [250, RAIL.approval], [642, RAIL.approval], top(INPUT_REQUIRED, -30)],
  ],
];

/** The states that may follow themselves. */
export const ITSELF = STATES.filter((state) => mayGo(state, state));

/** Throws unless every way of the domain is drawn, once. */
export function requireAllDrawn(): void {
  const joined = JOINED.flatMap(([a, b]) => [
    { from: [a], to: [b] },
    { from: [b], to: [a] },
  ]);
  const ways = joined.filter(({ from, to }) => mayGo(from[0]!, to[0]!));
  requireAllWays("scripts/lifecycle/layout.ts", [...TRACKS, ...ways, { from: ITSELF, to: "itself" }]);
}
